//! What all parts of an adapter have in common.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};

use hv_abi::nvsp::{NVSP_SEND_TABLE_ENTRIES, NvspVersion};
use hv_abi::rndis::RndisStatus;
use spin::Once;

use super::control::Control;
use super::error::NetError;
use super::holder::Holder;
use super::link::LinkCell;
use super::offload::Offloads;
use super::options::NetOptions;
use super::queue::Queue;
use super::requests::Packing;
use super::sections::Sections;
use crate::channel::SharedBuffer;
use crate::hal::Hal;
use crate::task::Bell;

/// An adapter. Handles and tasks share one.
pub(super) struct Adapter<H: Hal> {
    pub(super) hal: H,
    pub(super) options: NetOptions,
    pub(super) facts: Once<Facts>,
    pub(super) version: Once<NvspVersion>,
    pub(super) control: Control<H>,
    pub(super) link: LinkCell,
    pub(super) primary: Queue<H>,
    pub(super) others: Once<Box<[Queue<H>]>>,
    pub(super) receive_buffer: Holder<SharedBuffer<H>>,
    pub(super) send_buffer: Holder<SendBuffer<H>>,
    pub(super) send_table: SendTable,
    /// The host said that something about the link is new: ask again.
    pub(super) look_again: AtomicBool,
    /// Why the adapter ended, once it has.
    pub(super) end: Once<NetError>,
    pub(super) ended: Bell,
    /// Rings when the host said something about the link.
    pub(super) news: Bell,
    /// Channel that is asked first for a received frame.
    pub(super) turn: AtomicUsize,
}

/// What the host said once and for all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) mac: [u8; 6],
    pub(super) offloads: Offloads,
    pub(super) packing: Packing,
}

/// The buffer that frames are sent from.
pub(super) struct SendBuffer<H: Hal> {
    pub(super) memory: SharedBuffer<H>,
    pub(super) sections: Sections,
}

impl<H: Hal> Adapter<H> {
    pub(super) fn queues(&self) -> impl Iterator<Item = &Queue<H>> {
        let others = self.others.get().map(|others| &**others).unwrap_or_default();
        core::iter::once(&self.primary).chain(others)
    }

    /// The channel with that number; the primary if there is none.
    pub(super) fn queue(&self, index: usize) -> &Queue<H> {
        let others = self.others.get().map(|others| &**others).unwrap_or_default();
        index.checked_sub(1).and_then(|index| others.get(index)).unwrap_or(&self.primary)
    }

    pub(super) fn queue_count(&self) -> usize {
        1 + self.others.get().map_or(0, |others| others.len())
    }

    pub(super) fn offloads(&self) -> Offloads {
        self.facts.get().map(|facts| facts.offloads).unwrap_or_default()
    }

    pub(super) fn packing(&self) -> Packing {
        let unknown = Packing { packets: 1, alignment: 8 };
        self.facts.get().map_or(unknown, |facts| facts.packing)
    }

    /// Something happened, says the host.
    pub(super) fn indicate(&self, status: RndisStatus, detail: &[u8]) {
        match status {
            RndisStatus::MEDIA_CONNECT => {
                self.link.update(&self.hal, |link| link.up = true);
                self.look_again.store(true, Ordering::Release);
            }
            RndisStatus::MEDIA_DISCONNECT => self.link.update(&self.hal, |link| link.up = false),
            RndisStatus::NETWORK_CHANGE => {
                let next = |link: &mut super::Link| link.networks = link.networks.wrapping_add(1);
                self.link.update(&self.hal, next);
                self.look_again.store(true, Ordering::Release);
            }
            RndisStatus::LINK_SPEED_CHANGE => match detail.first_chunk() {
                Some(speed) => {
                    let megabits = megabits(u32::from_le_bytes(*speed));
                    self.link.update(&self.hal, |link| link.megabits = megabits);
                }
                None => self.primary.counters.malformed.increment(),
            },
            _ => {}
        }
        self.news.ring(&self.hal);
    }

    /// Why the adapter ended, if it has.
    pub(super) fn end(&self) -> Option<NetError> {
        self.end.get().copied()
    }

    /// The adapter is of no use any longer: all that wait are told. The first reason stays.
    pub(super) fn finish(&self, reason: NetError) {
        self.end.call_once(|| reason);
        self.link.update(&self.hal, |link| {
            link.up = false;
            link.present = false;
        });
        let bells = self.queues().flat_map(|queue| [&queue.received, &queue.room]);
        bells.chain([&self.ended]).for_each(|bell| bell.ring(&self.hal));
    }
}

/// A link speed as the host says it, in units of 100 bits per second.
pub(super) fn megabits(speed_100bps: u32) -> u32 {
    speed_100bps / 10_000
}

/// Which channel a flow is sent by: the host's table, or flows in turn as long as it has sent none.
pub(super) struct SendTable {
    entries: [AtomicU32; NVSP_SEND_TABLE_ENTRIES],
    channels: AtomicU16,
}

impl SendTable {
    pub(super) fn new() -> Self {
        Self {
            entries: core::array::from_fn(|index| AtomicU32::new(index as u32)),
            channels: AtomicU16::new(1),
        }
    }

    pub(super) fn set_channels(&self, channels: u16) {
        self.channels.store(channels.max(1), Ordering::Relaxed);
    }

    pub(super) fn set(&self, entries: impl Iterator<Item = u32>) {
        self.entries.iter().zip(entries).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
    }

    /// The channel for a flow with that hash. An entry that names no channel stands for one that there is.
    pub(super) fn channel(&self, hash: u32) -> usize {
        let channels = u32::from(self.channels.load(Ordering::Relaxed));
        let entry = self.entries.get(hash as usize % NVSP_SEND_TABLE_ENTRIES);
        entry.map_or(0, |entry| (entry.load(Ordering::Relaxed) % channels) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_go_only_to_channels_that_there_are() {
        let table = SendTable::new();
        assert_eq!(table.channel(7), 0);
        table.set_channels(4);
        assert_eq!(table.channel(0x13), 3);
        table.set([u32::MAX; 16].into_iter());
        assert_eq!(table.channel(5), 3);
        table.set_channels(0);
        assert_eq!(table.channel(5), 0);
    }

    #[test]
    fn speeds_are_in_units_of_100_bits() {
        assert_eq!(megabits(100_000_000), 10_000);
    }
}
