//! SCSI commands for disks of any size: whatever comes, no disk is asked for what it does not have.
//!
//! 8 bytes are the number of blocks; then flags of the disk, way and bytes of the data, the command block's length, 16 bytes of
//! it, and the rest is what the guest sends.

#![no_main]

use hypervisor_host::storage::disk::{ByteRange, DiskInfo};
use hypervisor_host::storage::request::DiskOp;
use hypervisor_host::storage::scsi::cdb::Cdb;
use hypervisor_host::storage::scsi::data::{DataPhase, DataWay};
use hypervisor_host::storage::scsi::{Action, UnitInfo, execute};
use libfuzzer_sys::fuzz_target;

const MAX_BLOCKS: u64 = 1 << 44;

fuzz_target!(|input: &[u8]| {
    let Some((blocks, rest)) = input.split_first_chunk::<8>() else { return };
    let [flags, way, a, b, c, d, length, rest @ ..] = rest else { return };
    let Some((cdb, list)) = rest.split_first_chunk::<16>() else { return };
    let bytes = (u64::from_le_bytes(*blocks) % MAX_BLOCKS + 1) * 512;
    let (read_only, discard) = (flags & 1 != 0, flags & 3 == 2);
    let unit = UnitInfo { disk: DiskInfo { bytes, read_only, discard }, identity: 1 };
    let way = [DataWay::None, DataWay::In, DataWay::Out][usize::from(way % 3)];
    let data = DataPhase { way, bytes: u32::from_le_bytes([*a, *b, *c, *d]) };
    let Ok(cdb) = Cdb::new(cdb, (length % 17).into()) else { return };
    let mut action = execute(&cdb, &unit, data, None);
    if let Action::Parameters(bytes) = action {
        assert!(bytes <= data.bytes && way == DataWay::Out);
        let mut list = list.to_vec();
        list.resize(bytes as usize, 0);
        action = execute(&cdb, &unit, data, Some(&list));
        assert!(!matches!(action, Action::Parameters(_)), "{cdb:?}");
    }
    check(&action, &unit, data);
});

fn check(action: &Action, unit: &UnitInfo, data: DataPhase) {
    match action {
        Action::Answer(answer) => {
            assert!(answer.len() <= data.bytes as usize && data.way == DataWay::In);
        }
        Action::Disk { op, bytes } => {
            assert!(*bytes <= data.bytes);
            let ranges: &[ByteRange] = match op {
                DiskOp::Read(range)
                | DiskOp::Write { range, .. }
                | DiskOp::Zero(range)
                | DiskOp::Fill { range, .. }
                | DiskOp::Verify(range)
                | DiskOp::Compare(range) => std::slice::from_ref(range),
                DiskOp::Discard(ranges) => ranges,
                DiskOp::Flush => &[],
            };
            for range in ranges {
                let end = range.offset.checked_add(range.length).expect("no overflow");
                assert!(end <= unit.disk.bytes, "{op:?}");
            }
            let changes = matches!(
                op,
                DiskOp::Write { .. } | DiskOp::Zero(_) | DiskOp::Fill { .. } | DiskOp::Discard(_)
            );
            assert!(!changes || !unit.disk.read_only, "{op:?}");
        }
        _ => {}
    }
}
