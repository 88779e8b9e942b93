//! REPORT SUPPORTED OPERATION CODES: which commands there are, and which of their bits mean something.

use hv_abi::scsi::cdb::CdbReportOpcodes;
use hv_abi::scsi::data::{CommandDescriptor, SERVACTV};
use hv_abi::scsi::{ScsiOp, maintenance_in, service_action_in};
use zerocopy::IntoBytes;

use super::cdb::Cdb;
use super::data::DataPhase;
use super::sense::Sense;
use super::{Action, UnitInfo};

/// A command, and the bits of it that we look at.
struct Command {
    op: ScsiOp,
    service_action: Option<u8>,
    usage: &'static [u8],
}

const fn command(op: ScsiOp, usage: &'static [u8]) -> Command {
    Command { op, service_action: None, usage }
}

const fn action(op: ScsiOp, service_action: u8, usage: &'static [u8]) -> Command {
    Command { op, service_action: Some(service_action), usage }
}

/// The first byte of each usage map is the code itself, and the last is CONTROL, of which NACA is looked at.
const COMMANDS: &[Command] = &[
    command(ScsiOp::TEST_UNIT_READY, &[0x00, 0, 0, 0, 0, 0x04]),
    command(ScsiOp::REQUEST_SENSE, &[0x03, 0x01, 0, 0, 0xFF, 0x04]),
    command(ScsiOp::READ_6, &[0x08, 0x1F, 0xFF, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::WRITE_6, &[0x0A, 0x1F, 0xFF, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::INQUIRY, &[0x12, 0x01, 0xFF, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::MODE_SELECT_6, &[0x15, 0x11, 0, 0, 0xFF, 0x04]),
    command(ScsiOp::MODE_SENSE_6, &[0x1A, 0x08, 0xFF, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::START_STOP_UNIT, &[0x1B, 0, 0, 0, 0xF3, 0x04]),
    command(ScsiOp::PREVENT_ALLOW_MEDIUM_REMOVAL, &[0x1E, 0, 0, 0, 0, 0x04]),
    command(ScsiOp::READ_CAPACITY_10, &[0x25, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x04]),
    command(ScsiOp::READ_10, &[0x28, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::WRITE_10, &[0x2A, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::VERIFY_10, &[0x2F, 0xF6, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::SYNCHRONIZE_CACHE_10, &[0x35, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::WRITE_SAME_10, &[0x41, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::UNMAP, &[0x42, 0x01, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::MODE_SELECT_10, &[0x55, 0x11, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::MODE_SENSE_10, &[0x5A, 0x08, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0x04]),
    command(ScsiOp::READ_16, &BLOCKS_16),
    command(ScsiOp::WRITE_16, &with_op(ScsiOp::WRITE_16, 0xF8)),
    command(ScsiOp::VERIFY_16, &with_op(ScsiOp::VERIFY_16, 0xF6)),
    command(ScsiOp::SYNCHRONIZE_CACHE_16, &with_op(ScsiOp::SYNCHRONIZE_CACHE_16, 0)),
    command(ScsiOp::WRITE_SAME_16, &with_op(ScsiOp::WRITE_SAME_16, 0xF9)),
    action(
        ScsiOp::SERVICE_ACTION_IN_16,
        service_action_in::READ_CAPACITY_16,
        &with_op(ScsiOp::SERVICE_ACTION_IN_16, 0x1F),
    ),
    command(ScsiOp::REPORT_LUNS, &[0xA0, 0, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0x04]),
    action(
        ScsiOp::MAINTENANCE_IN,
        maintenance_in::REPORT_SUPPORTED_OPERATION_CODES,
        &[0xA3, 0x1F, 0x07, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0x04],
    ),
    command(ScsiOp::READ_12, &[0xA8, 0xF8, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0x04]),
    command(ScsiOp::WRITE_12, &[0xAA, 0xF8, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0x04]),
    command(ScsiOp::VERIFY_12, &[0xAF, 0xF6, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0x04]),
];

const BLOCKS_16: [u8; 16] = with_op(ScsiOp::READ_16, 0xF8);

const fn with_op(op: ScsiOp, flags: u8) -> [u8; 16] {
    [op.0, flags, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0x04]
}

/// REPORT SUPPORTED OPERATION CODES.
pub fn report(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    const OPTIONS_BYTE: u16 = 2;
    let cdb: CdbReportOpcodes = cdb.view()?;
    let supported = || COMMANDS.iter().filter(|it| it.op != ScsiOp::UNMAP || unit.disk.discard);
    let wanted = cdb.requested_service_action.get();
    let of_op = || supported().filter(|it| it.op == cdb.requested_op);
    let answer = match cdb.options & 0x07 {
        0 => all(supported()),
        // The code alone is an error for one with service actions, and the other way round.
        1 if of_op().any(|it| it.service_action.is_some()) => {
            return Err(Sense::invalid_field(OPTIONS_BYTE));
        }
        2 if of_op().any(|it| it.service_action.is_none()) => {
            return Err(Sense::invalid_field(OPTIONS_BYTE));
        }
        1 => one(of_op().next()),
        2 => one(of_op().find(|it| it.service_action.map(u16::from) == Some(wanted))),
        3 => one(of_op().find(|it| it.service_action.map_or(0, u16::from) == wanted)),
        _ => return Err(Sense::invalid_field(OPTIONS_BYTE)),
    };
    data.answer(answer, cdb.allocation_length.get(), 6)
}

fn all<'a>(commands: impl Iterator<Item = &'a Command>) -> Vec<u8> {
    let descriptors: Vec<u8> = commands
        .flat_map(|command| {
            let descriptor = CommandDescriptor {
                op: command.op,
                _reserved: 0,
                service_action: command.service_action.map_or(0, u16::from).into(),
                _reserved2: 0,
                flags: if command.service_action.is_some() { SERVACTV } else { 0 },
                cdb_length: (command.usage.len() as u16).into(),
            };
            descriptor.as_bytes().to_vec()
        })
        .collect();
    [&(descriptors.len() as u32).to_be_bytes()[..], &descriptors].concat()
}

/// SPC-4, *One command parameter data format*.
fn one(command: Option<&Command>) -> Vec<u8> {
    const NOT_SUPPORTED: u8 = 1;
    const SUPPORTED: u8 = 3;
    let Some(command) = command else { return vec![0, NOT_SUPPORTED, 0, 0] };
    let [high, low] = (command.usage.len() as u16).to_be_bytes();
    [&[0, SUPPORTED, high, low], command.usage].concat()
}
