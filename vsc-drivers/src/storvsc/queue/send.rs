//! Puts requests into the ring, many at once.

use core::array;

use vmbus_ring::{GpaRange, OutgoingPacket};

use super::{Flushed, Queue, Slots, Table, packet};
use crate::bus::ChannelError;
use crate::hal::Hal;
use crate::storvsc::error::DiskErrorKind;
use crate::storvsc::pieces::page_numbers;
use crate::storvsc::slots::Fallout;

use super::MAX_PACKET_BYTES;

/// Requests that are made ready at once, on the stack. A single one, the usual case of who waits for each, takes less.
const BATCH: usize = 32;

/// A request that is ready to go.
#[derive(Clone, Copy)]
struct Ready {
    transaction: u64,
    packet: [u8; MAX_PACKET_BYTES],
    /// Bytes of data, where they begin in the first page, and whose page numbers they are.
    data: Option<(u32, u32, usize, usize)>,
}

const NONE: Ready = Ready { transaction: 0, packet: [0; MAX_PACKET_BYTES], data: None };

impl<H: Hal> Queue<H> {
    /// Sends all requests that wait for it.
    pub(super) fn flush(&self) -> Result<Flushed, ChannelError> {
        loop {
            let mut table = self.table.lock();
            let (flushed, refused) = match table.slots.queued() {
                0 => return Ok(Flushed::All),
                1 => self.send::<1>(&mut table),
                _ => self.send::<BATCH>(&mut table),
            };
            drop(table);
            refused.into_iter().for_each(Fallout::settle);
            if flushed? == Flushed::Full {
                self.counters.full.increment();
                return Ok(Flushed::Full);
            }
        }
    }

    /// Sends up to `N` requests. [`Flushed::All`] of them; there may be more.
    fn send<const N: usize>(
        &self,
        table: &mut Table,
    ) -> (Result<Flushed, ChannelError>, Option<Fallout>) {
        let mut ready = [NONE; N];
        let (count, refused) = self.prepare(table, &mut ready);
        let sent = match ready.get(..count) {
            Some(ready) if count > 0 => self.put::<N>(table, ready),
            _ => Ok(count),
        };
        // After a failure nobody knows how many the host sees: all, to be safe.
        self.mark_sent(&mut table.slots, sent.unwrap_or(count));
        let all = |sent| if sent == count { Flushed::All } else { Flushed::Full };
        (sent.map(all), refused)
    }

    fn mark_sent(&self, slots: &mut Slots, sent: usize) {
        (0..sent).for_each(|_| slots.sent());
        self.counters.requests.add(sent as u64);
    }

    /// Makes the first requests ready, up to one that can't be sent: with that nobody has to wait.
    fn prepare(&self, table: &mut Table, ready: &mut [Ready]) -> (usize, Option<Fallout>) {
        let Table { slots, pages } = table;
        pages.clear();
        let mut count = 0;
        let mut unmapped = false;
        for (place, (token, request, lent)) in ready.iter_mut().zip(slots.to_send()) {
            let first = pages.len();
            let gpa = |address| self.hal().gpa(address).map(|gpa| gpa.0);
            let offset = match request.piece {
                Some(piece) => page_numbers(lent, piece, gpa, pages),
                None => Some(0),
            };
            let Some(offset) = offset else {
                unmapped = true;
                break;
            };
            let data = request.piece.map(|piece| (piece.bytes, offset, first, pages.len()));
            let packet = packet::packet(request.operation, &request.payload);
            *place = Ready { transaction: token.transaction(), packet, data };
            count += 1;
        }
        let refused = (unmapped && count == 0).then(|| slots.refused(DiskErrorKind::NotMapped));
        (count, refused)
    }

    /// Puts requests into the ring; says how many of them.
    fn put<const N: usize>(
        &self,
        table: &mut Table,
        ready: &[Ready],
    ) -> Result<usize, ChannelError> {
        let bytes = self.version().packet_bytes();
        let pages = &table.pages;
        let at = |index: usize| ready.get(index).unwrap_or(&NONE);
        let payloads: [[&[u8]; 1]; N] =
            array::from_fn(|index| [at(index).packet.get(..bytes).unwrap_or(&[])]);
        let ranges: [[GpaRange<'_>; 1]; N] = array::from_fn(|index| {
            let (byte_count, byte_offset, first, end) = at(index).data.unwrap_or_default();
            [GpaRange { byte_count, byte_offset, pages: pages.get(first..end).unwrap_or(&[]) }]
        });
        let packets = ready.iter().zip(&payloads).zip(&ranges).map(|((ready, payload), range)| {
            let packet = match ready.data {
                Some(_) => OutgoingPacket::gpa_direct(ready.transaction, range, payload),
                None => OutgoingPacket::in_band(ready.transaction, payload),
            };
            packet.with_completion()
        });
        self.counters.batches.increment();
        match self.channel.try_send_batch(packets) {
            Err(ChannelError::Full) => Ok(0),
            other => other,
        }
    }
}
