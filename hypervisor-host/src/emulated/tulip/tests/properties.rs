//! Random frames through lists of random shape arrive as they were sent.

use hv_abi::tulip::descriptor::{RX_FL_MASK, RX_FL_SHIFT, RX_FS, RX_LS};
use proptest::prelude::*;

use super::*;
use crate::emulated::tulip::crc::check_sequence;

/// Shape of a list: for each descriptor the sizes of its buffers, and whether it is chained.
type Shape = Vec<(u32, u32, bool)>;

fn shape() -> impl Strategy<Value = Shape> {
    prop::collection::vec((1..600_u32, 0..300_u32, any::<bool>()), 4..40)
}

/// Places of descriptors, 64 bytes apart so that chained ones differ from a ring's next, and of buffers.
fn place(index: usize) -> (u32, u32) {
    (0x4000 + 64 * index as u32, 0x2_0000 + 0x800 * index as u32)
}

fn lay(
    desk: &Desk,
    index: usize,
    last: bool,
    own: u32,
    control: u32,
    (a, b, chain): (u32, u32, bool),
) {
    let (at, buffer) = place(index);
    let end = if last { END_OF_RING } else { 0 };
    let longwords = match chain {
        true => [own, control | end | CHAINED | a, buffer, place(index + 1).0],
        false => [own, control | end | a | b << BUFFER2_SHIFT, buffer, buffer + 0x400],
    };
    desk.raw_descriptor(at, longwords);
}

/// What a descriptor's buffers hold.
fn content(desk: &Desk, index: usize, (a, b, chain): (u32, u32, bool)) -> Vec<u8> {
    let (_, buffer) = place(index);
    let mut bytes = desk.get(buffer, a as usize);
    if !chain {
        bytes.extend(desk.get(buffer + 0x400, b as usize));
    }
    bytes
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = (60..1514_usize, any::<u8>()).prop_map(|(bytes, seed)| {
        let mut frame = frame(MAC, bytes);
        frame.iter_mut().skip(14).for_each(|byte| *byte = byte.wrapping_mul(31) ^ seed);
        frame
    });
    prop::collection::vec(one, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_received_is_what_was_sent(shape in shape(), frames in frames()) {
        let mut desk = Desk::started();
        desk.write(0, 12 << 2);
        desk.write(3, place(0).0);
        let count = shape.len();
        for (index, one) in shape.iter().enumerate() {
            lay(&desk, index, index + 1 == count, OWN, 0, *one);
        }
        desk.write(2, 0);
        let mut at = 0;
        for frame in frames {
            desk.peer.send(&frame).unwrap();
            desk.turn();
            let mut expected = frame.clone();
            expected.extend(check_sequence(&frame));
            let mut bytes = Vec::new();
            let mut cut = false;
            loop {
                let status = desk.status(place(at).0);
                prop_assert_eq!(status & OWN, 0);
                prop_assert_eq!(status & RX_FS != 0, bytes.is_empty());
                bytes.extend(content(&desk, at, shape[at]));
                let (here, one) = (at, shape[at]);
                at = (at + 1) % count;
                if status & RX_LS != 0 {
                    cut = status & hv_abi::tulip::descriptor::RX_DE != 0;
                    let length = (status & RX_FL_MASK) >> RX_FL_SHIFT;
                    prop_assert_eq!(length as usize, expected.len());
                }
                lay(&desk, here, here + 1 == count, OWN, 0, one);
                if status & RX_LS != 0 {
                    break;
                }
            }
            bytes.truncate(expected.len());
            prop_assert_eq!(&bytes[..], &expected[..bytes.len()]);
            prop_assert!(cut || bytes.len() == expected.len());
        }
    }

    #[test]
    fn what_is_sent_is_what_was_in_the_buffers(shape in shape(), frames in frames()) {
        let mut desk = Desk::started();
        desk.write(0, 12 << 2);
        desk.write(4, place(0).0);
        let count = shape.len();
        let mut at = 0;
        for frame in frames {
            let mut rest = &frame[..];
            let mut first = TX_FS;
            let mut room = count - 1;
            while !rest.is_empty() && room > 0 {
                let (mut a, mut b, chain) = shape[at];
                a = a.min(rest.len() as u32);
                if room == 1 {
                    break;
                }
                let (now, then) = rest.split_at(a as usize);
                desk.put(place(at).1, now);
                b = if chain { 0 } else { b.min(then.len() as u32) };
                let (now, then) = then.split_at(b as usize);
                desk.put(place(at).1 + 0x400, now);
                let last = if then.is_empty() { TX_LS } else { 0 };
                lay(&desk, at, at + 1 == count, OWN, first | last, (a, b, chain));
                (rest, first, at, room) = (then, 0, (at + 1) % count, room - 1);
            }
            desk.raw_descriptor(place(at).0, [0; 4]);
            desk.write(1, 0);
            desk.turn();
            if rest.is_empty() {
                prop_assert_eq!(desk.sent(), Some(frame));
            } else {
                prop_assert_eq!(desk.sent(), None);
            }
        }
    }
}
