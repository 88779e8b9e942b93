//! ATA disks and ATAPI CD-ROMs on a PIIX4 IDE controller, as far as a guest's driver and an emulated controller need them.
//!
//! The standards: *ATA-6* is ATA/ATAPI-6 (T13/1410D), whose sections are cited by title, which is the same in most editions;
//! *ATA-3* (X3T10/2008D) and *ACS-2* (T13/2015-D) are named where only they have something. *SFF-8038i* 1.0 is the bus master's
//! programming interface, *PIIX4* Intel's data sheet 290562 of the 82371AB, *MMC-3* (T10/1363-D) the commands of CD-ROMs. What is
//! in SPC as well is in [`scsi`](crate::scsi). Values agree with Linux, `include/linux/ata.h`.
//!
//! - here: the registers that a drive has; [`command`]: what is written to the command register, and what goes with it
//! - [`identify`]: what a drive says of itself
//! - [`packet`]: a CD-ROM's commands and answers
//! - [`bus_master`]: DMA; [`piix4`]: the function's configuration registers

pub mod bus_master;
pub mod command;
pub mod identify;
pub mod packet;
pub mod piix4;

/// Bytes of a sector, and of every IDENTIFY answer.
pub const SECTOR_BYTES: usize = 512;

/// First port of the primary channel's command block in compatibility mode (PIIX4, *IDE host interface*); eight ports.
pub const PRIMARY_COMMAND_PORT: u16 = 0x1F0;
/// The primary channel's control block; one port.
pub const PRIMARY_CONTROL_PORT: u16 = 0x3F6;
/// Interrupt request of the primary channel: ISA, edge-triggered.
pub const PRIMARY_IRQ: u8 = 14;
/// First port of the secondary channel's command block.
pub const SECONDARY_COMMAND_PORT: u16 = 0x170;
/// The secondary channel's control block.
pub const SECONDARY_CONTROL_PORT: u16 = 0x376;
/// Interrupt request of the secondary channel.
pub const SECONDARY_IRQ: u8 = 15;

/// Offsets in the command block (ATA-6, *I/O registers*). All but [`reg::DATA`] are a byte wide.
pub mod reg {
    /// 16 bits; 32-bit accesses are two of them.
    pub const DATA: u16 = 0;
    /// Read: [`error`](super::error).
    pub const ERROR: u16 = 1;
    /// Write: depends on the command.
    pub const FEATURES: u16 = 1;
    /// Sectors; 0 is 256, or 65,536 for a 48-bit command. For PACKET, read: [`interrupt_reason`](super::interrupt_reason).
    pub const SECTOR_COUNT: u16 = 2;
    /// LBA bits 7:0, and 31:24 in the earlier write; without LBA the sector, from 1.
    pub const LBA_LOW: u16 = 3;
    /// LBA bits 15:8, and 39:32 in the earlier write; without LBA the cylinder's lower byte. For PACKET the byte count's lower byte.
    pub const LBA_MID: u16 = 4;
    /// LBA bits 23:16, and 47:40 in the earlier write; without LBA the cylinder's upper byte. For PACKET the byte count's upper byte.
    pub const LBA_HIGH: u16 = 5;
    /// [`device`](super::device).
    pub const DEVICE: u16 = 6;
    /// Read: [`status`](super::status); ends a pending interrupt.
    pub const STATUS: u16 = 7;
    /// Write: [`AtaCommand`](super::command::AtaCommand).
    pub const COMMAND: u16 = 7;
    /// Registers of the block.
    pub const COUNT: u16 = 8;
}

/// Status and alternate status (ATA-6, *Status register*).
pub mod status {
    /// Busy: nothing else is valid.
    pub const BSY: u8 = 0x80;
    /// Ready for commands.
    pub const DRDY: u8 = 0x40;
    /// Device fault; for PACKET also stream error.
    pub const DF: u8 = 0x20;
    /// Seek complete (ATA-3; later for each command to define). Set by disks when they are idle.
    pub const DSC: u8 = 0x10;
    /// Data request: the data register has, or wants, a block.
    pub const DRQ: u8 = 0x08;
    /// There was an error; for PACKET *check condition* (CHK).
    pub const ERR: u8 = 0x01;
    /// A channel without any drive: a resistor pulls bit 7 down, the others float (ATA-6, *Signal conventions*).
    pub const FLOATING: u8 = 0x7F;
}

/// The error register, valid with [`status::ERR`] (ATA-6, *Error register*, and the commands' *Error outputs*).
pub mod error {
    /// Interface CRC error of Ultra DMA.
    pub const ICRC: u8 = 0x80;
    /// Uncorrectable data.
    pub const UNC: u8 = 0x40;
    /// Media changed.
    pub const MC: u8 = 0x20;
    /// There is no such sector.
    pub const IDNF: u8 = 0x10;
    /// Media change requested.
    pub const MCR: u8 = 0x08;
    /// The command was not done.
    pub const ABRT: u8 = 0x04;
    /// No media; for PACKET end of media.
    pub const NM: u8 = 0x02;
    /// Address mark not found (ATA-3); for PACKET an illegal length.
    pub const AMNF: u8 = 0x01;
    /// For PACKET the sense key is in bits 7:4.
    pub const SENSE_KEY_SHIFT: u32 = 4;
}

/// The error register after reset or EXECUTE DEVICE DIAGNOSTIC (ATA-6, *Diagnostic codes*).
pub mod diagnostic {
    /// Device 0 passed, and so did device 1 or there is none. For device 1: it passed.
    pub const PASSED: u8 = 0x01;
    /// Device 0 passed, device 1 failed.
    pub const DEVICE_1_FAILED: u8 = 0x81;
}

/// The device register (ATA-6, *Device register*).
pub mod device {
    /// Bits 7 and 5 are obsolete; older drives want both set.
    pub const OBSOLETE: u8 = 0xA0;
    /// The address is an LBA.
    pub const LBA: u8 = 0x40;
    /// Device 1 is selected.
    pub const DEV: u8 = 0x10;
    /// LBA bits 27:24, or without LBA the head.
    pub const LOW_MASK: u8 = 0x0F;
}

/// Device control, the write half of the control block's register, whose read half is the alternate status (ATA-6, *Device
/// control register*).
pub mod control {
    /// High order byte: reads give what was written to a register before last. Any write to the command block clears it.
    pub const HOB: u8 = 0x80;
    /// Software reset of both drives, for as long as it is set; 5 µs at least.
    pub const SRST: u8 = 0x04;
    /// No interrupts.
    pub const NIEN: u8 = 0x02;
}

/// The sector count register during a PACKET command (ATA-6, *Interrupt reason*).
pub mod interrupt_reason {
    /// Command packet, or status; not data.
    pub const COD: u8 = 0x01;
    /// To the host.
    pub const IO: u8 = 0x02;
    /// Bus release (overlapped commands only).
    pub const REL: u8 = 0x04;
}

/// What a drive is, as its registers say after a reset, EXECUTE DEVICE DIAGNOSTIC, and commands that are of the other kind (ATA-6,
/// *Signature and persistence*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature {
    /// [`reg::SECTOR_COUNT`].
    pub sector_count: u8,
    /// [`reg::LBA_LOW`].
    pub lba_low: u8,
    /// [`reg::LBA_MID`].
    pub lba_mid: u8,
    /// [`reg::LBA_HIGH`].
    pub lba_high: u8,
}

impl Signature {
    /// A drive without the PACKET command set.
    pub const ATA: Self = Self { sector_count: 1, lba_low: 1, lba_mid: 0x00, lba_high: 0x00 };
    /// A drive with it.
    pub const ATAPI: Self = Self { sector_count: 1, lba_low: 1, lba_mid: 0x14, lba_high: 0xEB };
}

/// Sectors that an address of 28 bits reaches: the largest number in [`identify::word::LBA28_SECTORS`].
pub const MAX_LBA28_SECTORS: u64 = 0x0FFF_FFFF;
/// Sectors that an address of 48 bits reaches.
pub const MAX_LBA48_SECTORS: u64 = 0xFFFF_FFFF_FFFF;
