//! Commands as they are written to a drive's registers.

use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::{MAX_LBA28_SECTORS, MAX_LBA48_SECTORS, device};

/// Most sectors of one command with an address of 28 bits.
const MAX_28: u32 = 256;
/// Most sectors of one command with an address of 48 bits. The standard has 65,536; what a table of regions holds is less.
const MAX_48: u32 = 2048;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Which.
    pub code: AtaCommand,
    /// The features register.
    pub features: u8,
    /// The sector count register; its upper byte only with 48 bits.
    pub count: u16,
    /// The address registers.
    pub lba: u64,
    /// Which bits of address and count are written.
    pub reach: Reach,
}

/// Bits of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No address; what the registers hold is the command's own.
    None,
    /// 28.
    Lba28,
    /// 48: each register is written twice.
    Lba48,
}

impl Command {
    /// One without an address.
    pub const fn plain(code: AtaCommand) -> Self {
        Self { code, features: 0, count: 0, lba: 0, reach: Reach::None }
    }

    /// The same with these features and this count.
    #[must_use]
    pub const fn with(mut self, features: u8, count: u16) -> Self {
        self.features = features;
        self.count = count;
        self
    }

    /// One for `sectors` sectors from `lba` on, as the first of `codes` if 28 bits are enough, else as the second. `None` if they do not fit
    /// into one command.
    pub fn sectors(
        codes: (AtaCommand, AtaCommand),
        lba: u64,
        sectors: u32,
        has_48: bool,
    ) -> Option<Self> {
        let end = lba.checked_add(sectors.into())?;
        let (code, reach, most, last) = if end <= MAX_LBA28_SECTORS && sectors <= MAX_28 {
            (codes.0, Reach::Lba28, MAX_28, MAX_LBA28_SECTORS)
        } else if has_48 {
            (codes.1, Reach::Lba48, MAX_48, MAX_LBA48_SECTORS)
        } else {
            return None;
        };
        let fits = sectors != 0 && sectors <= most && end <= last;
        // The largest count is written as 0.
        let count = if reach == Reach::Lba28 { sectors & 0xFF } else { sectors & 0xFFFF };
        fits.then_some(Self { code, features: 0, count: count as u16, lba, reach })
    }

    /// The device register for drive 0 or 1.
    pub fn device(&self, drive: u8) -> u8 {
        let dev = if drive == 0 { 0 } else { device::DEV };
        let address = match self.reach {
            Reach::None => 0,
            Reach::Lba28 => device::LBA | (self.lba >> 24) as u8 & device::LOW_MASK,
            Reach::Lba48 => device::LBA,
        };
        device::OBSOLETE | dev | address
    }
}

/// Most sectors that one command may have.
pub(super) fn most_sectors(has_48: bool) -> u32 {
    if has_48 { MAX_48 } else { MAX_28 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: (AtaCommand, AtaCommand) = (AtaCommand::READ_SECTORS, AtaCommand::READ_SECTORS_EXT);

    fn read(lba: u64, sectors: u32, has_48: bool) -> Option<Command> {
        Command::sectors(READ, lba, sectors, has_48)
    }

    #[test]
    fn the_short_form_is_used_as_far_as_it_reaches() {
        let last = read(0x0FFF_FFFE, 1, true).unwrap();
        assert_eq!((last.reach, last.code), (Reach::Lba28, AtaCommand::READ_SECTORS));
        let next = read(0x0FFF_FFFE, 2, true).unwrap();
        assert_eq!(
            (next.reach, next.code, next.count),
            (Reach::Lba48, AtaCommand::READ_SECTORS_EXT, 2)
        );
        assert_eq!(read(0x0FFF_FFFE, 2, false), None);
        assert_eq!(read(0, 257, true).unwrap().reach, Reach::Lba48);
        assert_eq!(read(0, 257, false), None);
    }

    #[test]
    fn the_largest_count_of_the_short_form_is_written_as_zero() {
        assert_eq!(read(0, 256, true).unwrap().count, 0);
        assert_eq!(read(0, 255, true).unwrap().count, 255);
    }

    #[test]
    fn nothing_and_too_much_are_no_commands() {
        assert_eq!(read(0, 0, true), None);
        assert_eq!(read(0, 2049, true), None);
        assert_eq!(read(MAX_LBA48_SECTORS, 1, true), None);
        assert_eq!(read(u64::MAX, 1, true), None);
    }

    #[test]
    fn the_device_register_has_the_drive_and_with_28_bits_the_upper_address() {
        assert_eq!(read(0x0A00_0000, 1, true).unwrap().device(0), 0xEA);
        assert_eq!(read(0x0A00_0000, 1, true).unwrap().device(1), 0xFA);
        assert_eq!(read(0x1000_0000, 1, true).unwrap().device(1), 0xF0);
        assert_eq!(Command::plain(AtaCommand::IDENTIFY_DEVICE).device(0), 0xA0);
    }
}
