//! What a unit says of itself, from the bytes of its answers to what the driver relies on.
//!
//! Each function gets the bytes that came, however few, and gives nothing rather than something that can't be.

use alloc::string::String;
use alloc::vec::Vec;

use hv_abi::scsi::data::{LBPME, ReadCapacity10, ReadCapacity16, ReportLunsHeader};
use hv_abi::scsi::inquiry::{
    BlockLimits, InquiryData, LBPU, LBPWS, LogicalBlockProvisioning, PERIPHERAL_DISK, UGAVALID,
    VpdHeader, vpd_page,
};
use hv_abi::scsi::mode::{MODE_DPOFUA, MODE_WP, ModeHeader6};
use zerocopy::FromBytes;

/// Size and shape of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a block: a power of two from 512 to 65,536.
    pub block_bytes: u32,
    /// Blocks. Their bytes fit in 64 bits.
    pub blocks: u64,
}

impl Geometry {
    /// Blocks up to `last_lba`; `None` if there can be no such disk.
    pub(super) fn new(last_lba: u64, block_bytes: u32) -> Option<Self> {
        let blocks = last_lba.checked_add(1)?;
        blocks.checked_mul(block_bytes.into())?;
        let sane = block_bytes.is_power_of_two() && (512..=65_536).contains(&block_bytes);
        sane.then_some(Self { block_bytes, blocks })
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        // Fits, by construction.
        self.blocks.saturating_mul(self.block_bytes.into())
    }
}

/// READ CAPACITY (10): what it says, or that only the longer form can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capacity10 {
    Known(Geometry),
    TooLarge,
}

pub(super) fn capacity_10(bytes: &[u8]) -> Option<Capacity10> {
    let (data, _) = ReadCapacity10::read_from_prefix(bytes).ok()?;
    if data.last_lba.get() == u32::MAX {
        return Some(Capacity10::TooLarge);
    }
    Geometry::new(data.last_lba.get().into(), data.block_bytes.get()).map(Capacity10::Known)
}

/// READ CAPACITY (16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity16 {
    pub(super) geometry: Geometry,
    /// Bytes of a physical block.
    pub(super) physical_block_bytes: u32,
    /// Whether blocks may be unmapped.
    pub(super) provisioned: bool,
}

pub(super) fn capacity_16(bytes: &[u8]) -> Option<Capacity16> {
    // Disks may leave the reserved end away.
    let mut whole = [0; size_of::<ReadCapacity16>()];
    whole.iter_mut().zip(bytes.get(..16)?).for_each(|(to, byte)| *to = *byte);
    let data = ReadCapacity16::read_from_bytes(&whole).ok()?;
    let geometry = Geometry::new(data.last_lba.get(), data.block_bytes.get())?;
    let factor = 1u32 << (data.physical_exponent & 0x0F);
    Some(Capacity16 {
        geometry,
        physical_block_bytes: geometry.block_bytes.saturating_mul(factor),
        provisioned: data.provisioning_and_alignment.get() & LBPME != 0,
    })
}

/// Names of a disk, as it gives them, trimmed; not for trusting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Which revision.
    pub revision: String,
    /// Serial number; empty if it has none.
    pub serial: String,
    /// Device identification page, as it came; empty if there is none.
    pub(super) designators: Vec<u8>,
}

/// Whether there is a disk, and its names; `None` if it is anything else.
pub(super) fn inquiry(bytes: &[u8]) -> Option<Identity> {
    let (data, _) = InquiryData::read_from_prefix(bytes).ok()?;
    // The qualifier in the upper three bits says that it is there.
    (data.peripheral == PERIPHERAL_DISK).then(|| Identity {
        vendor: text(&data.vendor),
        product: text(&data.product),
        revision: text(&data.revision),
        ..Identity::default()
    })
}

/// Printable ASCII without blanks at the ends.
fn text(bytes: &[u8]) -> String {
    let printable = |byte: &u8| if (0x20..0x7F).contains(byte) { char::from(*byte) } else { ' ' };
    let text: String = bytes.iter().map(printable).collect();
    String::from(text.trim())
}

/// What is behind the header of a page, as far as it came; `None` if it is another page.
pub(super) fn vpd(bytes: &[u8], page: u8) -> Option<&[u8]> {
    let (header, rest) = VpdHeader::read_from_prefix(bytes).ok()?;
    let len = usize::from(header.page_length.get()).min(rest.len());
    (header.page_code == page).then(|| rest.get(..len))?
}

/// Whether the page of pages lists `page`.
pub(super) fn lists_page(bytes: &[u8], page: u8) -> bool {
    vpd(bytes, vpd_page::SUPPORTED_PAGES).is_some_and(|pages| pages.contains(&page))
}

/// The serial number in its page.
pub(super) fn serial(bytes: &[u8]) -> Option<String> {
    vpd(bytes, vpd_page::UNIT_SERIAL_NUMBER).map(text)
}

/// How a disk can be told that blocks are not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiscardBy {
    Unmap,
    WriteSame,
}

/// How blocks can be discarded and zeroed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Provisioning {
    pub(super) by: Option<DiscardBy>,
    /// Blocks of one discard, at most.
    pub max_discard_blocks: u32,
    /// Discards should be multiples of so many blocks, at least 1.
    pub granularity_blocks: u32,
    /// First block at which an aligned discard may begin.
    pub alignment_blocks: u32,
    /// Blocks of one WRITE SAME, at most.
    pub(super) max_write_same: u32,
}

/// Blocks of one WRITE SAME where the disk tells no limit; many can't be told in the command's 32 bits.
const DEFAULT_WRITE_SAME: u32 = 0xFFFF;

/// From the pages of block limits and of provisioning, as far as they came.
pub(super) fn provisioning(limits: &[u8], provisioning: &[u8], provisioned: bool) -> Provisioning {
    let limits = vpd(limits, vpd_page::BLOCK_LIMITS).and_then(read_padded::<BlockLimits>);
    let flags = vpd(provisioning, vpd_page::LOGICAL_BLOCK_PROVISIONING)
        .and_then(read_padded::<LogicalBlockProvisioning>)
        .map_or(0, |page| page.flags);
    let limits = limits.unwrap_or_default();
    let max_write_same = match u32::try_from(limits.max_write_same.get()) {
        Ok(0) | Err(_) => DEFAULT_WRITE_SAME,
        Ok(blocks) => blocks,
    };
    let (unmap_blocks, descriptors) =
        (limits.max_unmap_blocks.get(), limits.max_unmap_descriptors.get());
    let can_unmap = flags & LBPU != 0 && unmap_blocks != 0 && descriptors != 0;
    let (by, max_discard_blocks) = match provisioned {
        true if can_unmap => (Some(DiscardBy::Unmap), unmap_blocks),
        true if flags & LBPWS != 0 => (Some(DiscardBy::WriteSame), max_write_same),
        _ => (None, 0),
    };
    let granularity_blocks = limits.optimal_unmap_granularity.get().max(1);
    let alignment = limits.unmap_alignment.get();
    let is_aligned = alignment & UGAVALID != 0;
    Provisioning {
        by,
        max_discard_blocks,
        granularity_blocks,
        alignment_blocks: if is_aligned { (alignment & !UGAVALID) % granularity_blocks } else { 0 },
        max_write_same,
    }
}

/// A page's contents, with zeros where it ends early.
fn read_padded<T: FromBytes + zerocopy::IntoBytes>(bytes: &[u8]) -> Option<T> {
    let mut value = T::new_zeroed();
    let room = value.as_mut_bytes();
    room.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
    Some(value)
}

/// From MODE SENSE (6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ModeFacts {
    pub(super) read_only: bool,
    /// Whether writes can be told to go to the medium at once.
    pub(super) unit_access: bool,
}

pub(super) fn mode(bytes: &[u8]) -> Option<ModeFacts> {
    let (header, _) = ModeHeader6::read_from_prefix(bytes).ok()?;
    let flag = |bit| header.device_specific & bit != 0;
    Some(ModeFacts { read_only: flag(MODE_WP), unit_access: flag(MODE_DPOFUA) })
}

/// The units that REPORT LUNS tells of, in order, without those that the protocol has no number for.
pub(super) fn luns(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = ReportLunsHeader::read_from_prefix(bytes).ok()?;
    let len = (header.list_length.get() as usize).min(rest.len());
    let entries = rest.get(..len)?.chunks_exact(8);
    let mut luns: Vec<u8> = entries.filter_map(|entry| entry.first_chunk().and_then(lun)).collect();
    luns.sort_unstable();
    luns.dedup();
    Some(luns)
}

/// SAM-5, *Single level LUN structure*: peripheral device addressing on bus 0, or flat space addressing.
fn lun(entry: &[u8; 8]) -> Option<u8> {
    let [first, second, rest @ ..] = *entry;
    let method_is_known = first == 0 || first == 0x40;
    (method_is_known && rest == [0; 6]).then_some(second)
}

#[cfg(test)]
#[path = "facts/tests.rs"]
mod tests;
