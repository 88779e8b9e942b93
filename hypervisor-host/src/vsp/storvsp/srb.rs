//! SCSI requests: what a request asks of which unit, and the answer to it.

use std::sync::Arc;

use hv_abi::scsi::ScsiStatus;
use hv_abi::storvsp::{
    DataDirection, MAX_CDB_BYTES, SENSE_BUFFER_BYTES, SrbFlags, SrbStatus, StorvspVersion,
    VmscsiRequest, VstorStatus,
};

use super::packet::{Answer, Question};
use crate::storage::controller::{Address, Controller, Verdict};
use crate::storage::request::DiskOp;
use crate::storage::scsi::Action;
use crate::storage::scsi::cdb::Cdb;
use crate::storage::scsi::data::{DataPhase, DataWay};
use crate::storage::scsi::sense::Sense;
use crate::storage::unit::Unit;
use crate::vmbus::GuestRanges;

/// A request that was not answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Srb {
    pub(super) question: Question,
    request: VmscsiRequest,
    version: StorvspVersion,
}

/// What is to be done for a request.
pub(super) enum Work {
    /// Nothing: here is the answer.
    Answer(Answer),
    /// The disk of this unit has to do this with so many bytes of the guest's memory.
    Disk { unit: Arc<Unit>, op: DiskOp, bytes: u32 },
}

impl Srb {
    /// The request in a packet.
    ///
    /// # Errors
    /// The answer that there is none.
    pub(super) fn new(question: &Question, version: StorvspVersion) -> Result<Self, Answer> {
        let question = *question;
        match question.srb() {
            Some(request) => Ok(Self { question, request, version }),
            None => Err(question.answer(VstorStatus::INVALID_PARAMETER)),
        }
    }

    /// Looks at the request, and does all of it but disk I/O. `ranges` is the guest's memory for it.
    pub(super) fn begin(&self, controller: &Controller, ranges: &GuestRanges) -> Work {
        let request = &self.request;
        if u64::from(request.data_transfer_length) > ranges.len()
            || usize::from(request.cdb_length) > MAX_CDB_BYTES
        {
            return Work::Answer(self.refused(SrbStatus::INVALID_REQUEST));
        }
        let cdb = match self.cdb() {
            Ok(cdb) => cdb,
            Err(sense) => return Work::Answer(self.failed(sense)),
        };
        let data = self.data();
        let verdict = controller.begin(self.address(), &cdb, data, None);
        let verdict = match verdict {
            Verdict::Action(Action::Parameters(bytes), _) => {
                let mut parameters = vec![0; bytes as usize];
                if ranges.read(0, &mut parameters).is_err() {
                    return Work::Answer(self.refused(SrbStatus::INVALID_REQUEST));
                }
                controller.begin(self.address(), &cdb, data, Some(&parameters))
            }
            verdict => verdict,
        };
        self.work(verdict, ranges)
    }

    fn work(&self, verdict: Verdict, ranges: &GuestRanges) -> Work {
        Work::Answer(match verdict {
            Verdict::NoUnit => self.no_unit(),
            Verdict::Action(Action::Disk { op, bytes }, Some(unit)) => {
                return Work::Disk { unit, op, bytes };
            }
            Verdict::Action(Action::Answer(answer), _) => match ranges.write(0, &answer) {
                Ok(()) => self.done(answer.len() as u32),
                Err(_) => self.refused(SrbStatus::INVALID_REQUEST),
            },
            Verdict::Action(Action::Good, _) => self.done(0),
            Verdict::Action(Action::Fail(sense), _) => self.failed(sense),
            // Neither happens: a unit that is absent has no disk, and parameters are asked for once.
            Verdict::Action(Action::Disk { .. } | Action::Parameters(_), _) => {
                self.refused(SrbStatus::INVALID_REQUEST)
            }
        })
    }

    fn cdb(&self) -> Result<Cdb, Sense> {
        let mut bytes = [0; MAX_CDB_BYTES];
        bytes.iter_mut().zip(&self.request.cdb_or_sense).for_each(|(to, from)| *to = *from);
        Cdb::new(&bytes, self.request.cdb_length.into())
    }

    fn data(&self) -> DataPhase {
        let bytes = self.request.data_transfer_length;
        let way = match self.request.data_in {
            DataDirection::READ => DataWay::In,
            DataDirection::WRITE => DataWay::Out,
            _ => DataWay::None,
        };
        if bytes == 0 { DataPhase::NONE } else { DataPhase { way, bytes } }
    }

    fn address(&self) -> Address {
        let VmscsiRequest { path_id: path, target_id: target, lun, .. } = self.request;
        Address { path, target, lun }
    }

    /// It succeeded, and so many bytes were moved.
    pub(super) fn done(&self, bytes: u32) -> Answer {
        let answer = self.answer(SrbStatus::SUCCESS, ScsiStatus::GOOD, bytes, None);
        self.question.answer_with(VstorStatus::SUCCESS, &answer)
    }

    /// The unit can't do it.
    pub(super) fn failed(&self, sense: Sense) -> Answer {
        let answer = self.answer(SrbStatus::ERROR, ScsiStatus::CHECK_CONDITION, 0, Some(sense));
        self.question.answer_with(VstorStatus::UNSUCCESSFUL, &answer)
    }

    /// The request makes no sense.
    pub(super) fn refused(&self, status: SrbStatus) -> Answer {
        let answer = self.answer(status, ScsiStatus::GOOD, 0, None);
        self.question.answer_with(VstorStatus::INVALID_PARAMETER, &answer)
    }

    /// There is no unit at the address. Guests take units away that answer so.
    fn no_unit(&self) -> Answer {
        let answer = self.answer(SrbStatus::INVALID_LUN, ScsiStatus::GOOD, 0, None);
        self.question.answer_with(VstorStatus::DEVICE_DOES_NOT_EXIST, &answer)
    }

    /// The request with its outcome filled in.
    fn answer(
        &self,
        status: SrbStatus,
        scsi_status: ScsiStatus,
        bytes: u32,
        sense: Option<Sense>,
    ) -> VmscsiRequest {
        let sense = sense.filter(|_| self.wants_sense());
        let srb_status = if sense.is_some() { status.with_autosense() } else { status };
        let mut answer = VmscsiRequest {
            srb_status,
            scsi_status: scsi_status.0,
            sense_info_length: 0,
            data_transfer_length: bytes,
            ..self.request
        };
        if let Some(sense) = sense {
            let sense = sense.to_fixed();
            let room = usize::from(self.request.sense_info_length).min(self.version.sense_bytes());
            answer.cdb_or_sense = [0; SENSE_BUFFER_BYTES];
            let length = sense.len().min(room);
            let places = answer.cdb_or_sense.iter_mut().zip(sense).take(length);
            places.for_each(|(to, from)| *to = from);
            answer.sense_info_length = length as u8;
        }
        answer
    }

    /// Sense data is left out for a guest that wants none; it is lost then, as we keep none.
    fn wants_sense(&self) -> bool {
        let flags = match self.version >= StorvspVersion::V5_1 {
            true => SrbFlags::from_bits_truncate(self.request.srb_flags),
            false => SrbFlags::empty(),
        };
        self.request.sense_info_length != 0 && !flags.contains(SrbFlags::DISABLE_AUTOSENSE)
    }

    /// The unit that a reset is for.
    pub(super) fn lun(&self) -> u8 {
        self.request.lun
    }
}
