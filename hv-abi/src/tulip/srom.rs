//! The serial ROM: a 93C46 of 64 words of 16 bits, and what is in it.
//!
//! A command is read in bits, highest first, at each rise of the clock while chip select is on: any number of zeros, a one,
//! two bits of command, six of address. With the last of them the ROM gives a zero, then the word, highest bit first, a
//! bit at each rise (Microchip, *93C46 data sheet*, *READ*; Linux, `eeprom.c`, `tulip_read_eeprom`).
//!
//! Contents (21X4 Serial ROM Format 4; Linux, `eeprom.c`, `tulip_parse_eeprom`):
//!
//! | byte | what |
//! | --- | --- |
//! | 0, 2 | subsystem vendor, subsystem |
//! | 4 to 15 | reserved |
//! | 16 | CRC of the above: [`SROM_ID_CRC`] |
//! | 18 | version of the format |
//! | 19 | number of chips that share the ROM |
//! | 20 to 25 | station address |
//! | 26 | device number of the chip |
//! | 27 | offset of its information leaf, 16 bits |
//! | 126 | low half of the CRC-32 of bytes 0 to 125, as Ethernet's: [`SROM_CHECKSUM`] |
//!
//! The leaf of a 21140A: [`SromLeaf`], then a block for each medium; that of a transceiver on MII is [`SromMiiBlock`].

use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// CSR9: chip select of the ROM.
pub const SROM_CS: u32 = 1 << 0;
/// CSR9: its clock.
pub const SROM_CLK: u32 = 1 << 1;
/// CSR9: data into the ROM.
pub const SROM_DI: u32 = 1 << 2;
/// CSR9: data out of the ROM.
pub const SROM_DO: u32 = 1 << 3;
/// CSR9, SR: the four bits above are the serial ROM's.
pub const SROM_SR: u32 = 1 << 11;

/// Words in the ROM.
pub const SROM_WORDS: usize = 64;
/// Bytes in the ROM.
pub const SROM_BYTES: usize = SROM_WORDS * 2;
/// Bits of an address.
pub const SROM_ADDRESS_BITS: u32 = 6;
/// Command, behind the start bit: read.
pub const SROM_READ: u8 = 0b10;

/// Where the subsystem vendor is, 16 bits.
pub const SROM_SUBSYSTEM_VENDOR: usize = 0;
/// Where the subsystem is, 16 bits.
pub const SROM_SUBSYSTEM: usize = 2;
/// Where the first block's CRC is: eight bits, polynomial 0x07, from 0xFF on, over the words 0 to 7 and byte 17, high byte of
/// each word first (QEMU, `tulip.c`, `tulip_idblock_crc`).
pub const SROM_ID_CRC: usize = 16;
/// Where the format's version is.
pub const SROM_VERSION: usize = 18;
/// Where the number of chips is.
pub const SROM_CHIPS: usize = 19;
/// Where the station address is.
pub const SROM_ADDRESS: usize = 20;
/// Where the device number is.
pub const SROM_DEVICE: usize = 26;
/// Where the leaf's offset is, 16 bits, at no even address.
pub const SROM_LEAF: usize = 27;
/// Where the checksum is, 16 bits.
pub const SROM_CHECKSUM: usize = 126;

/// Head of the information leaf of a 21140A.
#[repr(C, packed)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SromLeaf {
    /// The medium to begin with: [`CONNECTION_AUTOSENSE`].
    pub connection: U16,
    /// Which pins of CSR12 are outputs.
    pub general_purpose: u8,
    /// Blocks that follow.
    pub blocks: u8,
}

const _: () = assert!(size_of::<SromLeaf>() == 4);

/// [`SromLeaf::connection`]: find out at power-up.
pub const CONNECTION_AUTOSENSE: u16 = 0x0800;

/// Block of a transceiver on MII, with no sequence of settings for CSR12, neither at start nor for a reset.
#[repr(C, packed)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SromMiiBlock {
    /// [`BLOCK_EXTENDED`], and bytes behind this one.
    pub length: u8,
    /// [`BLOCK_MII`].
    pub block_type: u8,
    /// Which transceiver of the board, counted from 0; not its address.
    pub transceiver: u8,
    /// Bytes of the start sequence: 0.
    pub start_sequence: u8,
    /// Bytes of the reset sequence: 0.
    pub reset_sequence: u8,
    /// What it can do: as in the transceiver's status register.
    pub capabilities: U16,
    /// What to advertise: as in the transceiver's advertisement register.
    pub advertisement: U16,
    /// Which of the capabilities want full duplex.
    pub full_duplex: U16,
    /// Which want the transmit threshold of 10 Mb/s.
    pub threshold: U16,
}

const _: () = assert!(size_of::<SromMiiBlock>() == 13);

/// [`SromMiiBlock::length`]: the block has a type.
pub const BLOCK_EXTENDED: u8 = 0x80;
/// [`SromMiiBlock::block_type`]: transceiver on MII of a 21140.
pub const BLOCK_MII: u8 = 1;
