//! The card as a device of the TCP/IP stack `smoltcp`, in the shape of `vsc_drivers::netvsc::smoltcp`.
//!
//! After a poll of the interface, [`TulipDevice::flush`] gives the chip what the stack has sent.

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use vsc_drivers::Hal;

use super::frame::Frame;
use super::{HEADER_BYTES, MTU, Tulip};
use crate::pci::Registers32;

/// A card for `smoltcp`.
#[derive(Debug)]
pub struct TulipDevice<R: Registers32, H: Hal>(Tulip<R, H>);

impl<R: Registers32, H: Hal> TulipDevice<R, H> {
    /// A device of this card.
    pub fn new(card: Tulip<R, H>) -> Self {
        Self(card)
    }

    /// Gives the chip what the stack has sent.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// The card.
    pub fn adapter(&self) -> &Tulip<R, H> {
        &self.0
    }
}

impl<R: Registers32, H: Hal> phy::Device for TulipDevice<R, H> {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a, R, H>;

    fn receive(&mut self, _: Instant) -> Option<(RxToken, TxToken<'_, R, H>)> {
        if self.0.free() == 0 {
            return None;
        }
        let frame = self.0.receive()?;
        Some((RxToken(frame), TxToken(&self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_, R, H>> {
        (self.0.free() != 0).then_some(TxToken(&self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = HEADER_BYTES + MTU;
        capabilities.max_burst_size = Some(self.0.receive_capacity());
        capabilities
    }
}

/// A received frame.
#[derive(Debug)]
pub struct RxToken(Frame);

impl phy::RxToken for RxToken {
    fn consume<T, F: FnOnce(&[u8]) -> T>(self, f: F) -> T {
        f(&self.0)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub struct TxToken<'a, R: Registers32, H: Hal>(&'a Tulip<R, H>);

impl<R: Registers32, H: Hal> phy::TxToken for TxToken<'_, R, H> {
    /// Should others have taken the room meanwhile, the frame is lost, and counted as dropped.
    fn consume<T, F: FnOnce(&mut [u8]) -> T>(self, len: usize, f: F) -> T {
        let mut frame = self.0.buffer(len);
        let result = f(frame.bytes_mut());
        self.0.transmit_or_drop(&frame);
        result
    }
}
