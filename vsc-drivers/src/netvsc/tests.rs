//! The driver against a card that a test plays.

mod card;
mod faithless;
mod hostile;
mod life;
mod receive;
#[cfg(feature = "smoltcp")]
mod stacks;
mod transmit;

use std::vec;
use std::vec::Vec;

use crate::bus::{BusOptions, Vmbus};
use crate::fake::FakeHal;
use crate::netvsc::{NetError, NetOptions, NetVsc, Offload, TransmitInfo, first_of};
use crate::task::{block_on, both};
use card::Card;

const PLAIN: TransmitInfo = TransmitInfo { offload: Offload::None, vlan: None };

/// Runs bus and card, and `test` with the bus when it is connected.
fn with_bus<T>(card: &Card, test: impl AsyncFnOnce(&Vmbus<FakeHal>) -> T) -> T {
    let bus = card.host.bus(BusOptions::default());
    block_on(bus.hal(), both(bus.run(), card.serve()), async {
        bus.connect().await.expect("a connection");
        bus.all_offers_delivered().await.expect("all offers");
        test(&bus).await
    })
}

/// What starting the adapter comes to.
fn try_start(card: &Card, options: NetOptions) -> Result<(), NetError> {
    with_bus(card, async |bus| NetVsc::start(bus, card.channel, options).await.map(drop))
}

/// Runs `test` with an adapter that was started, and its task.
fn with_net<T>(
    card: &Card,
    options: NetOptions,
    test: impl AsyncFnOnce(&NetVsc<FakeHal>) -> T,
) -> T {
    with_bus(card, async |bus| {
        let net = NetVsc::start(bus, card.channel, options).await.expect("an adapter");
        let task = async {
            net.run().await;
            core::future::pending().await
        };
        first_of(task, test(&net)).await
    })
}

/// A frame of `bytes` bytes whose content depends on `seed`.
fn frame(bytes: usize, seed: u8) -> Vec<u8> {
    let mut frame = vec![0xFF; 12];
    frame.extend([0x88, 0xB5]);
    frame.extend((0..bytes - 14).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)));
    frame
}

/// A TCP segment over IPv4 from 10.0.0.1 to 10.0.0.2, without checksums.
fn tcp_frame(port: u16, payload: usize) -> Vec<u8> {
    let mut frame = vec![0x02; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(((40 + payload) as u16).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.extend((0..payload).map(|at| at as u8));
    frame
}

/// The adapter still does its work.
async fn works(card: &Card, net: &NetVsc<FakeHal>) {
    card.deliver(0, &[(frame(99, 9), vec![])]);
    assert_eq!(net.received().await.unwrap()[..], frame(99, 9));
    let before = card.state().sent.len();
    net.transmit(&frame(77, 7), &PLAIN).unwrap();
    card.until(|state| state.sent.len() > before).await;
}
