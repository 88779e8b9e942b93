//! A drive's task file: the registers by which commands get their parameters and give their results.
//!
//! Each register remembers what was written to it before, which is how 48-bit commands have 16 bits in 8 (ATA-6, *48-bit Address
//! feature set*).

use hv_abi::ata::{Signature, device, reg};

/// A register that remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Register {
    pub(super) now: u8,
    pub(super) before: u8,
}

impl Register {
    fn write(&mut self, value: u8) {
        *self = Self { now: value, before: self.now };
    }

    fn both(self) -> u16 {
        u16::from_be_bytes([self.before, self.now])
    }
}

/// How a command says where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressing {
    /// Cylinder, head, sector.
    Chs,
    /// 28 bits.
    Lba28,
    /// 48 bits.
    Lba48,
}

/// A translation of sectors into cylinders, heads and sectors (ATA-3, *Sector addressing*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors: u8,
}

impl Geometry {
    /// Most cylinders that a drive tells (ATA-6, *IDENTIFY DEVICE*, word 1).
    const MAX_CYLINDERS: u64 = 16_383;

    /// The translation of a drive with so many sectors, before anybody asks for another.
    pub(super) fn standard(capacity: u64) -> Self {
        const HEADS: u8 = 16;
        const SECTORS: u8 = 63;
        if capacity >= u64::from(HEADS) * u64::from(SECTORS) {
            return Self::with(capacity, HEADS, SECTORS);
        }
        Self::with(capacity, 1, capacity.clamp(1, SECTORS.into()) as u8)
    }

    /// Another, of so many heads (1 to 16) and sectors (1 to 255).
    pub(super) fn with(capacity: u64, heads: u8, sectors: u8) -> Self {
        let cylinder = u64::from(heads) * u64::from(sectors);
        let cylinders = capacity.checked_div(cylinder).unwrap_or(0);
        Self { cylinders: cylinders.min(Self::MAX_CYLINDERS) as u16, heads, sectors }
    }

    /// Sectors that it reaches.
    pub(super) fn capacity(self) -> u32 {
        u32::from(self.cylinders) * u32::from(self.heads) * u32::from(self.sectors)
    }
}

/// All registers but data, error, status and command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TaskFile {
    pub(super) features: Register,
    pub(super) count: Register,
    pub(super) low: Register,
    pub(super) mid: Register,
    pub(super) high: Register,
    pub(super) device: u8,
}

impl TaskFile {
    /// The guest writes the register at `offset`.
    pub(super) fn write(&mut self, offset: u16, value: u8) {
        match offset {
            reg::FEATURES => self.features.write(value),
            reg::SECTOR_COUNT => self.count.write(value),
            reg::LBA_LOW => self.low.write(value),
            reg::LBA_MID => self.mid.write(value),
            reg::LBA_HIGH => self.high.write(value),
            reg::DEVICE => self.device = value,
            _ => {}
        }
    }

    /// The guest reads the register at `offset`; with `before` what was in it before.
    pub(super) fn read(&self, offset: u16, before: bool) -> u8 {
        let register = match offset {
            reg::SECTOR_COUNT => self.count,
            reg::LBA_LOW => self.low,
            reg::LBA_MID => self.mid,
            reg::LBA_HIGH => self.high,
            _ => return self.device,
        };
        if before { register.before } else { register.now }
    }

    /// Says what the drive is.
    pub(super) fn set_signature(&mut self, signature: Signature) {
        let plain = |now| Register { now, before: 0 };
        self.count = plain(signature.sector_count);
        self.low = plain(signature.lba_low);
        self.mid = plain(signature.lba_mid);
        self.high = plain(signature.lba_high);
    }

    /// The number of sectors of a command of 28 or 48 bits.
    pub(super) fn sectors(&self, wide: bool) -> u64 {
        match (wide, self.count.now, self.count.both()) {
            (true, _, 0) => 1 << 16,
            (true, _, count) => count.into(),
            (false, 0, _) => 1 << 8,
            (false, count, _) => count.into(),
        }
    }

    /// The first sector, and how it was said. `None` for cylinder, head and sector that the translation does not have.
    pub(super) fn address(&self, wide: bool, geometry: Geometry) -> Option<(Addressing, u64)> {
        let bytes = |high, registers: [u8; 3]| {
            u64::from(u32::from_be_bytes([high, registers[2], registers[1], registers[0]]))
        };
        let low = [self.low.now, self.mid.now, self.high.now];
        if wide {
            let high = bytes(0, [self.low.before, self.mid.before, self.high.before]);
            return Some((Addressing::Lba48, high << 24 | bytes(0, low)));
        }
        let nibble = self.device & device::LOW_MASK;
        if self.device & device::LBA != 0 {
            return Some((Addressing::Lba28, bytes(nibble, low)));
        }
        let cylinder = u16::from_be_bytes([self.high.now, self.mid.now]);
        let sector = self.low.now.checked_sub(1)?;
        if sector >= geometry.sectors || nibble >= geometry.heads || cylinder >= geometry.cylinders
        {
            return None;
        }
        let track = u64::from(cylinder) * u64::from(geometry.heads) + u64::from(nibble);
        Some((Addressing::Chs, track * u64::from(geometry.sectors) + u64::from(sector)))
    }

    /// Tells a sector's address in the way in which the command had it.
    pub(super) fn set_address(&mut self, addressing: Addressing, sector: u64, geometry: Geometry) {
        let bytes = sector.to_le_bytes();
        let (mut low, mut nibble) = ([bytes[0], bytes[1], bytes[2]], bytes[3]);
        if addressing == Addressing::Chs {
            let sectors = u64::from(geometry.sectors).max(1);
            let (track, heads) = (sector / sectors, u64::from(geometry.heads).max(1));
            let [mid, high, ..] = (track / heads).to_le_bytes();
            low = [(sector % sectors + 1) as u8, mid, high];
            nibble = (track % heads) as u8;
        }
        let registers = [&mut self.low, &mut self.mid, &mut self.high];
        for ((register, low), high) in registers.into_iter().zip(low).zip(&bytes[3..6]) {
            register.now = low;
            if addressing == Addressing::Lba48 {
                register.before = *high;
            }
        }
        if addressing != Addressing::Lba48 {
            self.device = self.device & !device::LOW_MASK | nibble & device::LOW_MASK;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BIG: u64 = 1 << 30;

    #[test]
    fn geometry_is_that_of_the_standards_example() {
        // ATA-6, *IDENTIFY DEVICE*: 16,383 cylinders for more than 16,514,064 sectors.
        let large = Geometry::standard(16_514_064);
        assert_eq!((large.cylinders, large.heads, large.sectors), (16_383, 16, 63));
        assert_eq!(large.capacity(), 16_514_064);
        assert_eq!(Geometry::standard(BIG), large);
        assert_eq!(Geometry::standard(2016).cylinders, 2);
        assert_eq!(Geometry::standard(8), Geometry { cylinders: 1, heads: 1, sectors: 8 });
    }

    #[test]
    fn sectors_of_a_track_begin_with_one() {
        let geometry = Geometry::standard(BIG);
        let mut registers = TaskFile { device: 0xA1, ..TaskFile::default() };
        assert_eq!(registers.address(false, geometry), None, "sector 0");
        registers.write(reg::LBA_LOW, 1);
        assert_eq!(registers.address(false, geometry), Some((Addressing::Chs, 63)));
        registers.write(reg::LBA_LOW, 64);
        assert_eq!(registers.address(false, geometry), None, "no such sector");
    }

    #[test]
    fn no_sectors_are_the_most() {
        let mut registers = TaskFile::default();
        assert_eq!((registers.sectors(false), registers.sectors(true)), (256, 65_536));
        registers.write(reg::SECTOR_COUNT, 1);
        registers.write(reg::SECTOR_COUNT, 2);
        assert_eq!((registers.sectors(false), registers.sectors(true)), (2, 0x102));
    }

    proptest! {
        #[test]
        fn an_address_that_was_told_is_understood(
            sector in 0_u64..1 << 48, kind in 0..3, heads in 1_u8..17, sectors in 1_u8..255
        ) {
            let geometry = Geometry::with(u64::MAX, heads, sectors);
            let (addressing, sector) = match kind {
                0 => (Addressing::Chs, sector % u64::from(geometry.capacity())),
                1 => (Addressing::Lba28, sector & 0x0FFF_FFFF),
                _ => (Addressing::Lba48, sector),
            };
            let device = if kind == 0 { 0xA0 } else { 0xE0 };
            let mut registers = TaskFile { device, ..TaskFile::default() };
            registers.set_address(addressing, sector, geometry);
            let back = registers.address(kind == 2, geometry);
            prop_assert_eq!(back, Some((addressing, sector)));
        }
    }
}
