//! The bus master: DMA by descriptors in the guest's memory (SFF-8038i 1.0; PIIX4, *Bus master IDE I/O registers*).
//!
//! Two sets of eight ports, that of the secondary channel behind that of the primary.

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offsets in a channel's set of ports.
pub mod reg {
    /// [`command`](super::command); a byte.
    pub const COMMAND: u16 = 0;
    /// [`status`](super::status); a byte.
    pub const STATUS: u16 = 2;
    /// Address of the first [`Prd`](super::Prd): 32 bits, of which bits 1:0 are 0.
    pub const TABLE: u16 = 4;
    /// Ports of a set.
    pub const SET: u16 = 8;
    /// Ports of both.
    pub const COUNT: u16 = 16;
}

/// The command register.
pub mod command {
    /// Start. Clearing it stops the transfer for good.
    pub const START: u8 = 0x01;
    /// Set: memory is written (the drive is read).
    pub const TO_MEMORY: u8 = 0x08;
}

/// The status register. What a transfer came to is in [`status::INTERRUPT`] and [`status::ACTIVE`]: with an interrupt it has ended,
/// and memory that is still active was more than the transfer needed; with neither, memory was less (SFF-8038i, *Status bits
/// interpretation*).
pub mod status {
    /// Only one channel at a time; read-only.
    pub const SIMPLEX: u8 = 0x80;
    /// Drive 1 can do DMA: kept for software by software.
    pub const DRIVE_1_DMA: u8 = 0x40;
    /// Drive 0 can do DMA.
    pub const DRIVE_0_DMA: u8 = 0x20;
    /// The drive has interrupted; writing it clears it.
    pub const INTERRUPT: u8 = 0x04;
    /// Memory could not be reached; writing it clears it.
    pub const ERROR: u8 = 0x02;
    /// The transfer goes on; read-only.
    pub const ACTIVE: u8 = 0x01;
}

/// Physical region descriptor. Neither a region nor the table crosses a boundary of [`BOUNDARY`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Prd {
    /// Physical address; even.
    pub address: U32,
    /// Bytes; even; 0 is 65,536.
    pub bytes: U16,
    /// [`END_OF_TABLE`].
    pub flags: U16,
}

const _: () = assert!(size_of::<Prd>() == 8);

/// In [`Prd::flags`]: there is no further one.
pub const END_OF_TABLE: u16 = 0x8000;
/// Bytes.
pub const BOUNDARY: u32 = 0x1_0000;
