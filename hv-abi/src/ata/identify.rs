//! The answers of IDENTIFY DEVICE and IDENTIFY PACKET DEVICE: 256 little-endian words (ATA-6, the commands' own sections).
//!
//! Strings have two characters in a word, the first in the upper byte, and are padded with spaces.

use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// All words.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IdentifyData(pub [U16; 256]);

const _: () = assert!(size_of::<IdentifyData>() == super::SECTOR_BYTES);

impl IdentifyData {
    /// All zeros.
    pub const fn zeroed() -> Self {
        Self([U16::ZERO; 256])
    }

    /// A word; 0 if there is none with that number.
    pub fn word(&self, number: usize) -> u16 {
        self.0.get(number).map_or(0, |word| word.get())
    }

    /// Two words, the lower first.
    pub fn double_word(&self, number: usize) -> u32 {
        u32::from(self.word(number)) | u32::from(self.word(number + 1)) << 16
    }

    /// Sets a word, if there is one with that number.
    pub fn set_word(&mut self, number: usize, value: u16) {
        if let Some(word) = self.0.get_mut(number) {
            word.set(value);
        }
    }
}

/// Numbers of words. Of a range it is the first.
pub mod word {
    /// [`super::general`] for a disk, [`super::packet_general`] for a packet device.
    pub const GENERAL: usize = 0;
    /// Cylinders of the default translation (ATA-3).
    pub const CYLINDERS: usize = 1;
    /// Heads of the default translation (ATA-3).
    pub const HEADS: usize = 3;
    /// Sectors of a track of the default translation (ATA-3).
    pub const SECTORS: usize = 6;
    /// Serial number: a string of [`super::SERIAL_BYTES`].
    pub const SERIAL: usize = 10;
    /// Firmware revision: a string of [`super::FIRMWARE_BYTES`].
    pub const FIRMWARE: usize = 23;
    /// Model: a string of [`super::MODEL_BYTES`].
    pub const MODEL: usize = 27;
    /// 0x80 in the upper byte, below it the most sectors of a block of READ MULTIPLE.
    pub const MAX_MULTIPLE: usize = 47;
    /// [`super::capability`].
    pub const CAPABILITIES: usize = 49;
    /// Bit 14 set, bit 15 clear.
    pub const CAPABILITIES_2: usize = 50;
    /// PIO mode in the upper byte (ATA-3).
    pub const OLD_PIO_MODE: usize = 51;
    /// [`super::validity`].
    pub const VALIDITY: usize = 53;
    /// Cylinders of the present translation (ATA-3).
    pub const CURRENT_CYLINDERS: usize = 54;
    /// Heads of the present translation.
    pub const CURRENT_HEADS: usize = 55;
    /// Sectors of a track of the present translation.
    pub const CURRENT_SECTORS: usize = 56;
    /// Sectors in all of the present translation; two words.
    pub const CURRENT_CAPACITY: usize = 57;
    /// Bit 8: valid; bits 7:0: sectors of a block of READ MULTIPLE.
    pub const MULTIPLE: usize = 59;
    /// Sectors that 28-bit commands reach; two words.
    pub const LBA28_SECTORS: usize = 60;
    /// Multiword DMA: modes that there are in bits 2:0, the one selected in bits 10:8.
    pub const MULTIWORD_DMA: usize = 63;
    /// PIO: bit 0 for mode 3, bit 1 for mode 4.
    pub const PIO_MODES: usize = 64;
    /// Cycle time of multiword DMA at least, in nanoseconds.
    pub const MIN_DMA_CYCLE_NS: usize = 65;
    /// Recommended cycle time of multiword DMA.
    pub const RECOMMENDED_DMA_CYCLE_NS: usize = 66;
    /// Cycle time of PIO at least, without flow control.
    pub const MIN_PIO_CYCLE_NS: usize = 67;
    /// Cycle time of PIO at least, with IORDY.
    pub const MIN_PIO_IORDY_CYCLE_NS: usize = 68;
    /// ACS-2: [`super::additional`].
    pub const ADDITIONAL: usize = 69;
    /// Bit N: ATA-N is supported.
    pub const MAJOR_VERSION: usize = 80;
    /// A number for an edition of the standard.
    pub const MINOR_VERSION: usize = 81;
    /// [`super::command_set_1`].
    pub const COMMAND_SET_1: usize = 82;
    /// [`super::command_set_2`].
    pub const COMMAND_SET_2: usize = 83;
    /// [`super::command_set_3`].
    pub const COMMAND_SET_3: usize = 84;
    /// As [`COMMAND_SET_1`], of what is switched on.
    pub const ENABLED_1: usize = 85;
    /// As [`COMMAND_SET_2`], of what is switched on.
    pub const ENABLED_2: usize = 86;
    /// As [`COMMAND_SET_3`], of what is switched on.
    pub const ENABLED_3: usize = 87;
    /// Ultra DMA: modes that there are in bits 6:0, the one selected in bits 14:8.
    pub const ULTRA_DMA: usize = 88;
    /// [`super::reset_result`].
    pub const RESET_RESULT: usize = 93;
    /// Sectors that 48-bit commands reach; four words.
    pub const LBA48_SECTORS: usize = 100;
    /// ACS-2: sectors of ranges that one DATA SET MANAGEMENT takes.
    pub const MAX_TRIM_SECTORS: usize = 105;
    /// ACS-2: bit 14 set, bit 15 clear; bit 13: a physical sector has more than one logical; bits 3:0: log₂ of how many.
    pub const PHYSICAL_SECTOR: usize = 106;
    /// ACS-2: World Wide Name, the highest word first; four words.
    pub const WORLD_WIDE_NAME: usize = 108;
    /// ACS-2: bit 0: DATA SET MANAGEMENT gives sectors back.
    pub const DATA_SET_MANAGEMENT: usize = 169;
    /// ACS-2: 1 for a drive that does not rotate.
    pub const ROTATION_RATE: usize = 217;
    /// [`super::INTEGRITY_SIGNATURE`] in the lower byte, above it what makes the sum of all bytes 0.
    pub const INTEGRITY: usize = 255;
}

/// Characters of the serial number.
pub const SERIAL_BYTES: usize = 20;
/// Characters of the firmware revision.
pub const FIRMWARE_BYTES: usize = 8;
/// Characters of the model.
pub const MODEL_BYTES: usize = 40;
/// In [`word::INTEGRITY`].
pub const INTEGRITY_SIGNATURE: u8 = 0xA5;

/// Word 0 of a disk.
pub mod general {
    /// Set: not an ATA disk.
    pub const NOT_ATA: u16 = 0x8000;
    /// The medium can be removed.
    pub const REMOVABLE: u16 = 0x0080;
    /// It can't (obsolete, and expected).
    pub const FIXED: u16 = 0x0040;
}

/// Word 0 of a packet device.
pub mod packet_general {
    /// Bits 15:14 are 10b.
    pub const ATAPI: u16 = 0x8000;
    /// Bits 15:14.
    pub const KIND_MASK: u16 = 0xC000;
    /// Bits 12:8: the device type of INQUIRY.
    pub const TYPE_SHIFT: u32 = 8;
    /// The medium can be removed.
    pub const REMOVABLE: u16 = 0x0080;
    /// Bits 6:5: DRQ comes within 50 µs of the PACKET command, without an interrupt.
    pub const DRQ_50_US: u16 = 0x0040;
    /// Bits 6:5: DRQ comes with an interrupt.
    pub const DRQ_INTERRUPT: u16 = 0x0020;
    /// Bits 6:5.
    pub const DRQ_MASK: u16 = 0x0060;
    /// Bits 1:0: packets of 16 bytes; else of 12.
    pub const PACKET_16: u16 = 0x0001;
}

/// Word 49.
pub mod capability {
    /// The standby timer's values are the standard's.
    pub const STANDBY_TIMER: u16 = 0x2000;
    /// IORDY is supported.
    pub const IORDY: u16 = 0x0800;
    /// IORDY can be switched off.
    pub const IORDY_DISABLE: u16 = 0x0400;
    /// LBA.
    pub const LBA: u16 = 0x0200;
    /// DMA.
    pub const DMA: u16 = 0x0100;
}

/// Word 53.
pub mod validity {
    /// Words 54 to 58 mean something.
    pub const WORDS_54_TO_58: u16 = 0x0001;
    /// Words 64 to 70 mean something.
    pub const WORDS_64_TO_70: u16 = 0x0002;
    /// Word 88 means something.
    pub const WORD_88: u16 = 0x0004;
}

/// Word 69 (ACS-2).
pub mod additional {
    /// What was given back reads the same until it is written.
    pub const DETERMINISTIC_READ_AFTER_TRIM: u16 = 0x4000;
    /// Namely zeros.
    pub const ZEROS_AFTER_TRIM: u16 = 0x0020;
}

/// Words 82 and 85.
pub mod command_set_1 {
    #![expect(missing_docs, reason = "each has the standard's name for the commands")]
    pub const NOP: u16 = 0x4000;
    pub const READ_BUFFER: u16 = 0x2000;
    pub const WRITE_BUFFER: u16 = 0x1000;
    pub const HOST_PROTECTED_AREA: u16 = 0x0400;
    pub const DEVICE_RESET: u16 = 0x0200;
    pub const LOOK_AHEAD: u16 = 0x0040;
    pub const WRITE_CACHE: u16 = 0x0020;
    pub const PACKET: u16 = 0x0010;
    pub const POWER_MANAGEMENT: u16 = 0x0008;
    pub const REMOVABLE_MEDIA: u16 = 0x0004;
    pub const SECURITY: u16 = 0x0002;
    pub const SMART: u16 = 0x0001;
}

/// Words 83 and 86.
pub mod command_set_2 {
    #![expect(missing_docs, reason = "each has the standard's name for the commands")]
    /// In word 83 only: words 82 and 83 mean something (with bit 15 clear).
    pub const VALID: u16 = 0x4000;
    pub const FLUSH_CACHE_EXT: u16 = 0x2000;
    pub const FLUSH_CACHE: u16 = 0x1000;
    pub const LBA48: u16 = 0x0400;
}

/// Words 84 and 87.
pub mod command_set_3 {
    /// Words 84 and 87 mean something (with bit 15 clear).
    pub const VALID: u16 = 0x4000;
    /// There is a World Wide Name.
    pub const WORLD_WIDE_NAME: u16 = 0x0100;
    /// WRITE DMA FUA EXT and WRITE MULTIPLE FUA EXT (ATA/ATAPI-7).
    pub const WRITE_FUA: u16 = 0x0040;
}

/// Word 93.
pub mod reset_result {
    /// The word means something (with bit 15 clear).
    pub const VALID: u16 = 0x4000;
    /// The cable has 80 conductors.
    pub const CABLE_80: u16 = 0x2000;
    /// Of device 1: it passed its diagnostics and was selected by a jumper.
    pub const DEVICE_1_PASSED: u16 = 0x0B00;
    /// Of device 0: the same, and bit 0 is always set.
    pub const DEVICE_0_PASSED: u16 = 0x000B;
}
