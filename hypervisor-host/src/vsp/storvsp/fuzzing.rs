//! A controller that is given packets of a fuzzer's making, without a bus: all but rings and asynchronous I/O.

use std::sync::Arc;

use hv_abi::storvsp::{SrbStatus, StorvspVersion, VstorStatus};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmbus_ring::gpa::GpaRanges;

use super::packet::{Answer, Question};
use super::session::{Session, Step};
use super::srb::{Srb, Work};
use super::{StorvspOptions, server};
use crate::storage::controller::Controller;
use crate::storage::disk::DiskError;
use crate::storage::memory::MemoryDisk;
use crate::storage::unit::Unit;
use crate::vmbus::GuestRanges;

/// Pages of the guest.
const PAGES: u64 = 16;
/// Bytes of each disk.
const DISK_BYTES: usize = 64 << 10;

/// A controller with a disk that can be written and one that can't, and a guest's memory.
pub struct Desk {
    memory: GuestMemoryMmap,
    controller: Controller,
    session: Session,
}

/// A packet of a fuzzer's making.
pub struct FuzzPacket<'a> {
    /// What lies in the ring.
    pub payload: &'a [u8],
    /// Range of memory: bytes, offset and pages; none without pages.
    pub range: (u32, u32, &'a [u64]),
}

impl Desk {
    /// Speaks all versions up to `newest`. `ready`: the protocol's beginning is over.
    pub fn new(newest: StorvspVersion, ready: bool) -> Self {
        let memory = [(GuestAddress(0), (PAGES << 12) as usize)];
        let memory = GuestMemoryMmap::from_ranges(&memory).unwrap_or_default();
        let controller = Controller::default();
        let disks =
            [MemoryDisk::new(vec![1; DISK_BYTES]), MemoryDisk::read_only(vec![2; DISK_BYTES])];
        for (lun, disk) in (0..).zip(disks) {
            let _ = controller.plug(lun, Arc::new(Unit::new("fuzz", lun.into(), Arc::new(disk))));
        }
        let options = StorvspOptions { newest, sub_channels: 2 };
        let session =
            if ready { Session::secondary(newest) } else { Session::primary(options, true) };
        Self { memory, controller, session }
    }

    /// Takes a packet. Gives the answer's bytes; none for a packet that ends the channel.
    pub fn take(&mut self, packet: &FuzzPacket<'_>) -> Option<Vec<u8>> {
        let question = Question::parse(7, packet.payload).ok()?;
        let answer = self.answer(&question, packet.range);
        assert_eq!(answer.transaction, Some(7));
        assert_eq!(answer.bytes().len(), packet.payload.len().min(64));
        Some(answer.bytes().to_vec())
    }

    fn answer(&mut self, question: &Question, range: (u32, u32, &[u64])) -> Answer {
        match self.session.take(question) {
            Step::Answer(answer) | Step::Ready(answer) => answer,
            Step::SubChannels(count) => {
                self.session.offered(count);
                question.answer(VstorStatus::SUCCESS)
            }
            Step::Reset { one } => {
                self.controller.reset(one.then_some(0));
                question.answer(VstorStatus::SUCCESS)
            }
            Step::Execute => self.execute(question, range),
        }
    }

    fn execute(&self, question: &Question, (bytes, offset, pages): (u32, u32, &[u64])) -> Answer {
        let version = self.session.version().unwrap_or(StorvspVersion::V2_0);
        let srb = match Srb::new(question, version) {
            Ok(srb) => srb,
            Err(answer) => return answer,
        };
        let Some(ranges) = self.ranges(bytes, offset, pages) else {
            return srb.refused(SrbStatus::INVALID_REQUEST);
        };
        match srb.begin(&self.controller, &ranges) {
            Work::Answer(answer) => answer,
            Work::Disk { unit, op, bytes } => {
                let Some(buffer) = server::buffer(ranges, bytes) else {
                    return srb.refused(SrbStatus::INVALID_REQUEST);
                };
                assert_eq!(buffer.len(), u64::from(bytes));
                let result = op.execute(&**unit.disk(), &buffer);
                // Everything was checked before.
                assert_ne!(result, Err(DiskError::Outside), "{op:?}");
                match unit.finish(&op, bytes, result) {
                    Ok(()) => srb.done(bytes),
                    Err(sense) => srb.failed(sense),
                }
            }
        }
    }

    /// The guest's memory, by way of the list that a packet has.
    fn ranges(&self, bytes: u32, offset: u32, pages: &[u64]) -> Option<GuestRanges> {
        if pages.is_empty() {
            return Some(GuestRanges::empty(&self.memory));
        }
        let mut list = [bytes.to_le_bytes(), offset.to_le_bytes()].concat();
        list.extend(pages.iter().flat_map(|page| page.to_le_bytes()));
        let parsed = GpaRanges::parse(1, &list).ok()?.iter().next()?;
        GuestRanges::of_range(&self.memory, parsed).ok()
    }
}
