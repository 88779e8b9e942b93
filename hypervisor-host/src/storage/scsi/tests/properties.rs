//! Whatever comes, nothing outside the disk is touched.

use proptest::prelude::*;

use super::*;
use crate::storage::scsi::MAX_TRANSFER_BYTES;

/// Codes that we know, in half of the cases.
fn any_cdb() -> impl Strategy<Value = [u8; 16]> {
    let known = prop::sample::select(vec![
        0x00, 0x03, 0x08, 0x0A, 0x12, 0x15, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2A, 0x2F, 0x35, 0x41,
        0x42, 0x55, 0x5A, 0x88, 0x8A, 0x8F, 0x91, 0x93, 0x9E, 0xA0, 0xA3, 0xA8, 0xAA, 0xAF,
    ]);
    let bytes =
        prop_oneof![any::<[u8; 16]>(), prop::array::uniform16(prop_oneof![Just(0), 0_u8..8])];
    (prop_oneof![1 => any::<u8>(), 5 => known], bytes).prop_map(|(op, mut bytes)| {
        bytes[0] = op;
        bytes
    })
}

fn any_data() -> impl Strategy<Value = DataPhase> {
    let way = prop::sample::select(vec![DataWay::None, DataWay::In, DataWay::Out]);
    let bytes = prop_oneof![Just(0), 0_u32..4096, any::<u32>()];
    (way, bytes).prop_map(|(way, bytes)| DataPhase { way, bytes })
}

fn any_unit() -> impl Strategy<Value = UnitInfo> {
    let blocks = prop_oneof![1_u64..64, 1_u64..1 << 40];
    (blocks, any::<bool>(), any::<bool>()).prop_map(|(blocks, read_only, discard)| {
        let disk = DiskInfo { bytes: blocks * 512, read_only, discard: discard && !read_only };
        UnitInfo { disk, identity: IDENTITY }
    })
}

fn ranges(op: &DiskOp) -> Vec<ByteRange> {
    match op {
        DiskOp::Read(range)
        | DiskOp::Write { range, .. }
        | DiskOp::Zero(range)
        | DiskOp::Fill { range, .. }
        | DiskOp::Verify(range)
        | DiskOp::Compare(range) => vec![*range],
        DiskOp::Discard(ranges) => ranges.clone(),
        DiskOp::Flush => Vec::new(),
    }
}

fn check(action: &Action, unit: &UnitInfo, data: DataPhase) -> Result<(), TestCaseError> {
    match action {
        Action::Disk { op, bytes } => {
            for range in ranges(op) {
                prop_assert!(range.offset.checked_add(range.length).unwrap() <= unit.disk.bytes);
                prop_assert!(range.offset % 512 == 0 && range.length % 512 == 0);
            }
            let moves = matches!(op, DiskOp::Read(_) | DiskOp::Write { .. } | DiskOp::Compare(_));
            prop_assert!(*bytes <= data.bytes.min(MAX_TRANSFER_BYTES));
            prop_assert_eq!(u64::from(*bytes), if moves { ranges(op)[0].length } else { 0 });
            let harmless = matches!(
                op,
                DiskOp::Read(_) | DiskOp::Flush | DiskOp::Verify(_) | DiskOp::Compare(_)
            );
            prop_assert!(harmless || !unit.disk.read_only);
        }
        Action::Answer(answer) => {
            prop_assert!(data.way == DataWay::In && answer.len() <= data.bytes as usize);
        }
        Action::Parameters(bytes) => {
            prop_assert!(data.way == DataWay::Out && *bytes <= data.bytes && *bytes <= 0xFFFF);
        }
        Action::Fail(sense) => prop_assert!(sense.key != SenseKey::NO_SENSE),
        Action::Good => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_command_reaches_outside(
        bytes in any_cdb(),
        length in 0_usize..20,
        data in any_data(),
        unit in any_unit(),
        list in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..600),
    ) {
        if let Ok(cdb) = Cdb::new(&bytes, length.max(16)) {
            let mut action = execute(&cdb, &unit, data, None);
            check(&action, &unit, data)?;
            if let Action::Parameters(bytes) = action {
                let mut list = list;
                list.resize(bytes as usize, 0);
                action = execute(&cdb, &unit, data, Some(&list));
                check(&action, &unit, data)?;
                prop_assert!(!matches!(action, Action::Parameters(_)));
            }
        }
        let _ = Cdb::new(&bytes, length);
    }
}
