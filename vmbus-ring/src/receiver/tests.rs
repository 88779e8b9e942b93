use core::sync::atomic::Ordering;

use super::*;
use crate::{LocalMemory, OutgoingPacket, RingSender};

const DATA: u32 = 4096;
/// What each packet of these tests takes in the ring.
const PACKET: u32 = 64;
const PAYLOAD: [u8; PACKET as usize - 24] = [5; PACKET as usize - 24];
/// So many fill the ring: one would fit exactly, and that is full.
const FULL: u32 = DATA / PACKET - 1;

fn set(memory: &LocalMemory, word: Control, value: u32) {
    memory.control(word).store(value, Ordering::Relaxed);
}

fn get(memory: &LocalMemory, word: Control) -> u32 {
    memory.control(word).load(Ordering::Relaxed)
}

/// A ring with `packets` in it.
fn filled(
    memory: &LocalMemory,
    packets: u32,
) -> (RingSender<&LocalMemory>, RingReceiver<&LocalMemory>) {
    let mut sender = RingSender::new(memory).unwrap();
    for id in 0..packets {
        let _ = sender.send(&OutgoingPacket::in_band(id.into(), &[&PAYLOAD])).unwrap();
    }
    (sender, RingReceiver::new(memory).unwrap())
}

/// Takes `packets` and gives them back at once.
fn take(receiver: &mut RingReceiver<&LocalMemory>, packets: u32) -> bool {
    for _ in 0..packets {
        receiver.receive(&mut [0; 256]).unwrap().expect("a packet");
    }
    receiver.release().needed()
}

fn memory() -> LocalMemory {
    LocalMemory::new(DATA).unwrap()
}

#[test]
fn an_empty_ring_has_no_packet() {
    let memory = memory();
    let (_, mut receiver) = filled(&memory, 0);
    assert!(receiver.receive(&mut []).unwrap().is_none());
    assert!(!receiver.release().needed());
    assert_eq!(receiver.unmask(), Ok(false));
}

#[test]
fn packets_come_in_order_and_room_only_when_released() {
    let memory = memory();
    let (mut sender, mut receiver) = filled(&memory, 3);
    let mut buffer = [0; 256];
    for id in 0..3 {
        let packet = receiver.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((packet.transaction_id(), packet.payload()), (id, &PAYLOAD[..]));
    }
    assert!(receiver.receive(&mut buffer).unwrap().is_none());
    assert_eq!(get(&memory, Control::ReadIndex), 0);
    assert_eq!(sender.free_bytes(), Ok(DATA - 8 - 3 * PACKET));
    assert!(!receiver.release().needed());
    assert_eq!(get(&memory, Control::ReadIndex), 3 * PACKET);
    assert_eq!(sender.free_bytes(), Ok(DATA - 8));
}

#[test]
fn a_buffer_that_is_too_small_takes_nothing() {
    let memory = memory();
    let (_, mut receiver) = filled(&memory, 1);
    let needed = PAYLOAD.len();
    let error = receiver.receive(&mut [0; PAYLOAD.len() - 1]).unwrap_err();
    assert_eq!(error, ReceiveError::BufferTooSmall { needed });
    assert_eq!(receiver.receive(&mut []).unwrap_err(), ReceiveError::BufferTooSmall { needed });
    assert!(receiver.receive(&mut [0; PAYLOAD.len()]).unwrap().is_some());
}

#[test]
fn the_producer_is_signalled_when_enough_room_comes() {
    let memory = memory();
    let (mut sender, mut receiver) = filled(&memory, FULL);
    // 56 bytes are free, two more packets' room makes 184.
    assert_eq!(sender.await_room(2 * PACKET), Ok(false));
    assert!(!take(&mut receiver, 1));
    assert!(take(&mut receiver, 1));
}

#[test]
fn exactly_as_much_as_is_waited_for_is_too_little() {
    // Linux, `hv_pkt_iter_close`: one byte must stay empty, which `hv_get_bytes_to_write` does not know.
    let memory = memory();
    let (_, mut receiver) = filled(&memory, FULL);
    set(&memory, Control::PendingSendSize, PACKET + 64);
    assert!(!take(&mut receiver, 1));
    set(&memory, Control::PendingSendSize, PACKET + 64 + 64 - 1);
    assert!(take(&mut receiver, 1));
}

#[test]
fn the_producer_is_not_signalled_twice() {
    let memory = memory();
    let (mut sender, mut receiver) = filled(&memory, FULL);
    assert_eq!(sender.await_room(PACKET), Ok(false));
    assert!(take(&mut receiver, 1));
    assert!(!take(&mut receiver, 1));
    assert!(!take(&mut receiver, 10));
}

#[test]
fn a_producer_that_filled_the_room_again_is_not_signalled_for_it() {
    let memory = memory();
    let (mut sender, mut receiver) = filled(&memory, FULL);
    assert_eq!(sender.await_room(3 * PACKET), Ok(false));
    assert!(!take(&mut receiver, 2));
    for _ in 0..2 {
        assert!(!sender.send(&OutgoingPacket::in_band(0, &[&PAYLOAD])).unwrap().needed());
    }
    assert!(!take(&mut receiver, 2));
    assert!(take(&mut receiver, 1));
}

#[test]
fn a_producer_that_waits_for_nothing_or_cannot_ask_is_not_signalled() {
    let memory = memory();
    let (mut sender, mut receiver) = filled(&memory, FULL);
    assert!(!take(&mut receiver, 2));
    assert_eq!(sender.await_room(DATA), Ok(false));
    assert!(receiver.producer_asks_for_room());
    set(&memory, Control::FeatureBits, 0);
    assert!(!receiver.producer_asks_for_room());
    assert!(!take(&mut receiver, FULL - 2));
}

#[test]
fn a_request_for_an_empty_ring_is_met_by_the_last_packet() {
    // Some wait for the ring's length less one (OpenVMM, `commit_read`).
    let memory = memory();
    let (_, mut receiver) = filled(&memory, 2);
    set(&memory, Control::PendingSendSize, DATA - 1);
    assert!(!take(&mut receiver, 1));
    assert!(take(&mut receiver, 1));
}

#[test]
fn no_request_for_room_confuses_the_consumer() {
    for pending in [1, 7, DATA, DATA + 1, u32::MAX - 7, u32::MAX] {
        let memory = memory();
        let (_, mut receiver) = filled(&memory, 4);
        set(&memory, Control::PendingSendSize, pending);
        assert!(!take(&mut receiver, 1), "{pending}");
        assert!(!take(&mut receiver, 3), "{pending}");
    }
}

#[test]
fn the_mask_is_the_consumers() {
    let memory = memory();
    set(&memory, Control::InterruptMask, 1);
    let (mut sender, mut receiver) = filled(&memory, 0);
    assert_eq!(get(&memory, Control::InterruptMask), 0);
    receiver.mask();
    assert_eq!(get(&memory, Control::InterruptMask), 1);
    assert!(!sender.send(&OutgoingPacket::in_band(0, &[])).unwrap().needed());
    assert_eq!(receiver.unmask(), Ok(true));
    assert_eq!(get(&memory, Control::InterruptMask), 0);
    assert!(!take(&mut receiver, 1));
    assert_eq!(receiver.unmask(), Ok(false));
    assert!(sender.send(&OutgoingPacket::in_band(0, &[])).unwrap().needed());
}

#[test]
#[should_panic(expected = "release what was received before waiting")]
fn waiting_with_packets_that_were_not_given_back_is_a_mistake() {
    let memory = memory();
    let (_, mut receiver) = filled(&memory, 1);
    receiver.receive(&mut PAYLOAD.clone()).unwrap();
    let _ = receiver.unmask();
}

#[test]
fn indices_that_are_none_make_no_receiver() {
    for (word, index, error) in [
        (Control::WriteIndex, DATA, RingError::WriteIndexOutside(DATA)),
        (Control::WriteIndex, 12, RingError::WriteIndexMisaligned(12)),
        (Control::ReadIndex, DATA + 8, RingError::ReadIndexOutside(DATA + 8)),
        (Control::ReadIndex, 1, RingError::ReadIndexMisaligned(1)),
    ] {
        let memory = memory();
        set(&memory, word, index);
        assert_eq!(RingReceiver::new(&memory).unwrap_err(), error);
    }
}
