//! Frames of `netvsc`, 1,514 bytes each, in bursts.

use hv_abi::nvsp::NVSP_INTERFACE;
use in_process::InProcessHal;
use vsc_drivers::netvsc::{NetOptions, NetVsc, TransmitInfo};
use vsc_drivers::task::{beside, both};

use crate::{Guest, SETTLE};

const BYTES: usize = 1514;
/// Frames of a burst: the rings have room for them.
const BURST: usize = 32;
/// For experiments (IEEE 802, local experimental 1).
const ETHERTYPE: [u8; 2] = [0x88, 0xB5];

type Card = NetVsc<InProcessHal>;

/// `bursts` of frames sent, and their completions.
pub(crate) fn sends(bursts: u32) {
    let guest = Guest::new();
    let (near, far) = cards(&guest);
    let frame = frame(&near, &far);
    for _ in 0..bursts {
        guest.counted(async { send(&near, &frame) });
        std::thread::sleep(SETTLE);
        guest.counted(async { near.poll() });
    }
}

/// `bursts` of frames received.
pub(crate) fn receives(bursts: u32) {
    let guest = Guest::new();
    let (near, far) = cards(&guest);
    let frame = frame(&near, &far);
    for _ in 0..bursts {
        send(&near, &frame);
        std::thread::sleep(SETTLE);
        near.poll();
        guest.counted(async {
            far.poll();
            let mut count = 0;
            while let Some(frame) = far.receive() {
                count += usize::from(frame.len() == BYTES);
            }
            far.flush();
            assert_eq!(count, BURST, "frames got lost");
        });
    }
}

/// Two cards in one network, that have once exchanged frames.
fn cards(guest: &Guest) -> (Card, Card) {
    let channels = guest.channels(NVSP_INTERFACE);
    guest.prepare(async {
        let start = async |index: usize| {
            let card = NetVsc::start(&guest.bus, channels[index], NetOptions::default()).await;
            card.expect("a card")
        };
        let near = start(0).await;
        let far = beside(near.run(), start(1)).await;
        let exchange = async {
            send(&near, &frame(&near, &far));
            for _ in 0..BURST {
                far.received().await.expect("a frame");
            }
            send(&far, &frame(&far, &near));
            for _ in 0..BURST {
                near.received().await.expect("a frame");
            }
        };
        beside(both(near.run(), far.run()), exchange).await;
        (near, far)
    })
}

fn frame(from: &Card, to: &Card) -> Vec<u8> {
    let mut frame = vec![0; BYTES];
    frame[..6].copy_from_slice(&to.mac());
    frame[6..12].copy_from_slice(&from.mac());
    frame[12..14].copy_from_slice(&ETHERTYPE);
    frame
}

fn send(card: &Card, frame: &[u8]) {
    for _ in 0..BURST {
        card.transmit(frame, &TransmitInfo::default()).expect("room");
    }
    card.flush();
}
