//! A disk whose changes go elsewhere: a base that is never written, and a store of its own for what was.
//!
//! The store has, for each 4 KiB *cluster* of the disk, a place for its content at the same offset behind a head, and a bit
//! that says whether the content there counts ([`map`]). A read takes each cluster from where its bit says. A write to a
//! cluster without a bit first fills in from the base what the write leaves out, then writes, then sets the bit in memory.
//!
//! *What makes it safe.* A bit may reach the store only after the cluster's content is safe there. A flush therefore notes
//! which bits are new, makes the store's data safe, writes these bits and makes them safe too. Whoever stops it at any point
//! finds bits of safe clusters only; a cluster whose bit is missing reads as the base has it, as if its writes, which no
//! flush had covered, had never been. Once a bit is set, a cluster is overwritten in place like a sector of any disk.

mod file;
pub mod header;
pub mod map;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

pub use self::file::{OverlayError, open, temporary};
use self::header::Layout;
use self::map::{CLUSTER_BYTES, Map, WORD_BYTES};
use super::buffer::IoBuffer;
use super::disk::{ByteRange, Direction, Disk, DiskError, DiskInfo, FilePart, check_range};
use crate::stats::lock;

/// Writers to the same clusters wait for one another where these are not in the store yet.
const STRIPES: usize = 32;
/// A read in more parts than this is left to a thread.
const MAX_PARTS: usize = 8;

/// The disk.
pub struct Overlay {
    base: Arc<dyn Disk>,
    store: Arc<dyn Disk>,
    layout: Layout,
    map: Map,
    /// Whether anybody will ever read the store again.
    kept: bool,
    stripes: [Mutex<()>; STRIPES],
    flushing: Mutex<()>,
}

impl Overlay {
    /// A disk over `base`, with what `map` says in `store`.
    fn new(
        base: Arc<dyn Disk>,
        store: Arc<dyn Disk>,
        layout: Layout,
        map: Map,
        kept: bool,
    ) -> Self {
        let (stripes, flushing) = (std::array::from_fn(|_| Mutex::default()), Mutex::default());
        Self { base, store, layout, map, kept, stripes, flushing }
    }

    fn bytes(&self) -> u64 {
        self.layout.disk_bytes
    }

    /// What `change` does to a part of the disk within one word of the map.
    fn change_word(
        &self,
        range: ByteRange,
        change: &impl Fn(ByteRange) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        if self.map.all_set(range) {
            return change(range);
        }
        let stripe = (range.offset / WORD_BYTES) as usize % STRIPES;
        let _alone = self.stripes.get(stripe).map(lock);
        self.fill_edges(range)?;
        change(range)?;
        self.map.set(range);
        Ok(())
    }

    /// Copies from the base what a change leaves out of the first and last cluster it touches.
    fn fill_edges(&self, range: ByteRange) -> Result<(), DiskError> {
        let first = ByteRange::new(range.offset / CLUSTER_BYTES * CLUSTER_BYTES, CLUSTER_BYTES);
        let last_byte = range.end().saturating_sub(1);
        let last = ByteRange::new(last_byte / CLUSTER_BYTES * CLUSTER_BYTES, CLUSTER_BYTES);
        if range.offset != first.offset && !self.map.all_set(first) {
            self.copy(ByteRange::new(first.offset, range.offset - first.offset))?;
        }
        let last_end = last.end().min(self.bytes());
        if range.end() < last_end && !self.map.all_set(last) {
            self.copy(ByteRange::new(range.end(), last_end - range.end()))?;
        }
        Ok(())
    }

    fn copy(&self, range: ByteRange) -> Result<(), DiskError> {
        let buffer = IoBuffer::owned(vec![0; range.length as usize]);
        self.base.read(range.offset, &buffer)?;
        self.store.write(self.layout.data_offset(range.offset), &buffer)
    }

    fn change(
        &self,
        range: ByteRange,
        change: impl Fn(ByteRange) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        check_range(range, self.bytes())?;
        map::words(range).try_for_each(|part| self.change_word(part, &change))
    }

    /// Makes the data safe, then the bits that say where it is.
    fn flush_pages(&self, pages: &[map::Page]) -> Result<(), DiskError> {
        self.store.flush()?;
        if pages.is_empty() {
            return Ok(());
        }
        for page in pages {
            let offset = self.layout.map_offset + page.offset;
            self.store.write(offset, &IoBuffer::owned(page.bytes.clone()))?;
        }
        self.store.flush()
    }

    fn store_range(&self, range: ByteRange) -> ByteRange {
        ByteRange::new(self.layout.data_offset(range.offset), range.length)
    }
}

impl Disk for Overlay {
    fn info(&self) -> DiskInfo {
        DiskInfo { bytes: self.bytes(), read_only: false, discard: self.store.info().discard }
    }

    fn read(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        let range = ByteRange::new(offset, buffer.len());
        check_range(range, self.bytes())?;
        for run in self.map.runs(range) {
            let ByteRange { offset: at, length } = run.range;
            let piece = buffer.part(at - offset, length);
            match run.in_store {
                true => self.store.read(self.layout.data_offset(at), &piece)?,
                false => self.base.read(at, &piece)?,
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        self.change(ByteRange::new(offset, buffer.len()), |range| {
            let piece = buffer.part(range.offset - offset, range.length);
            self.store.write(self.layout.data_offset(range.offset), &piece)
        })
    }

    fn flush(&self) -> Result<(), DiskError> {
        if !self.kept {
            return Ok(());
        }
        let _alone = lock(&self.flushing);
        // Before the data is made safe: a bit that is set later may be of data that is not.
        let pages = self.map.take_dirty();
        let flushed = self.flush_pages(&pages);
        if flushed.is_err() {
            self.map.put_back(&pages);
        }
        flushed
    }

    fn discard(&self, range: ByteRange) -> Result<(), DiskError> {
        self.change(range, |part| self.store.discard(self.store_range(part)))
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        self.change(range, |part| self.store.zero(self.store_range(part)))
    }

    fn lower(&self, direction: Direction, range: ByteRange) -> Option<Vec<FilePart>> {
        check_range(range, self.bytes()).ok()?;
        if direction == Direction::Write && !self.map.all_set(range) {
            return None;
        }
        let runs = self.map.runs(range);
        if runs.len() > MAX_PARTS {
            return None;
        }
        let mut parts = Vec::with_capacity(runs.len());
        for run in runs {
            let lowered = match run.in_store {
                true => self.store.lower(direction, self.store_range(run.range)),
                false => self.base.lower(direction, run.range),
            };
            let buffer_offset = run.range.offset - range.offset;
            parts.extend(lowered?.into_iter().map(|part| FilePart {
                buffer_offset: part.buffer_offset + buffer_offset,
                ..part
            }));
        }
        Some(parts)
    }
}

impl Drop for Overlay {
    /// What was acknowledged and never flushed may be lost, but need not be when a machine ends in good order.
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.flush();
    }
}
