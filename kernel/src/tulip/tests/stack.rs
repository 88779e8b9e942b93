//! The card under `smoltcp`: what the stack sends and gets.

use core::future::poll_fn;
use core::task::Poll;

use smoltcp::phy::Device;
use smoltcp::phy::{RxToken as _, TxToken as _};
use smoltcp::time::Instant;

use super::*;
use crate::tulip::TulipDevice;

#[test]
fn tokens_carry_frames_both_ways() {
    let (chip, card) = machine();
    let mut device = TulipDevice::new(card.clone());
    assert_eq!(device.capabilities().max_transmission_unit, 1514);
    assert!(device.receive(Instant::ZERO).is_none());
    let token = device.transmit(Instant::ZERO).unwrap();
    token.consume(60, |bytes| bytes.copy_from_slice(&frame([2; 6], 60, 1)));
    device.flush();
    chip.run(card.sent()).unwrap();
    assert_eq!(chip.sent(), [frame([2; 6], 60, 1)]);
    chip.comes(frame(card.mac(), 99, 2));
    while chip.step() {}
    let (received, reply) = device.receive(Instant::ZERO).unwrap();
    let echo = received.consume(<[u8]>::to_vec);
    assert_eq!(echo, frame(card.mac(), 99, 2));
    reply.consume(echo.len(), |bytes| bytes.copy_from_slice(&echo));
    device.flush();
    chip.run(card.sent()).unwrap();
    assert_eq!(chip.sent(), [echo]);
}

#[test]
fn a_full_ring_gives_no_token_until_the_chip_has_sent() {
    let (chip, card) = machine();
    let mut device = TulipDevice::new(card.clone());
    let mut sent = 0;
    while let Some(token) = device.transmit(Instant::ZERO) {
        token.consume(60, |bytes| bytes.fill(1));
        sent += 1;
    }
    assert_eq!(sent, 126);
    device.flush();
    while chip.step() {}
    chip.run(poll_fn(|_| Poll::Ready(())));
    assert!(device.transmit(Instant::ZERO).is_some());
    assert_eq!(card.statistics().transmit_drops, 0);
}
