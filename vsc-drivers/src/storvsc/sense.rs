//! Sense data, and what a request's three statuses mean together.
//!
//! An answer has the provider's status (NTSTATUS), the SRB's and SCSI's, and perhaps sense data. Hosts do not always agree
//! with themselves: a request counts as done only if all say so.

use core::fmt;

use hv_abi::scsi::ScsiStatus;
use hv_abi::scsi::sense::{AdditionalSense, CURRENT_DESCRIPTOR, CURRENT_FIXED, SenseKey};
use hv_abi::storvsp::{SENSE_BUFFER_BYTES, SrbStatus, VstorStatus};

use super::error::{DiskError, DiskErrorKind};

/// Sense data as it came, at most 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sense {
    bytes: [u8; SENSE_BUFFER_BYTES],
    len: u8,
}

impl Sense {
    /// No sense data.
    pub const NONE: Self = Self { bytes: [0; SENSE_BUFFER_BYTES], len: 0 };

    /// The first `len` of `bytes`, at most all.
    pub fn new(bytes: &[u8; SENSE_BUFFER_BYTES], len: usize) -> Self {
        let len = len.min(SENSE_BUFFER_BYTES);
        let mut sense = Self { bytes: *bytes, len: len as u8 };
        sense.bytes.iter_mut().skip(len).for_each(|byte| *byte = 0);
        sense
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// Sense key and additional sense code; `None` if the bytes are neither of the two formats, or about an earlier command.
    pub fn decode(&self) -> Option<(SenseKey, AdditionalSense)> {
        let bytes = self.as_bytes();
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        let code = |asc, ascq| AdditionalSense(u16::from_be_bytes([at(asc), at(ascq)]));
        match bytes.first()? & 0x7F {
            CURRENT_FIXED => Some((SenseKey(bytes.get(2)? & 0x0F), code(12, 13))),
            CURRENT_DESCRIPTOR => Some((SenseKey(bytes.get(1)? & 0x0F), code(2, 3))),
            _ => None,
        }
    }
}

impl fmt::Debug for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sense({:02x?})", self.as_bytes())
    }
}

/// The statuses of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statuses {
    pub(super) vstor: VstorStatus,
    pub(super) srb: SrbStatus,
    pub(super) scsi: ScsiStatus,
    pub(super) sense: Sense,
}

/// What to do with a request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done.
    Done,
    /// Done, with fewer bytes than asked for, if the answer says so.
    Partial,
    /// Once more, a bounded number of times; if that does not help, the error.
    Retry(Retry, DiskError),
    /// Failed for good.
    Failed(DiskError),
}

/// Why once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Too much to do: after a while.
    Busy,
    /// Something has changed: at once.
    Attention,
    /// A reset, or the like, ended it: at once.
    Aborted,
}

/// What an answer says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// Nothing.
    None,
    /// The disk is not what it was: look at it again.
    DiskChanged,
    /// There may be other disks: look for them.
    DisksChanged,
}

/// Judges an answer.
pub(super) fn judge(statuses: &Statuses) -> (Verdict, Notice) {
    use Verdict::{Done, Failed, Partial};
    let error = |kind| DiskError { kind, sense: statuses.sense };
    match statuses.scsi {
        ScsiStatus::GOOD => {}
        ScsiStatus::CHECK_CONDITION if statuses.srb.has_autosense() => {
            return by_sense(&statuses.sense);
        }
        ScsiStatus::BUSY | ScsiStatus::TASK_SET_FULL => {
            return (Verdict::Retry(Retry::Busy, error(DiskErrorKind::Busy)), Notice::None);
        }
        ScsiStatus::TASK_ABORTED => {
            return (Verdict::Retry(Retry::Aborted, error(DiskErrorKind::Aborted)), Notice::None);
        }
        ScsiStatus::RESERVATION_CONFLICT => {
            return (Failed(error(DiskErrorKind::Reserved)), Notice::None);
        }
        _ => return (by_srb(statuses.srb, error), by_srb_notice(statuses.srb)),
    }
    match statuses.srb.code() {
        // The upper two bits of an NTSTATUS are its severity, 3 an error.
        SrbStatus::SUCCESS if statuses.vstor.0 >> 30 == 3 => {
            (Failed(error(DiskErrorKind::BadReply)), Notice::None)
        }
        SrbStatus::SUCCESS => (Done, Notice::None),
        SrbStatus::DATA_OVERRUN => (Partial, Notice::None),
        _ => (by_srb(statuses.srb, error), by_srb_notice(statuses.srb)),
    }
}

/// Without sense data, the SRB's status is all there is.
fn by_srb(status: SrbStatus, error: impl Fn(DiskErrorKind) -> DiskError) -> Verdict {
    use DiskErrorKind as Kind;
    use Verdict::{Failed, Retry as Again};
    match status.code() {
        SrbStatus::BUSY => Again(Retry::Busy, error(Kind::Busy)),
        SrbStatus::ABORTED | SrbStatus::BUS_RESET | SrbStatus::REQUEST_FLUSHED => {
            Again(Retry::Aborted, error(Kind::Aborted))
        }
        status if is_absent(status) => Failed(error(Kind::NoSuchLun)),
        SrbStatus::TIMEOUT | SrbStatus::COMMAND_TIMEOUT => Failed(error(Kind::TimedOut)),
        SrbStatus::INVALID_REQUEST => Failed(error(Kind::IllegalRequest)),
        // Success, with a SCSI status that is none; not executed, but answered.
        SrbStatus::SUCCESS | SrbStatus::PENDING | SrbStatus::DATA_OVERRUN => {
            Failed(error(Kind::BadReply))
        }
        _ => Failed(error(Kind::Host)),
    }
}

fn is_absent(status: SrbStatus) -> bool {
    matches!(
        status,
        SrbStatus::INVALID_LUN
            | SrbStatus::INVALID_TARGET_ID
            | SrbStatus::INVALID_PATH_ID
            | SrbStatus::NO_DEVICE
            | SrbStatus::SELECTION_TIMEOUT
    )
}

fn by_srb_notice(status: SrbStatus) -> Notice {
    if is_absent(status.code()) { Notice::DisksChanged } else { Notice::None }
}

/// SPC-4, *Sense key and additional sense code definitions*.
fn by_sense(sense: &Sense) -> (Verdict, Notice) {
    use DiskErrorKind as Kind;
    let error = |kind| DiskError { kind, sense: *sense };
    let failed = |kind| (Verdict::Failed(error(kind)), Notice::None);
    let Some((key, code)) = sense.decode() else { return failed(Kind::BadReply) };
    match key {
        SenseKey::NO_SENSE | SenseKey::RECOVERED_ERROR => (Verdict::Done, Notice::None),
        SenseKey::UNIT_ATTENTION => {
            (Verdict::Retry(Retry::Attention, error(Kind::UnitAttention)), attention(code))
        }
        SenseKey::ABORTED_COMMAND => {
            (Verdict::Retry(Retry::Aborted, error(Kind::Aborted)), Notice::None)
        }
        SenseKey::NOT_READY if code == AdditionalSense::BECOMING_READY => {
            (Verdict::Retry(Retry::Busy, error(Kind::NotReady)), Notice::None)
        }
        SenseKey::NOT_READY => failed(Kind::NotReady),
        SenseKey::MEDIUM_ERROR => failed(Kind::Medium),
        SenseKey::HARDWARE_ERROR => failed(Kind::Hardware),
        SenseKey::ILLEGAL_REQUEST => illegal(code, error),
        SenseKey::DATA_PROTECT if code == AdditionalSense::SPACE_ALLOCATION_FAILED => {
            failed(Kind::NoSpace)
        }
        SenseKey::DATA_PROTECT => (Verdict::Failed(error(Kind::ReadOnly)), Notice::DiskChanged),
        SenseKey::MISCOMPARE => failed(Kind::Medium),
        _ => failed(Kind::Host),
    }
}

fn illegal(code: AdditionalSense, error: impl Fn(DiskErrorKind) -> DiskError) -> (Verdict, Notice) {
    let failed = |kind| Verdict::Failed(error(kind));
    match code {
        // Perhaps it has shrunk.
        AdditionalSense::LBA_OUT_OF_RANGE => {
            (failed(DiskErrorKind::OutOfRange), Notice::DiskChanged)
        }
        AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED => {
            (failed(DiskErrorKind::NoSuchLun), Notice::DisksChanged)
        }
        _ => (failed(DiskErrorKind::IllegalRequest), Notice::None),
    }
}

/// What has changed. Besides the codes with names: `2Ahh`, parameters; `3Fhh`, target operating conditions.
fn attention(code: AdditionalSense) -> Notice {
    match (code, code.asc()) {
        (AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED, _) => Notice::DisksChanged,
        (_, 0x28 | 0x2A | 0x3F) => Notice::DiskChanged,
        _ => Notice::None,
    }
}

#[cfg(test)]
#[path = "sense/tests.rs"]
mod tests;
