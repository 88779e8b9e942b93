//! SCSI commands, one rule each, on the scratch disk: what the standards say, whatever the driver makes of it.
//!
//! A case is written once, for any [`target::Target`]. Here it runs past the driver, on a controller's channel
//! ([`crate::scsi_client`]); [`on`] has the same cases for other ways to a disk, such as another system's driver.
//!
//! - [`inquiry`]: what a disk tells of itself; [`commands`]: which there are, and errors; [`mode`]: mode pages
//! - [`blocks`]: reading and writing; [`space`]: WRITE SAME and UNMAP
//! - [`target`]: what carries a command out; [`cdb`]: command blocks

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::scsi::inquiry::{BlockLimits, vpd_page};
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};
use zerocopy::FromBytes;

use crate::Problem;
use crate::storage::pattern;
use crate::support::check;

pub mod blocks;
pub mod cdb;
pub mod commands;
pub mod inquiry;
pub mod mode;
pub mod space;
pub mod target;

pub use blocks::*;
pub use commands::*;
pub use inquiry::*;
pub use mode::*;
pub use space::*;

use target::{ScsiDisk, Target};

/// The cases for a disk behind any [`Target`].
pub mod on {
    pub use super::blocks::on::*;
    pub use super::commands::on::*;
    pub use super::inquiry::on::*;
    pub use super::mode::on::*;
    pub use super::space::on::*;
}

/// Where cases write.
const LBA: u64 = 64;
const BAD_COMMAND: AdditionalSense = AdditionalSense::INVALID_COMMAND_OPERATION_CODE;
const BAD_FIELD: AdditionalSense = AdditionalSense::INVALID_FIELD_IN_CDB;
const ILLEGAL: SenseKey = SenseKey::ILLEGAL_REQUEST;

fn patterned(seed: u32, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    pattern(seed, &mut data);
    data
}

/// A page of vital product data without its header.
async fn page<T: Target>(disk: &ScsiDisk<'_, T>, page: u8) -> Result<Vec<u8>, Problem> {
    let answer = disk.get(&cdb::inquiry(Some(page), 255), 255).await?;
    check(answer.len() >= 4 && answer[1] == page, || format!("page {page:#x}: {answer:x?}"))?;
    let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    check(answer.len() == 4 + length, || format!("page {page:#x} says {length} bytes"))?;
    Ok(answer[4..].to_vec())
}

/// Whether the disk takes blocks back.
async fn is_thin<T: Target>(disk: &ScsiDisk<'_, T>) -> Result<bool, Problem> {
    let capacity = disk.get(&cdb::read_capacity_16(32), 32).await?;
    Ok(capacity.get(14).is_some_and(|flags| flags & 0x80 != 0))
}

async fn limits<T: Target>(disk: &ScsiDisk<'_, T>) -> Result<BlockLimits, Problem> {
    let bytes = page(disk, vpd_page::BLOCK_LIMITS).await?;
    BlockLimits::read_from_bytes(&bytes).map_err(|_| Problem::Fail("block limits".into()))
}
