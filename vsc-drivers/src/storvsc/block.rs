//! A block device as file systems and caches want one: the smallest trait that is asynchronous, and a blocking adapter.
//!
//! Its own rather than `block-device-driver`'s (0.2, the one asynchronous trait for whole blocks on crates.io): that counts blocks by 32 bits, has
//! their size as a type parameter, and lets implementations demand an alignment of buffers. `embedded-storage` is about flash that is erased.

use core::pin::pin;

use super::error::DiskError;
use super::{Disk, StorVsc};
use crate::hal::Hal;
use crate::task::block_on;

/// Blocks that are read and written.
#[expect(async_fn_in_trait, reason = "no executor is forced, so neither is `Send`")]
pub trait BlockDevice {
    /// What goes wrong.
    type Error: core::error::Error;

    /// Bytes of a block.
    fn block_bytes(&self) -> u32;

    /// Number of blocks.
    fn blocks(&self) -> u64;

    /// Whether it can't be written to.
    fn is_read_only(&self) -> bool;

    /// Reads a whole number of blocks, from block `lba` on.
    ///
    /// # Errors
    ///
    /// The device's own; `bytes` then has anything in it.
    async fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes a whole number of blocks, from block `lba` on.
    ///
    /// # Errors
    ///
    /// The device's own; the blocks then have anything in them.
    async fn write(&self, lba: u64, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Waits until all writes that have ended will outlive a loss of power.
    ///
    /// # Errors
    ///
    /// The device's own.
    async fn flush(&self) -> Result<(), Self::Error>;
}

impl<H: Hal> BlockDevice for Disk<H> {
    type Error = DiskError;

    fn block_bytes(&self) -> u32 {
        Disk::block_bytes(self)
    }

    fn blocks(&self) -> u64 {
        Disk::blocks(self)
    }

    fn is_read_only(&self) -> bool {
        Disk::is_read_only(self)
    }

    async fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        Disk::read(self, lba, bytes).await
    }

    async fn write(&self, lba: u64, bytes: &[u8]) -> Result<(), DiskError> {
        Disk::write(self, lba, bytes).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Disk::flush(self).await
    }
}

/// A disk for code that can't wait asynchronously. Each call polls the controller's task until it is done.
///
/// For kernels where nobody else polls that task; otherwise [`block_on`] with the kernel's own background.
#[derive(Debug, Clone)]
pub struct BlockingDisk<H: Hal> {
    disk: Disk<H>,
}

impl<H: Hal> BlockingDisk<H> {
    /// Blocking access to `disk`.
    pub fn new(disk: Disk<H>) -> Self {
        Self { disk }
    }

    /// The disk.
    pub fn disk(&self) -> &Disk<H> {
        &self.disk
    }

    /// As [`Disk::read`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        self.wait(self.disk.read(lba, bytes))
    }

    /// As [`Disk::write`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write(&self, lba: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.wait(self.disk.write(lba, bytes))
    }

    /// As [`Disk::flush`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.wait(self.disk.flush())
    }

    /// Waits for anything else that the disk does.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        let controller = StorVsc { controller: self.disk.controller.clone() };
        block_on(&self.disk.controller.hal, pin!(controller.run()), future)
    }
}
