//! One disk as a logical unit: what has happened to it that the guest must learn of, and what it has done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::cdb::{CdbRequestSense, REQUEST_SENSE_DESC};
use hv_abi::scsi::sense::AdditionalSense;
use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskError};
use super::request::DiskOp;
use super::scsi::cdb::Cdb;
use super::scsi::data::DataPhase;
use super::scsi::sense::Sense;
use super::scsi::{self, Action, UnitInfo};
use crate::stats::lock;

/// Pieces of news that wait at most. There are not as many different ones.
const MAX_ATTENTIONS: usize = 8;

/// A logical unit.
pub struct Unit {
    name: String,
    identity: u64,
    disk: Arc<dyn Disk>,
    /// Bytes that the guest was told of last, or would be if it asked.
    told_bytes: AtomicU64,
    attentions: Mutex<VecDeque<AdditionalSense>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
    flushes: AtomicU64,
    discards: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    errors: AtomicU64,
}

/// What a disk has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Its number.
    pub lun: u8,
    /// Its file.
    pub path: String,
    /// Requests that read.
    pub reads: u64,
    /// Requests that write, with data or without.
    pub writes: u64,
    /// Flushes, and writes that must be safe before they end.
    pub flushes: u64,
    /// Requests that give space back.
    pub discards: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests that the disk failed to do.
    pub errors: u64,
}

impl Unit {
    /// A unit for a disk; `name` is for reports, `identity` tells it from others and is the same the next time.
    pub fn new(name: &str, identity: u64, disk: Arc<dyn Disk>) -> Self {
        let told_bytes = AtomicU64::new(disk.info().bytes);
        let attentions = Mutex::default();
        let counts = Counts::default();
        Self { name: name.into(), identity, disk, told_bytes, attentions, counts }
    }

    /// Its name in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// What SCSI commands need to know.
    pub fn info(&self) -> UnitInfo {
        UnitInfo { disk: self.disk.info(), identity: self.identity }
    }

    /// The next command but INQUIRY and REPORT LUNS is answered with this instead.
    pub fn attend(&self, news: AdditionalSense) {
        let mut attentions = lock(&self.attentions);
        if !attentions.contains(&news) && attentions.len() < MAX_ATTENTIONS {
            attentions.push_back(news);
        }
    }

    /// The guest has learnt this some other way.
    pub fn forget(&self, news: AdditionalSense) {
        lock(&self.attentions).retain(|waiting| *waiting != news);
    }

    /// Looks whether the disk has another size. If so, the guest will learn of it.
    ///
    /// # Errors
    /// The disk does not tell.
    pub fn refresh(&self) -> Result<bool, DiskError> {
        let bytes = self.disk.refresh()?.bytes;
        let changed = self.told_bytes.swap(bytes, Ordering::AcqRel) != bytes;
        if changed {
            self.attend(AdditionalSense::CAPACITY_DATA_HAS_CHANGED);
        }
        Ok(changed)
    }

    /// Looks at a command; as [`scsi::execute`].
    pub fn begin(&self, cdb: &Cdb, data: DataPhase, parameters: Option<&[u8]>) -> Action {
        if cdb.op() == ScsiOp::REQUEST_SENSE {
            let news = lock(&self.attentions).pop_front();
            return request_sense(cdb, news.map_or(Sense::NONE, Sense::attention), data);
        }
        if cdb.op() != ScsiOp::INQUIRY
            && parameters.is_none()
            && let Some(news) = lock(&self.attentions).pop_front()
        {
            return Action::Fail(Sense::attention(news));
        }
        scsi::execute(cdb, &self.info(), data, parameters)
    }

    /// Counts what became of a request to the disk, and says it in SCSI's words.
    ///
    /// # Errors
    /// The disk's error.
    pub fn finish(
        &self,
        op: &DiskOp,
        bytes: u32,
        result: Result<(), DiskError>,
    ) -> Result<(), Sense> {
        self.count(op, bytes.into());
        result.map_err(|error| {
            // Data that differs is an answer.
            if !matches!(error, DiskError::Miscompare(_)) {
                self.counts.errors.fetch_add(1, Ordering::Relaxed);
            }
            Sense::of_disk(error, op)
        })
    }

    fn count(&self, op: &DiskOp, bytes: u64) {
        let add = |counter: &AtomicU64, count| {
            counter.fetch_add(count, Ordering::Relaxed);
        };
        let counts = &self.counts;
        match op {
            DiskOp::Read(_) | DiskOp::Verify(_) | DiskOp::Compare(_) => {
                add(&counts.reads, 1);
                add(&counts.read_bytes, bytes);
            }
            DiskOp::Write { through, .. } => {
                add(&counts.writes, 1);
                add(&counts.written_bytes, bytes);
                add(&counts.flushes, (*through).into());
            }
            DiskOp::Zero(range) | DiskOp::Fill { range, .. } => {
                add(&counts.writes, 1);
                add(&counts.written_bytes, range.length);
            }
            DiskOp::Flush => add(&counts.flushes, 1),
            DiskOp::Discard(_) => add(&counts.discards, 1),
        }
    }

    /// What it has done so far.
    pub fn report(&self, lun: u8) -> DiskReport {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskReport {
            lun,
            path: self.name.clone(),
            reads: get(&self.counts.reads),
            writes: get(&self.counts.writes),
            flushes: get(&self.counts.flushes),
            discards: get(&self.counts.discards),
            read_bytes: get(&self.counts.read_bytes),
            written_bytes: get(&self.counts.written_bytes),
            errors: get(&self.counts.errors),
        }
    }
}

/// REQUEST SENSE: the error is the answer.
pub(super) fn request_sense(cdb: &Cdb, sense: Sense, data: DataPhase) -> Action {
    let answer = || {
        cdb.check_control()?;
        let cdb: CdbRequestSense = cdb.view()?;
        let bytes = match cdb.flags & REQUEST_SENSE_DESC {
            0 => sense.to_fixed().to_vec(),
            _ => sense.to_descriptor().to_vec(),
        };
        data.answer(bytes, cdb.allocation_length.into(), 4)
    };
    answer().unwrap_or_else(Action::Fail)
}

/// A number that tells names apart (FNV-1a, 64 bits).
pub fn identity_of(name: &[u8], lun: u8) -> u64 {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01B3;
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    name.iter().chain(&[0, lun]).fold(OFFSET, step)
}
