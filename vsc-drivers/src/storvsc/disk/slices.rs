//! Reading into slices and writing from them, by way of memory that can be lent.
//!
//! A future with a caller's slice may be dropped or forgotten, and the slice used for something else, while the host still writes. So the host
//! never gets slices.

use super::Disk;
use crate::hal::Hal;
use crate::storvsc::error::{DiskError, DiskErrorKind};
use crate::storvsc::pool::CHUNK_BYTES;
use crate::storvsc::queue::Queue;
use crate::storvsc::transfer::Transfer;

impl<H: Hal> Disk<H> {
    /// Reads into `bytes`, a whole number of blocks, from block `lba` on.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; `bytes` then has anything in it.
    pub async fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        self.read_vectored(lba, &mut [bytes]).await
    }

    /// Writes `bytes`, a whole number of blocks, from block `lba` on. They may not be on the medium before [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`DiskError`]; the blocks then have anything in them.
    pub async fn write(&self, lba: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored(lba, &[bytes]).await
    }

    /// Reads into several slices of any lengths, a whole number of blocks in all.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn read_vectored(&self, lba: u64, slices: &mut [&mut [u8]]) -> Result<(), DiskError> {
        let geometry = self.check()?;
        let total = slices.iter().map(|slice| slice.len() as u64).sum();
        Transfer::check(lba, total, geometry)?;
        let queue = self.copying_queue(lba)?;
        let (mut lba, mut left) = (lba, total);
        let mut room = slices.iter_mut();
        let mut slice: &mut [u8] = &mut [];
        while left > 0 {
            let len = chunk(left);
            let buffer = queue.pool.take(len).ok_or(DiskErrorKind::NoMemory)?;
            let buffer = self.read_lent(lba, buffer).await?;
            let mut rest: &[u8] = &buffer;
            while !rest.is_empty() {
                if slice.is_empty() {
                    let Some(next) = room.next() else { break };
                    slice = next;
                }
                let here = slice.len().min(rest.len());
                let (to, behind) = core::mem::take(&mut slice).split_at_mut(here);
                let (from, later) = rest.split_at(here);
                to.copy_from_slice(from);
                (slice, rest) = (behind, later);
            }
            queue.counters.copied_bytes.add(len as u64);
            queue.pool.give(buffer);
            lba += len as u64 / u64::from(geometry.block_bytes);
            left -= len as u64;
        }
        Ok(())
    }

    /// Writes several slices of any lengths, a whole number of blocks in all.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn write_vectored(&self, lba: u64, slices: &[&[u8]]) -> Result<(), DiskError> {
        let geometry = self.check_writable()?;
        let total = slices.iter().map(|slice| slice.len() as u64).sum();
        Transfer::check(lba, total, geometry)?;
        let queue = self.copying_queue(lba)?;
        let (mut lba, mut left) = (lba, total);
        let mut data = slices.iter();
        let mut slice: &[u8] = &[];
        while left > 0 {
            let len = chunk(left);
            let mut buffer = queue.pool.take(len).ok_or(DiskErrorKind::NoMemory)?;
            let mut room: &mut [u8] = &mut buffer;
            while !room.is_empty() {
                if slice.is_empty() {
                    let Some(next) = data.next() else { break };
                    slice = next;
                }
                let here = slice.len().min(room.len());
                let (from, later) = slice.split_at(here);
                let (to, behind) = core::mem::take(&mut room).split_at_mut(here);
                to.copy_from_slice(from);
                (slice, room) = (later, behind);
            }
            queue.counters.copied_bytes.add(len as u64);
            let buffer = self.write_lent(lba, buffer).await?;
            queue.pool.give(buffer);
            lba += len as u64 / u64::from(geometry.block_bytes);
            left -= len as u64;
        }
        Ok(())
    }

    /// Whose memory is used.
    fn copying_queue(&self, lba: u64) -> Result<&Queue<H>, DiskError> {
        let wish = self.wish(lba, self.block_bytes());
        self.controller.queue(wish).ok_or(DiskErrorKind::Gone.into())
    }
}

/// Bytes that are moved at once. A multiple of any block, as [`CHUNK_BYTES`] is.
fn chunk(left: u64) -> usize {
    left.min(CHUNK_BYTES as u64) as usize
}

const _: () = assert!(CHUNK_BYTES.is_multiple_of(65_536), "blocks have up to 65,536 bytes");
