//! A disk.

mod slices;
mod unmap;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use hv_abi::storvsp::DataDirection;

use super::buffer::{IoBuffer, Lent};
use super::command::Command;
use super::controller::Controller;
use super::error::{DiskError, DiskErrorKind, Failed};
use super::facts::{Geometry, Identity, Provisioning};
use super::inventory::{Shape, Unit};
use super::slots::Address;
use super::transfer::{Ended, Transfer};
use crate::hal::Hal;

/// Blocks in a row that go by the same channel: 64 KiB and more.
const STRIPE_BYTES: u64 = 64 << 10;

/// A disk. Clones are the same disk.
///
/// The futures may be dropped at any time: the request then goes on without anybody, and so may still be executed.
///
/// | call | memory | copies |
/// | --- | --- | --- |
/// | [`read`](Self::read), [`write`](Self::write), [`read_vectored`](Self::read_vectored), [`write_vectored`](Self::write_vectored) | slices | one |
/// | [`read_lent`](Self::read_lent), [`write_lent`](Self::write_lent) and those of several buffers | [`IoBuffer`]s, given away and got back | none |
///
/// Requests longer than the host takes are split, and the parts executed at the same time.
pub struct Disk<H: Hal> {
    pub(super) controller: Arc<Controller<H>>,
    pub(super) unit: Arc<Unit>,
    channel: Option<u16>,
}

impl<H: Hal> Clone for Disk<H> {
    fn clone(&self) -> Self {
        let (controller, unit) = (self.controller.clone(), self.unit.clone());
        Self { controller, unit, channel: self.channel }
    }
}

impl<H: Hal> Disk<H> {
    pub(super) fn new(controller: Arc<Controller<H>>, unit: Arc<Unit>) -> Self {
        Self { controller, unit, channel: None }
    }

    /// The same disk, with requests that all go by the channel numbered `channel` for as long as that is there. Otherwise the block's address
    /// says which.
    #[must_use]
    pub fn on_channel(mut self, channel: u16) -> Self {
        self.channel = Some(channel);
        self
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.unit.address
    }

    /// Names.
    pub fn identity(&self) -> &Identity {
        &self.unit.identity
    }

    /// Bytes of a block; of a disk this never changes.
    pub fn block_bytes(&self) -> u32 {
        self.unit.geometry().block_bytes
    }

    /// Bytes of the blocks that the disk has inside: shorter or misaligned writes may be slow.
    pub fn physical_block_bytes(&self) -> u32 {
        self.shape().physical_block_bytes
    }

    /// Number of blocks, at the moment.
    pub fn blocks(&self) -> u64 {
        self.unit.geometry().blocks
    }

    /// Whether it can't be written to, at the moment.
    pub fn is_read_only(&self) -> bool {
        self.unit.is_read_only()
    }

    /// Whether it is no longer there.
    pub fn is_gone(&self) -> bool {
        self.unit.is_gone()
    }

    /// What it says of discarding and zeroing; `None` if it can't discard.
    pub fn provisioning(&self) -> Option<Provisioning> {
        let provisioning = self.shape().provisioning;
        provisioning.by.map(|_| provisioning)
    }

    /// Bytes of the longest request that goes to the host in one piece.
    pub fn max_transfer_bytes(&self) -> u32 {
        self.controller.max_transfer_bytes
    }

    pub(super) fn shape(&self) -> Shape {
        self.unit.shape()
    }

    fn check(&self) -> Result<Geometry, DiskError> {
        match self.is_gone() {
            false => Ok(self.unit.geometry()),
            true if self.controller.queue(0).is_none() => Err(DiskErrorKind::Gone.into()),
            true => Err(DiskErrorKind::NoSuchLun.into()),
        }
    }

    fn check_writable(&self) -> Result<Geometry, DiskError> {
        let geometry = self.check()?;
        if self.is_read_only() { Err(DiskErrorKind::ReadOnly.into()) } else { Ok(geometry) }
    }

    /// The channel for blocks from `lba` on.
    fn wish(&self, lba: u64, block_bytes: u32) -> usize {
        match self.channel {
            Some(channel) => usize::from(channel),
            None => (lba.saturating_mul(block_bytes.into()) / STRIPE_BYTES) as usize,
        }
    }

    /// Reads into `buffer`, from block `lba` on.
    ///
    /// # Errors
    ///
    /// [`Failed`], with the buffer if the host can't write to it any longer. It then has anything in it.
    pub async fn read_lent(&self, lba: u64, buffer: IoBuffer) -> Result<IoBuffer, Failed> {
        one(self.transfer(DataDirection::READ, lba, Lent::One(buffer), false).await)
    }

    /// Writes `buffer`, from block `lba` on. It may not be on the medium before [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Failed`], with the buffer if the host can't read it any longer. The blocks then have anything in them.
    pub async fn write_lent(&self, lba: u64, buffer: IoBuffer) -> Result<IoBuffer, Failed> {
        one(self.transfer(DataDirection::WRITE, lba, Lent::One(buffer), false).await)
    }

    /// Reads into several buffers, each a whole number of blocks at any address.
    ///
    /// # Errors
    ///
    /// As [`read_lent`](Self::read_lent).
    pub async fn read_lent_vectored(
        &self,
        lba: u64,
        buffers: Vec<IoBuffer>,
    ) -> Result<Vec<IoBuffer>, Failed> {
        let lent = Lent::Shared(Arc::new(buffers));
        self.transfer(DataDirection::READ, lba, lent, false).await.into_buffers()
    }

    /// Writes several buffers, each a whole number of blocks at any address.
    ///
    /// # Errors
    ///
    /// As [`write_lent`](Self::write_lent).
    pub async fn write_lent_vectored(
        &self,
        lba: u64,
        buffers: Vec<IoBuffer>,
    ) -> Result<Vec<IoBuffer>, Failed> {
        let lent = Lent::Shared(Arc::new(buffers));
        self.transfer(DataDirection::WRITE, lba, lent, false).await.into_buffers()
    }

    /// Writes `buffer`, and waits until it is on the medium. Says nothing of other writes.
    ///
    /// # Errors
    ///
    /// As [`write_lent`](Self::write_lent).
    pub async fn write_through(&self, lba: u64, buffer: IoBuffer) -> Result<IoBuffer, Failed> {
        let unit_access = self.shape().unit_access;
        let ended = self.transfer(DataDirection::WRITE, lba, Lent::One(buffer), unit_access).await;
        let buffer = one(ended)?;
        match if unit_access { Ok(()) } else { self.flush().await } {
            Ok(()) => Ok(buffer),
            Err(error) => Err(Failed { error, buffers: Vec::from([buffer]) }),
        }
    }

    /// Waits until all writes that have ended are on the medium (SYNCHRONIZE CACHE).
    ///
    /// # Errors
    ///
    /// [`DiskError`]; what was written may then be lost.
    pub async fn flush(&self) -> Result<(), DiskError> {
        self.check()?;
        let wish = self.channel.map_or(0, usize::from);
        self.controller.order(wish, self.address(), &Command::synchronize_cache()).await
    }

    async fn transfer(
        &self,
        direction: DataDirection,
        lba: u64,
        lent: Lent,
        unit_access: bool,
    ) -> Ended {
        let is_write = direction == DataDirection::WRITE;
        let geometry = match if is_write { self.check_writable() } else { self.check() } {
            Ok(geometry) => geometry,
            Err(error) => return Ended::failed(error, lent),
        };
        if let Err(kind) = check_lent(&lent, lba, geometry) {
            return Ended::failed(kind.into(), lent);
        }
        let block_bytes = geometry.block_bytes;
        let wish = self.wish(lba, block_bytes);
        let address = self.address();
        let transfer = Transfer { address, direction, lba, block_bytes, unit_access, wish };
        self.controller.transfer(transfer, lent).await
    }
}

/// Whether all buffers are whole blocks, and all blocks are on the disk.
fn check_lent(lent: &Lent, lba: u64, geometry: Geometry) -> Result<(), DiskErrorKind> {
    let mut bytes = 0u64;
    let segments = (0..).map_while(|index| lent.segment(index));
    for segment in segments {
        let len = segment.len as u64;
        if !len.is_multiple_of(geometry.block_bytes.into()) {
            return Err(DiskErrorKind::Misaligned);
        }
        bytes = bytes.checked_add(len).ok_or(DiskErrorKind::OutOfRange)?;
    }
    Transfer::check(lba, bytes, geometry).map(|_| ())
}

/// The one buffer of a transfer.
fn one(ended: Ended) -> Result<IoBuffer, Failed> {
    let mut buffers = ended.into_buffers()?;
    buffers.pop().ok_or_else(|| Failed { error: DiskErrorKind::BadReply.into(), buffers })
}

impl<H: Hal> fmt::Debug for Disk<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("address", &self.address())
            .field("product", &self.unit.identity.product)
            .field("geometry", &self.unit.geometry())
            .finish_non_exhaustive()
    }
}
