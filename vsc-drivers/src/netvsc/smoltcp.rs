//! The adapter as a device of the TCP/IP stack `smoltcp`.
//!
//! The device polls the channels by itself, so a kernel that only polls its interface needs no task for it; with
//! [`NetVsc::run`](super::NetVsc::run) in the background it is woken by interrupts. After a poll of the interface,
//! [`NetDevice::flush`] gives the host at once what the stack has sent.
//!
//! Checksums of TCP and UDP are the device's business where the host helps: it has them filled in, or fills them in, and passes
//! received frames on only if the host or it has found them right.

use core::num::NonZeroUsize;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::frame::{Frame, Offload, TransmitInfo, Verdict, VlanTag};
use super::headers::{Headers, Transport};
use super::{NetVsc, Offloads};
use crate::hal::Hal;

const ETHERNET_HEADER_BYTES: usize = 14;

/// A network adapter for `smoltcp`.
#[derive(Debug)]
pub struct NetDevice<H: Hal> {
    net: NetVsc<H>,
    vlan: Option<VlanTag>,
}

impl<H: Hal> NetDevice<H> {
    /// A device of this adapter.
    pub fn new(net: NetVsc<H>) -> Self {
        Self { net, vlan: None }
    }

    /// A device that sends all frames with this tag. What comes with another tag, or without one, is not passed on.
    #[must_use]
    pub fn with_vlan(self, vlan: VlanTag) -> Self {
        Self { vlan: Some(vlan), ..self }
    }

    /// Gives the host what the stack has sent.
    pub fn flush(&self) {
        self.net.flush();
    }

    /// The adapter.
    pub fn adapter(&self) -> &NetVsc<H> {
        &self.net
    }

    fn next(&self) -> Option<Frame> {
        loop {
            let frame = match self.net.receive() {
                Some(frame) => frame,
                None => {
                    self.net.poll();
                    self.net.receive()?
                }
            };
            if self.is_for_us(&frame) {
                return Some(frame);
            }
            self.net.count_receive_drop(&frame);
        }
    }

    fn is_for_us(&self, frame: &Frame) -> bool {
        let vlan = frame.info().vlan.map(|tag| tag.vlan).filter(|vlan| *vlan != 0);
        vlan == self.vlan.map(|tag| tag.vlan) && is_right(frame, &self.net.offloads())
    }

    fn token(&self) -> TxToken<'_, H> {
        let offload = Offload::Checksum;
        TxToken { net: &self.net, info: TransmitInfo { offload, vlan: self.vlan } }
    }
}

/// Whether the checksums are right that the stack does not look at.
fn is_right(frame: &Frame, offloads: &Offloads) -> bool {
    let looked_at = frame.info().transport_checksum == Verdict::Unchecked
        && Headers::find(frame).is_none_or(|headers| !is_ours(offloads, headers.transport));
    frame.info().ip_checksum != Verdict::Wrong && (looked_at || frame.has_right_checksum())
}

/// Whether the stack leaves these checksums to the device.
fn is_ours(offloads: &Offloads, transport: Transport) -> bool {
    match transport {
        Transport::Tcp => offloads.tcp4 || offloads.tcp6,
        Transport::Udp => offloads.udp4 || offloads.udp6,
    }
}

impl<H: Hal> phy::Device for NetDevice<H> {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a, H>;

    fn receive(&mut self, _: Instant) -> Option<(RxToken, TxToken<'_, H>)> {
        if !self.net.has_room(self.net.mtu() + ETHERNET_HEADER_BYTES) {
            self.net.poll();
            if !self.net.has_room(self.net.mtu() + ETHERNET_HEADER_BYTES) {
                return None;
            }
        }
        let frame = self.next()?;
        Some((RxToken(frame), self.token()))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_, H>> {
        let bytes = self.net.mtu() + ETHERNET_HEADER_BYTES;
        if !self.net.has_room(bytes) {
            self.net.poll();
        }
        self.net.has_room(bytes).then(|| self.token())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let offloads = self.net.offloads();
        let checksum = |transport| {
            if is_ours(&offloads, transport) { Checksum::None } else { Checksum::Both }
        };
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.net.mtu() + ETHERNET_HEADER_BYTES;
        // Frames that may come before any is taken.
        capabilities.max_burst_size = Some(self.net.receive_capacity());
        capabilities.checksum.tcp = checksum(Transport::Tcp);
        capabilities.checksum.udp = checksum(Transport::Udp);
        let frame_bytes = |packet: u32| {
            NonZeroUsize::new(packet as usize)
                .map(|packet| packet.saturating_add(ETHERNET_HEADER_BYTES))
        };
        capabilities.segmentation.tcpv4 = frame_bytes(offloads.segment4);
        capabilities.segmentation.tcpv6 = frame_bytes(offloads.segment6);
        capabilities
    }
}

/// A received frame.
#[derive(Debug)]
pub struct RxToken(Frame);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub struct TxToken<'a, H: Hal> {
    net: &'a NetVsc<H>,
    info: TransmitInfo,
}

impl<H: Hal> phy::TxToken for TxToken<'_, H> {
    /// Should others have taken the room meanwhile, the frame is lost, and counted as dropped.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = self.net.unchecked_buffer(len);
        let result = f(&mut frame);
        // Counted there.
        let _ = self.net.transmit_buffer(frame, &self.info);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        if let Some(mss) = meta.segmentation_offload_size {
            self.info.offload = Offload::Segment { mss: mss.get() };
        }
    }
}
