//! Requests as bytes, and answers from bytes.
//!
//! Answers are copied once, out of the ring, and only the copy is looked at.

use hv_abi::scsi::ScsiStatus;
use hv_abi::storvsp::{
    DataDirection, Operation, REQUEST_COMPLETION_FLAG, SENSE_BUFFER_BYTES, SP_UNTAGGED, SRB_BYTES,
    SRB_SIMPLE_TAG_REQUEST, SrbFlags, SrbStatus, StorvspVersion, VmscsiRequest, VstorHeader,
    VstorStatus,
};
use zerocopy::{FromBytes, IntoBytes};

use super::command::Command;
use super::sense::{Sense, Statuses};
use super::slots::{Address, Answer};

/// Bytes of a packet, at most.
pub(super) const MAX_PACKET_BYTES: usize = size_of::<VstorHeader>() + SRB_BYTES;

/// What follows the header of a request to execute `command`.
pub(super) fn srb(
    command: &Command,
    address: Address,
    version: StorvspVersion,
    limit_seconds: u32,
) -> [u8; SRB_BYTES] {
    let direction = match command.direction {
        DataDirection::READ => SrbFlags::DATA_IN,
        DataDirection::WRITE => SrbFlags::DATA_OUT,
        _ => SrbFlags::empty(),
    };
    let tagged = SrbFlags::QUEUE_ACTION_ENABLE | SrbFlags::NO_QUEUE_FREEZE;
    let mut cdb_or_sense = [0; SENSE_BUFFER_BYTES];
    cdb_or_sense.iter_mut().zip(command.cdb).for_each(|(to, byte)| *to = byte);
    let srb = VmscsiRequest {
        length: version.srb_bytes() as u16,
        srb_status: SrbStatus::PENDING,
        scsi_status: 0,
        port_number: 0,
        path_id: address.path,
        target_id: address.target,
        lun: address.lun,
        cdb_length: command.cdb_length,
        sense_info_length: version.sense_bytes() as u8,
        data_in: command.direction,
        _reserved: 0,
        data_transfer_length: command.data_bytes,
        cdb_or_sense,
        reserve: 0,
        queue_tag: SP_UNTAGGED,
        queue_action: SRB_SIMPLE_TAG_REQUEST,
        srb_flags: (direction | tagged | SrbFlags::DISABLE_SYNCH_TRANSFER).bits(),
        time_out_value: limit_seconds,
        queue_sort_key: 0,
    };
    let mut bytes = [0; SRB_BYTES];
    // The same length by the structure's assertion.
    bytes.copy_from_slice(srb.as_bytes());
    bytes
}

/// What follows the header of a reset: the address, as in a SCSI request.
pub(super) fn reset(address: Address, version: StorvspVersion) -> [u8; SRB_BYTES] {
    let mut bytes = [0; SRB_BYTES];
    let [low, high] = (version.srb_bytes() as u16).to_le_bytes();
    // `length`, the two statuses, `port_number`, then the address.
    let head = [low, high, 0, 0, 0, address.path, address.target, address.lun];
    bytes.iter_mut().zip(head).for_each(|(to, byte)| *to = byte);
    bytes
}

/// A packet of `bytes` bytes.
pub(super) fn packet(operation: Operation, payload: &[u8; SRB_BYTES]) -> [u8; MAX_PACKET_BYTES] {
    let header =
        VstorHeader { operation, flags: REQUEST_COMPLETION_FLAG, status: VstorStatus::SUCCESS };
    let mut packet = [0; MAX_PACKET_BYTES];
    // The lengths are the constant's two parts.
    let (head, rest) = packet.split_at_mut(size_of::<VstorHeader>());
    head.copy_from_slice(header.as_bytes());
    rest.copy_from_slice(payload);
    packet
}

/// The answer in a packet's payload; `None` if it is too short for one.
pub(super) fn answer(packet: &[u8]) -> Option<Answer> {
    let (header, rest) = VstorHeader::read_from_prefix(packet).ok()?;
    let mut payload = [0; SRB_BYTES];
    let len = rest.len().min(SRB_BYTES);
    payload.get_mut(..len)?.copy_from_slice(rest.get(..len)?);
    Some(Answer { header, payload, len })
}

/// What became of a SCSI command.
#[derive(Debug, Clone, Copy)]
pub(super) struct SrbAnswer {
    pub(super) statuses: Statuses,
    /// Bytes moved.
    pub(super) transferred: u32,
}

/// The answer to a SCSI command; `None` if it is another, or too short for the version.
pub(super) fn srb_answer(answer: &Answer, version: StorvspVersion) -> Option<SrbAnswer> {
    if answer.header.operation != Operation::COMPLETE_IO || answer.len < version.srb_bytes() {
        return None;
    }
    let srb = VmscsiRequest::read_from_bytes(&answer.payload).ok()?;
    let sense = if srb.srb_status.has_autosense() {
        let told = usize::from(srb.sense_info_length);
        Sense::new(&srb.cdb_or_sense, told.min(version.sense_bytes()))
    } else {
        Sense::NONE
    };
    let statuses = Statuses {
        vstor: answer.header.status,
        srb: srb.srb_status,
        scsi: ScsiStatus(srb.scsi_status),
        sense,
    };
    Some(SrbAnswer { statuses, transferred: srb.data_transfer_length })
}

#[cfg(test)]
#[path = "packet/tests.rs"]
mod tests;
