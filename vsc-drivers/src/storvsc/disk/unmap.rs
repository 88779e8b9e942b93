//! Blocks that are no longer needed, or are to be zeros.

use core::sync::atomic::Ordering;

use hv_abi::scsi::data::{UnmapDescriptor, UnmapHeader};
use hv_abi::storvsp::DataDirection;
use zerocopy::IntoBytes;

use super::Disk;
use crate::hal::Hal;
use crate::storvsc::buffer::{IoBuffer, Lent};
use crate::storvsc::command::Command;
use crate::storvsc::error::{DiskError, DiskErrorKind};
use crate::storvsc::facts::{DiscardBy, Geometry};
use crate::storvsc::pieces::Piece;

impl<H: Hal> Disk<H> {
    /// Tells the disk that `blocks` blocks from `lba` on are no longer needed. They then have anything in them.
    ///
    /// # Errors
    ///
    /// [`DiskErrorKind::Unsupported`] if the disk can't be told; others.
    pub async fn discard(&self, lba: u64, blocks: u64) -> Result<(), DiskError> {
        let geometry = self.check_writable()?;
        check(lba, blocks, geometry)?;
        let provisioning = self.shape().provisioning;
        let by = provisioning.by.ok_or(DiskErrorKind::Unsupported)?;
        match by {
            DiscardBy::Unmap => {
                self.unmap(lba, blocks, provisioning.max_discard_blocks, geometry).await
            }
            DiscardBy::WriteSame => {
                self.same(lba, blocks, provisioning.max_write_same, geometry, true).await
            }
        }
    }

    async fn unmap(
        &self,
        lba: u64,
        blocks: u64,
        most: u32,
        geometry: Geometry,
    ) -> Result<(), DiskError> {
        let (mut lba, end) = (lba, lba + blocks);
        while lba < end {
            let here = part(end - lba, most);
            let buffer = parameters(lba, here).ok_or(DiskErrorKind::NoMemory)?;
            let piece = Piece::whole(PARAMETER_BYTES.into());
            let (address, command) = (self.address(), Command::unmap(PARAMETER_BYTES));
            let wish = self.wish(lba, geometry.block_bytes);
            let lent = Lent::One(buffer);
            self.controller.execute(wish, address, &command, lent, Some(piece)).await.result?;
            lba += u64::from(here);
        }
        Ok(())
    }

    /// Makes `blocks` blocks from `lba` on zeros, by a command for that if the disk has it.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; the blocks then have anything in them.
    pub async fn write_zeroes(&self, lba: u64, blocks: u64) -> Result<(), DiskError> {
        let geometry = self.check_writable()?;
        check(lba, blocks, geometry)?;
        // Linux does without before version 6.2 (`no_write_same`), and where the disk refuses once.
        let known = self.controller.version >= hv_abi::storvsp::StorvspVersion::V6_2;
        if known && !self.unit.no_write_same.load(Ordering::Relaxed) {
            let most = self.shape().provisioning.max_write_same;
            match self.same(lba, blocks, most, geometry, false).await {
                Err(error) if error.kind == DiskErrorKind::IllegalRequest => {
                    self.unit.no_write_same.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.zeros(lba, blocks, geometry).await
    }

    /// WRITE SAME of a block of zeros.
    async fn same(
        &self,
        lba: u64,
        blocks: u64,
        most: u32,
        geometry: Geometry,
        unmap: bool,
    ) -> Result<(), DiskError> {
        let (mut lba, end) = (lba, lba + blocks);
        while lba < end {
            let here = part(end - lba, most);
            let command = Command::write_same(lba, here, geometry.block_bytes, unmap);
            let piece = Piece::whole(geometry.block_bytes);
            let (address, wish) = (self.address(), self.wish(lba, geometry.block_bytes));
            let lent = Lent::Zeros;
            self.controller.execute(wish, address, &command, lent, Some(piece)).await.result?;
            lba += u64::from(here);
        }
        Ok(())
    }

    /// Ordinary writes, all of the same page.
    async fn zeros(&self, lba: u64, blocks: u64, geometry: Geometry) -> Result<(), DiskError> {
        let most = self.max_transfer_bytes() / geometry.block_bytes;
        let most = if most == 0 { return Err(DiskErrorKind::Unsupported.into()) } else { most };
        let (mut lba, end) = (lba, lba + blocks);
        while lba < end {
            let here = part(end - lba, most);
            let write = DataDirection::WRITE;
            let command = Command::transfer(write, lba, here, geometry.block_bytes, false);
            let piece = Piece::whole(command.data_bytes);
            let (address, wish) = (self.address(), self.wish(lba, geometry.block_bytes));
            let lent = Lent::Zeros;
            let done = self.controller.execute(wish, address, &command, lent, Some(piece)).await;
            if done.result? != command.data_bytes {
                return Err(DiskErrorKind::ShortTransfer.into());
            }
            lba += u64::from(here);
        }
        Ok(())
    }
}

fn check(lba: u64, blocks: u64, geometry: Geometry) -> Result<(), DiskErrorKind> {
    let end = lba.checked_add(blocks);
    end.filter(|end| *end <= geometry.blocks).map(|_| ()).ok_or(DiskErrorKind::OutOfRange)
}

/// Blocks of the next command: `left`, but not more than `most`.
fn part(left: u64, most: u32) -> u32 {
    u32::try_from(left).unwrap_or(u32::MAX).min(most.max(1))
}

/// Bytes of the parameters of an UNMAP of one descriptor.
const PARAMETER_BYTES: u16 = (size_of::<UnmapHeader>() + size_of::<UnmapDescriptor>()) as u16;

/// The parameters of UNMAP.
fn parameters(lba: u64, blocks: u32) -> Option<IoBuffer> {
    let header = UnmapHeader {
        // Behind this field, so without its own two bytes.
        data_length: (PARAMETER_BYTES - 2).into(),
        descriptors_length: (size_of::<UnmapDescriptor>() as u16).into(),
        _reserved: 0.into(),
    };
    let (lba, blocks) = (lba.into(), blocks.into());
    let descriptor = UnmapDescriptor { lba, blocks, _reserved: 0.into() };
    let mut buffer = IoBuffer::zeroed(PARAMETER_BYTES.into())?;
    let all = header.as_bytes().iter().chain(descriptor.as_bytes());
    buffer.iter_mut().zip(all).for_each(|(to, byte)| *to = *byte);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_are_the_standards() {
        // SBC-3, UNMAP parameter list: 22 bytes behind the first field, 16 of them descriptors.
        let expected =
            [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0x10, 0, 0, 0, 0, 0];
        assert_eq!(*parameters(0x1_0203_0405, 0x1000).unwrap(), expected);
    }

    #[test]
    fn parts_make_progress_whatever_the_limit() {
        assert_eq!(part(10, 0), 1);
        assert_eq!(part(u64::MAX, u32::MAX), u32::MAX);
        assert_eq!(part(3, 8), 3);
    }
}
