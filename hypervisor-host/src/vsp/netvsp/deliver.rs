//! From the network to the guest: frames are put into parts of the receive buffer, and channels are told of them.
//!
//! Only the primary channel's thread does this; for other channels' frames it tells their threads.

use std::io;
use std::sync::Arc;

use hv_abi::nvsp::NvspCapabilities;
use hv_abi::rndis::packet_info::{RxChecksum, VlanTag};

use super::receive_buffer::ReceiveBuffer;
use super::rndis::{RxInfos, rx_head};
use super::session::{Delivery, Session};
use super::settings::Settings;
use crate::net::backend::Backend;
use crate::net::counters::Counters;
use crate::net::frame::{ETHERNET_HEADER, MAX_FRAME, Received, ReceivedChecksum, VLAN_TAG};
use crate::net::headers::{Headers, TCP, UDP};
use crate::net::offload::{tag, without_tag};

/// Frames taken from the network in one turn.
const TURN: usize = 64;

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is nothing more now.
    Idle,
    /// There may be more.
    More,
    /// The guest must free parts of its receive buffer first.
    Held,
}

/// Takes frames from the network.
pub(super) struct Deliverer {
    frame: Vec<u8>,
    /// For each channel what is yet to be handed over.
    boxes: Vec<Vec<Delivery>>,
}

impl Deliverer {
    pub(super) fn new(queues: u16) -> Self {
        let boxes = (0..queues.max(1)).map(|_| Vec::new()).collect();
        Self { frame: vec![0; MAX_FRAME], boxes }
    }

    /// Takes some frames from the network. Those for the primary channel go to `own`, the others to their channels.
    ///
    /// With a single channel, frames stay in the network as long as the guest has no room; with several, a channel without
    /// room loses its frames, for the sake of the others.
    ///
    /// # Errors
    /// The network is gone.
    pub(super) fn turn(
        &mut self,
        backend: &dyn Backend,
        up: bool,
        settings: &Settings,
        session: &Session,
        counters: &Counters,
        own: &mut impl Extend<Delivery>,
    ) -> io::Result<Turn> {
        let channels = session.open(settings.channels);
        let context = Context { up, settings, counters, channels };
        let result = self.fill(backend, &context);
        if let Some(buffer) = &settings.receive {
            self.hand_over(buffer, session, own);
        }
        result
    }

    fn fill(&mut self, backend: &dyn Backend, context: &Context<'_>) -> io::Result<Turn> {
        for _ in 0..TURN {
            if context.is_held() {
                return Ok(Turn::Held);
            }
            let Some(received) = backend.receive(&mut self.frame)? else { return Ok(Turn::Idle) };
            let frame = self.frame.get(..received.length).unwrap_or_default();
            if let Some((channel, delivery)) = context.place(frame, received)
                && let Some(list) = self.boxes.get_mut(usize::from(channel))
            {
                list.push(delivery);
            }
        }
        Ok(Turn::More)
    }

    fn hand_over(
        &mut self,
        buffer: &Arc<ReceiveBuffer>,
        session: &Session,
        own: &mut impl Extend<Delivery>,
    ) {
        for (channel, list) in (0..).zip(&mut self.boxes) {
            if channel == 0 {
                own.extend(list.drain(..));
            } else if !list.is_empty() && !session.deliver(channel, buffer.serial, list) {
                // It was closed in the meantime.
                list.drain(..).for_each(|delivery| buffer.release(channel, delivery.part));
            }
        }
    }
}

/// What a turn looks at.
struct Context<'t> {
    up: bool,
    settings: &'t Settings,
    counters: &'t Counters,
    /// Channels that are open.
    channels: u16,
}

impl Context<'_> {
    fn is_held(&self) -> bool {
        let buffer = self.settings.receive.as_ref();
        self.channels <= 1 && buffer.is_some_and(|buffer| buffer.has_taken(0, buffer.share(1)))
    }

    /// Puts a frame into the buffer; tells for which channel, and where.
    fn place(&self, frame: &[u8], received: Received) -> Option<(u16, Delivery)> {
        let (settings, counters) = (self.settings, self.counters);
        if frame.len() < ETHERNET_HEADER {
            counters.rx_invalid.add(1);
            return None;
        }
        let Some(buffer) = settings.receive.as_ref().filter(|_| self.up && settings.passes(frame))
        else {
            counters.rx_filtered.add(1);
            return None;
        };
        let tci = tag(frame);
        let beside = tci.filter(|_| settings.capabilities.contains(NvspCapabilities::IEEE8021Q));
        let most = settings.frame_bytes + if tci.is_some() { VLAN_TAG } else { 0 };
        if frame.len() > most {
            counters.rx_invalid.add(1);
            return None;
        }
        let (channel, hash) = self.channel(frame);
        let infos = RxInfos {
            checksum: self.checksum(frame, received),
            vlan: beside.map(VlanTag::from_tci),
            hash,
        };
        let parts = if beside.is_some() { without_tag(frame) } else { (frame, &[][..]) };
        let delivery = self.write(buffer, channel, parts, infos);
        match delivery {
            Some(_) => {
                counters.rx_frames.add(1);
                counters.rx_bytes.add(frame.len() as u64);
            }
            None => counters.rx_no_buffer.add(1),
        }
        delivery.map(|delivery| (channel, delivery))
    }

    fn channel(&self, frame: &[u8]) -> (u16, Option<u32>) {
        let Some(rss) = &self.settings.rss else { return (0, None) };
        let (channel, hash) = rss.channel(frame);
        (if channel < self.channels { channel } else { 0 }, hash)
    }

    /// What is known of a frame's checksum, if the guest wants to know.
    fn checksum(&self, frame: &[u8], received: Received) -> Option<RxChecksum> {
        if received.checksum != ReceivedChecksum::Valid || !self.settings.offloads.rx_checksum {
            return None;
        }
        match Headers::parse(frame)?.protocol {
            TCP => Some(RxChecksum(RxChecksum::TCP_SUCCEEDED)),
            UDP => Some(RxChecksum(RxChecksum::UDP_SUCCEEDED)),
            _ => None,
        }
    }

    fn write(
        &self,
        buffer: &ReceiveBuffer,
        channel: u16,
        (first, second): (&[u8], &[u8]),
        infos: RxInfos,
    ) -> Option<Delivery> {
        if buffer.has_taken(channel, buffer.share(self.channels)) {
            return None;
        }
        let (head, head_bytes) = rx_head(first.len() + second.len(), infos);
        let bytes = head_bytes + first.len() + second.len();
        if bytes > buffer.part_bytes() {
            return None;
        }
        let part = buffer.claim(channel)?;
        let write = || {
            buffer.write(part, 0, head.get(..head_bytes).unwrap_or_default())?;
            buffer.write(part, head_bytes, first)?;
            buffer.write(part, head_bytes + first.len(), second)
        };
        if write().is_err() {
            buffer.release(channel, part);
            return None;
        }
        Some(Delivery { part, bytes: bytes as u32 })
    }
}

#[cfg(test)]
mod tests;
