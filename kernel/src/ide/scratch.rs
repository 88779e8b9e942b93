//! A disk that tests may overwrite: it says so itself, in its first sector.
//!
//! Whoever makes such a disk and whoever looks at it afterwards agree with the tests by these functions.

use hv_abi::ata::SECTOR_BYTES;

/// How its first sector begins.
pub const MARK: &[u8; 32] = b"ENLIGHTEN SCRATCH DISK, 1       ";

/// A run of sectors that a test fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// For [`fill_all`].
    pub seed: u64,
    /// Its first sector.
    pub lba: u64,
    /// How many.
    pub sectors: u64,
}

/// Most sectors of a region of [`by_mode`].
pub const MAX_SECTORS: u64 = 592;

/// What is filled by PIO, PIO of several sectors and DMA, each polled and then with interrupts: by PIO so many sectors, at most
/// [`MAX_SECTORS`], and so many by DMA.
pub const fn by_mode(pio_sectors: u64) -> [Region; 6] {
    let mut regions = [Region { seed: 0, lba: 0, sectors: MAX_SECTORS }; 6];
    let mut index = 0;
    while index < regions.len() {
        regions[index].seed = 1 + index as u64;
        regions[index].lba = 64 + 1024 * index as u64;
        if index < 4 && pio_sectors < MAX_SECTORS {
            regions[index].sectors = pio_sectors;
        }
        index += 1;
    }
    regions
}

/// Across the end of what 28 bits of address reach (128 GiB).
pub const ACROSS_28_BITS: Region = Region { seed: 48, lba: (1 << 28) - 20, sectors: 600 };

/// What a CD-ROM of tests is filled with behind its first sector of 2,048 bytes, in units of 512 bytes.
pub const CD_SEED: u64 = 77;

/// Whether a first sector says so.
pub fn is_scratch(sector: &[u8]) -> bool {
    sector.starts_with(MARK)
}

/// What a test writes to a sector: a different content for each `seed` and each sector.
pub fn fill(seed: u64, lba: u64, sector: &mut [u8]) {
    let mut state =
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ lba.wrapping_mul(0xD6E8_FEB8_6659_FD93) | 1;
    for word in sector.chunks_mut(8) {
        // xorshift64 (Marsaglia, *Xorshift RNGs*).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

/// Fills whole sectors from `lba` on.
pub fn fill_all(seed: u64, lba: u64, bytes: &mut [u8]) {
    for (sector, lba) in bytes.chunks_mut(SECTOR_BYTES).zip(lba..) {
        fill(seed, lba, sector);
    }
}

/// Whether `bytes` are what [`fill_all`] writes.
pub fn is_filled(seed: u64, lba: u64, bytes: &[u8]) -> bool {
    let mut expected = [0; SECTOR_BYTES];
    bytes.chunks(SECTOR_BYTES).zip(lba..).all(|(sector, lba)| {
        fill(seed, lba, &mut expected);
        *sector == expected[..sector.len()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_differ_by_seed_and_sector() {
        let mut bytes = [0; 2 * SECTOR_BYTES];
        fill_all(1, 7, &mut bytes);
        assert!(is_filled(1, 7, &bytes));
        assert!(!is_filled(2, 7, &bytes) && !is_filled(1, 8, &bytes));
        assert!(bytes[..SECTOR_BYTES] != bytes[SECTOR_BYTES..]);
        bytes[1000] ^= 1;
        assert!(!is_filled(1, 7, &bytes));
    }
}
