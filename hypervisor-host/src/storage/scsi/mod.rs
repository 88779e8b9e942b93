//! A SCSI disk without its surroundings: a command block goes in, what to do with disk and guest comes out.
//!
//! [`execute`] looks at one command for one [`UnitInfo`] and gives an [`Action`]. Nothing here waits, moves data or keeps
//! anything; [`Unit`](super::unit::Unit) does. Commands are those of SPC-4 and SBC-3, cited by the names of [`hv_abi::scsi`].
//!
//! - [`cdb`]: taking command blocks apart; [`data`]: what the guest has to send or room for
//! - [`transfer`]: commands that move or change blocks; [`unmap`]: giving blocks back
//! - [`inquiry`], [`mode`], [`capacity`], [`opcodes`]: commands that tell something
//! - [`sense`]: the errors of them all

pub mod capacity;
pub mod cdb;
pub mod data;
pub mod inquiry;
pub mod mode;
pub mod opcodes;
pub mod sense;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod unmap;

use hv_abi::scsi::cdb::{CdbStartStop, START_STOP_LOEJ, START_STOP_START};
use hv_abi::scsi::{ScsiOp, maintenance_in, service_action_in};

use self::cdb::Cdb;
use self::data::DataPhase;
use self::sense::Sense;
use super::disk::{DiskInfo, SECTOR_BYTES};
use super::request::DiskOp;

/// Bytes of data that one command moves, at most.
pub const MAX_TRANSFER_BYTES: u32 = 1 << 20;
/// Blocks that one UNMAP gives back, at most.
pub const MAX_UNMAP_BLOCKS: u32 = 1 << 22;
/// Ranges of one UNMAP, at most.
pub const MAX_UNMAP_RANGES: u32 = 256;
/// Blocks that one WRITE SAME writes, at most.
pub const MAX_WRITE_SAME_BLOCKS: u32 = 1 << 17;

/// What a command needs to know of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitInfo {
    /// The disk.
    pub disk: DiskInfo,
    /// What tells it from all others.
    pub identity: u64,
}

impl UnitInfo {
    /// Blocks of the disk.
    pub fn blocks(&self) -> u64 {
        self.disk.bytes / SECTOR_BYTES
    }
}

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is done, and there is nothing to tell.
    Good,
    /// It is done; the guest gets this, as far as it has room.
    Answer(Vec<u8>),
    /// It can't be done.
    Fail(Sense),
    /// The disk has something to do, with so many bytes of the guest's memory.
    Disk {
        /// What.
        op: DiskOp,
        /// Bytes of data.
        bytes: u32,
    },
    /// It can be told only with what the guest sends: so many bytes, with which to come again.
    Parameters(u32),
}

impl From<Sense> for Action {
    fn from(sense: Sense) -> Self {
        Self::Fail(sense)
    }
}

/// Looks at a command. `parameters` is what the guest sent, once [`Action::Parameters`] has asked for it.
pub fn execute(cdb: &Cdb, unit: &UnitInfo, data: DataPhase, parameters: Option<&[u8]>) -> Action {
    run(cdb, unit, data, parameters).unwrap_or_else(Action::Fail)
}

fn run(
    cdb: &Cdb,
    unit: &UnitInfo,
    data: DataPhase,
    parameters: Option<&[u8]>,
) -> Result<Action, Sense> {
    cdb.check_control()?;
    match cdb.op() {
        ScsiOp::READ_6 | ScsiOp::READ_10 | ScsiOp::READ_12 | ScsiOp::READ_16 => {
            transfer::read(cdb, unit, data)
        }
        ScsiOp::WRITE_6 | ScsiOp::WRITE_10 | ScsiOp::WRITE_12 | ScsiOp::WRITE_16 => {
            transfer::write(cdb, unit, data)
        }
        ScsiOp::SYNCHRONIZE_CACHE_10 | ScsiOp::SYNCHRONIZE_CACHE_16 => {
            transfer::synchronize(cdb, unit)
        }
        ScsiOp::VERIFY_10 | ScsiOp::VERIFY_12 | ScsiOp::VERIFY_16 => {
            transfer::verify(cdb, unit, data)
        }
        ScsiOp::WRITE_SAME_10 | ScsiOp::WRITE_SAME_16 => {
            transfer::write_same(cdb, unit, data, parameters)
        }
        ScsiOp::UNMAP => unmap::unmap(cdb, unit, data, parameters),
        ScsiOp::INQUIRY => inquiry::inquiry(cdb, unit, data),
        ScsiOp::MODE_SENSE_6 | ScsiOp::MODE_SENSE_10 => mode::sense(cdb, unit, data),
        ScsiOp::MODE_SELECT_6 | ScsiOp::MODE_SELECT_10 => mode::select(cdb, unit, data, parameters),
        ScsiOp::READ_CAPACITY_10 => capacity::read_capacity_10(cdb, unit, data),
        ScsiOp::SERVICE_ACTION_IN_16 => match cdb.service_action() {
            service_action_in::READ_CAPACITY_16 => capacity::read_capacity_16(cdb, unit, data),
            _ => Err(Sense::invalid_field(1)),
        },
        ScsiOp::MAINTENANCE_IN => match cdb.service_action() {
            maintenance_in::REPORT_SUPPORTED_OPERATION_CODES => opcodes::report(cdb, unit, data),
            _ => Err(Sense::invalid_field(1)),
        },
        ScsiOp::TEST_UNIT_READY => Ok(Action::Good),
        ScsiOp::START_STOP_UNIT => start_stop(cdb),
        // The medium stays whatever anybody wants.
        ScsiOp::PREVENT_ALLOW_MEDIUM_REMOVAL => Ok(Action::Good),
        _ => Err(Sense::INVALID_OPCODE),
    }
}

/// SBC-3, *START STOP UNIT command*. A stop leaves the disk usable, but everything on it is safe.
fn start_stop(cdb: &Cdb) -> Result<Action, Sense> {
    const POWER_CONDITION: u8 = 0xF0;
    let start_stop: CdbStartStop = cdb.view()?;
    if start_stop.flags & (POWER_CONDITION | START_STOP_LOEJ) != 0 {
        return Err(Sense::invalid_field(4));
    }
    match start_stop.flags & START_STOP_START {
        0 => Ok(Action::Disk { op: DiskOp::Flush, bytes: 0 }),
        _ => Ok(Action::Good),
    }
}
