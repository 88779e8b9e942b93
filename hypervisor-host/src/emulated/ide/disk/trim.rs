//! DATA SET MANAGEMENT: the guest no longer needs these sectors (ACS-2).

use hv_abi::ata::command::{DSM_TRIM, TrimRange};
use hv_abi::ata::error;
use zerocopy::FromBytes;

use super::{AtaDisk, SECTOR, Task};
use crate::emulated::ide::port::Port;
use crate::storage::disk::{ByteRange, Direction};
use crate::storage::request::DiskOp;

/// Sectors of ranges that one command has, at most.
pub(super) const MAX_SECTORS: u16 = 8;

impl AtaDisk {
    /// DATA SET MANAGEMENT; its ranges come by DMA.
    pub(super) fn trim(&mut self, port: &mut Port) {
        let info = self.unit.info().disk;
        let sectors = port.registers.sectors(true);
        let known = port.registers.features.now == DSM_TRIM;
        if !known || !info.discard || info.read_only || sectors > MAX_SECTORS.into() {
            return port.abort();
        }
        self.task = Task::Trim(sectors * SECTOR);
        port.ask_dma(Direction::Write, sectors * SECTOR);
    }

    /// The ranges. All are looked at before the first is given back.
    pub(super) fn trim_ranges(&mut self, port: &mut Port, list: &[u8]) {
        self.task = Task::Nothing;
        let mut ranges = Vec::new();
        for bytes in list.chunks_exact(size_of::<TrimRange>()) {
            let Ok(range) = TrimRange::read_from_bytes(bytes) else { continue };
            let count = u64::from(range.sectors());
            if count == 0 {
                continue;
            }
            if range.lba() + count > self.sectors() {
                return port.fail(0, error::IDNF);
            }
            ranges.push(ByteRange::new(range.lba() * SECTOR, count * SECTOR));
        }
        if ranges.is_empty() {
            return port.done();
        }
        self.ask(port, DiskOp::Discard(ranges));
    }
}
