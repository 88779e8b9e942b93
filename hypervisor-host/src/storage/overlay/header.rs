//! How an overlay's store is laid out, and its head on disk: little-endian, in a page of its own.
//!
//! | offset | bytes | content |
//! | --- | --- | --- |
//! | 0 | 8 | `ENLCOW1\n` |
//! | 8 | 8 | bytes of the disk |
//! | 16 | 8 | bytes of a cluster: 4096 |
//! | 24 | 8 | when the base was changed last, nanoseconds since 1970 (two's complement) |
//!
//! From 4096 on is the map, from the next multiple of 1 MiB the clusters.

use zerocopy::byteorder::little_endian::{I64, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::map::{CLUSTER_BYTES, map_bytes};

const MAGIC: [u8; 8] = *b"ENLCOW1\n";
const HEADER_BYTES: u64 = 4096;
const DATA_ALIGNMENT: u64 = 1 << 20;
/// The largest disk, 16 TiB: its map, which is kept in memory, has 512 MiB.
const MAX_DISK_BYTES: u64 = 1 << 44;

/// Where the parts of a store are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the disk.
    pub disk_bytes: u64,
    /// Where the map begins.
    pub map_offset: u64,
    /// Where the clusters begin.
    data_start: u64,
}

impl Layout {
    /// The layout for a disk; `None` if it is too large.
    pub fn new(disk_bytes: u64) -> Option<Self> {
        if disk_bytes > MAX_DISK_BYTES {
            return None;
        }
        let data_start = (HEADER_BYTES + map_bytes(disk_bytes)).next_multiple_of(DATA_ALIGNMENT);
        Some(Self { disk_bytes, map_offset: HEADER_BYTES, data_start })
    }

    /// Where in the store a byte of the disk is.
    pub fn data_offset(&self, offset: u64) -> u64 {
        self.data_start.saturating_add(offset)
    }

    /// Bytes of the map.
    pub fn map_bytes(&self) -> u64 {
        map_bytes(self.disk_bytes)
    }

    /// Bytes of the store.
    pub fn store_bytes(&self) -> u64 {
        self.data_offset(self.disk_bytes.next_multiple_of(CLUSTER_BYTES))
    }
}

/// The head.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    magic: [u8; 8],
    disk_bytes: U64,
    cluster_bytes: U64,
    base_changed_ns: I64,
}

const _: () = assert!(size_of::<Header>() == 32);

/// What a head says of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fits {
    /// It is this one.
    Yes,
    /// It is no head.
    NoOverlay,
    /// It has another size.
    OtherSize(u64),
    /// It has been changed since.
    Changed,
}

impl Header {
    /// The head for a base of this size, changed last at that time.
    pub fn new(disk_bytes: u64, base_changed_ns: i64) -> Self {
        Self {
            magic: MAGIC,
            disk_bytes: disk_bytes.into(),
            cluster_bytes: CLUSTER_BYTES.into(),
            base_changed_ns: base_changed_ns.into(),
        }
    }

    /// Whether it is the head for a base.
    pub fn fits(&self, disk_bytes: u64, base_changed_ns: i64) -> Fits {
        if self.magic != MAGIC || self.cluster_bytes.get() != CLUSTER_BYTES {
            Fits::NoOverlay
        } else if self.disk_bytes.get() != disk_bytes {
            Fits::OtherSize(self.disk_bytes.get())
        } else if self.base_changed_ns.get() != base_changed_ns {
            Fits::Changed
        } else {
            Fits::Yes
        }
    }

    /// Whether it is what a file has in which nothing was ever written.
    pub fn is_blank(&self) -> bool {
        self.as_bytes().iter().all(|&byte| byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap() {
        for disk_bytes in [512, 4096, 1 << 30, (1 << 40) + 512, MAX_DISK_BYTES] {
            let layout = Layout::new(disk_bytes).unwrap();
            assert!(layout.map_offset + layout.map_bytes() <= layout.data_offset(0));
            assert!(layout.store_bytes() >= layout.data_offset(disk_bytes));
            assert_eq!(layout.data_offset(0) % DATA_ALIGNMENT, 0);
        }
        assert_eq!(Layout::new(MAX_DISK_BYTES + 512), None);
    }

    #[test]
    fn a_head_knows_its_base() {
        let header = Header::new(1 << 20, -5);
        assert_eq!(&header.as_bytes()[..16], b"ENLCOW1\n\0\0\x10\0\0\0\0\0");
        assert_eq!(header.fits(1 << 20, -5), Fits::Yes);
        assert_eq!(header.fits(1 << 21, -5), Fits::OtherSize(1 << 20));
        assert_eq!(header.fits(1 << 20, 5), Fits::Changed);
        let zeros = Header::read_from_bytes(&[0; 32]).unwrap();
        assert_eq!((zeros.fits(0, 0), zeros.is_blank()), (Fits::NoOverlay, true));
    }
}
