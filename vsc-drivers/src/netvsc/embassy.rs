//! The adapter as a driver of the asynchronous TCP/IP stack `embassy-net`.
//!
//! [`NetVsc::run`](super::NetVsc::run) must be polled beside the stack.

use core::task::{Context, Poll};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};

use super::frame::{Frame, TransmitInfo};
use super::{LinkChanges, NetVsc};
use crate::hal::Hal;

const ETHERNET_HEADER_BYTES: usize = 14;

/// A network adapter for `embassy-net`. The stack computes and checks all checksums.
#[derive(Debug)]
pub struct NetDriver<H: Hal> {
    net: NetVsc<H>,
    changes: LinkChanges<H>,
}

impl<H: Hal> NetDriver<H> {
    /// A driver of this adapter.
    pub fn new(net: NetVsc<H>) -> Self {
        Self { changes: net.link_changes(), net }
    }

    fn has_room(&self, context: &Context<'_>) -> bool {
        let bytes = self.net.mtu() + ETHERNET_HEADER_BYTES;
        matches!(self.net.poll_room(bytes, context), Poll::Ready(Ok(())))
    }
}

impl<H: Hal> Driver for NetDriver<H> {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room<'a, H>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received, Room<'_, H>)> {
        if !self.has_room(context) {
            return None;
        }
        match self.net.poll_received(context) {
            Poll::Ready(Ok(frame)) => Some((Received(frame), Room(&self.net))),
            _ => None,
        }
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Room<'_, H>> {
        self.has_room(context).then_some(Room(&self.net))
    }

    fn link_state(&mut self, context: &mut Context<'_>) -> LinkState {
        while self.changes.poll_next(context).is_ready() {}
        if self.net.link().up { LinkState::Up } else { LinkState::Down }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = self.net.mtu() + ETHERNET_HEADER_BYTES;
        capabilities.max_burst_size = Some(self.net.receive_capacity());
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.net.mac())
    }
}

/// A received frame.
#[derive(Debug)]
pub struct Received(Frame);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub struct Room<'a, H: Hal>(&'a NetVsc<H>);

impl<H: Hal> TxToken for Room<'_, H> {
    /// Should others have taken the room meanwhile, the frame is lost, and counted as dropped.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = self.0.unchecked_buffer(len);
        let result = f(&mut frame);
        // Counted there.
        let _ = self.0.transmit_buffer(frame, &TransmitInfo::default());
        result
    }
}
