//! Taking a command block apart.

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::cdb::{
    CONTROL_NACA, CdbBlocks6, CdbBlocks10, CdbBlocks12, CdbBlocks16, LBA_6_MASK,
};
use hv_abi::storvsp::MAX_CDB_BYTES;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::sense::Sense;

/// A command block that is as long as its operation code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; MAX_CDB_BYTES],
    length: usize,
}

/// The blocks that a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Byte 1, but for the 6-byte commands, which have no flags.
    pub flags: u8,
    /// The first.
    pub lba: u64,
    /// How many.
    pub count: u32,
    /// Where in the command block the count is.
    pub count_byte: u8,
}

impl Cdb {
    /// The first `length` bytes of a command block.
    ///
    /// # Errors
    /// There are fewer bytes than the command has, or it has an operation code of a group that nobody has defined.
    pub fn new(bytes: &[u8; MAX_CDB_BYTES], length: usize) -> Result<Self, Sense> {
        let mut whole = [0; MAX_CDB_BYTES];
        let needed = ScsiOp(bytes[0]).cdb_bytes().ok_or(Sense::INVALID_OPCODE)?;
        if length < needed {
            return Err(Sense::invalid_field(length.min(MAX_CDB_BYTES) as u16));
        }
        for (to, from) in whole.iter_mut().zip(bytes).take(needed) {
            *to = *from;
        }
        Ok(Self { bytes: whole, length: needed })
    }

    /// Operation code.
    pub fn op(&self) -> ScsiOp {
        ScsiOp(self.bytes[0])
    }

    /// Service action, for codes that have one.
    pub fn service_action(&self) -> u8 {
        self.bytes[1] & 0x1F
    }

    /// As one of the layouts of [`hv_abi::scsi::cdb`].
    ///
    /// # Errors
    /// None: all layouts fit.
    pub fn view<T: FromBytes + KnownLayout + Immutable>(&self) -> Result<T, Sense> {
        T::read_from_prefix(&self.bytes).map(|(view, _)| view).map_err(|_| Sense::INVALID_OPCODE)
    }

    /// Nothing is asked of us that CONTROL can ask for.
    ///
    /// # Errors
    /// NACA is set.
    pub fn check_control(&self) -> Result<(), Sense> {
        let last = self.length.saturating_sub(1);
        match self.bytes.get(last) {
            Some(control) if control & CONTROL_NACA != 0 => Err(Sense::invalid_field(last as u16)),
            _ => Ok(()),
        }
    }

    /// The blocks that a READ, WRITE, VERIFY, WRITE SAME or SYNCHRONIZE CACHE is about.
    ///
    /// # Errors
    /// None: all layouts fit.
    pub fn blocks(&self) -> Result<Blocks, Sense> {
        Ok(match self.length {
            6 => {
                let cdb: CdbBlocks6 = self.view()?;
                let high = u64::from(cdb.lba_high & LBA_6_MASK);
                let count = if cdb.blocks == 0 { 256 } else { cdb.blocks.into() };
                Blocks {
                    flags: 0,
                    lba: high << 16 | u64::from(cdb.lba_low.get()),
                    count,
                    count_byte: 4,
                }
            }
            10 => {
                let cdb: CdbBlocks10 = self.view()?;
                let (lba, count) = (cdb.lba.get().into(), cdb.blocks.get().into());
                Blocks { flags: cdb.flags, lba, count, count_byte: 7 }
            }
            12 => {
                let cdb: CdbBlocks12 = self.view()?;
                let (lba, count) = (cdb.lba.get().into(), cdb.blocks.get());
                Blocks { flags: cdb.flags, lba, count, count_byte: 6 }
            }
            _ => {
                let cdb: CdbBlocks16 = self.view()?;
                let (lba, count) = (cdb.lba.get(), cdb.blocks.get());
                Blocks { flags: cdb.flags, lba, count, count_byte: 10 }
            }
        })
    }
}
