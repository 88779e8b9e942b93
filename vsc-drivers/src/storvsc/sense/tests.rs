//! Verdicts on answers, from the bytes that disks give.

use alloc::string::ToString;

use proptest::prelude::*;

use super::*;

/// Fixed-format sense data as in SPC-4, written by hand: 70h, key in byte 2, code in bytes 12 and 13.
fn fixed(key: u8, code: u16) -> Sense {
    let [asc, ascq] = code.to_be_bytes();
    let bytes = [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0, 0, 0];
    Sense::new(&bytes, 18)
}

fn check_condition(sense: Sense) -> Statuses {
    Statuses {
        vstor: VstorStatus::IO_DEVICE_ERROR,
        srb: SrbStatus::ERROR.with_autosense(),
        scsi: ScsiStatus::CHECK_CONDITION,
        sense,
    }
}

fn by_status(scsi: ScsiStatus, srb: SrbStatus) -> Statuses {
    Statuses { vstor: VstorStatus::SUCCESS, srb, scsi, sense: Sense::NONE }
}

fn kind(verdict: Verdict) -> Option<DiskErrorKind> {
    match verdict {
        Verdict::Done | Verdict::Partial => None,
        Verdict::Retry(_, error) | Verdict::Failed(error) => Some(error.kind),
    }
}

#[test]
fn every_sense_key_has_its_error() {
    use DiskErrorKind as Kind;
    let cases = [
        (0x2, 0x3A00, Kind::NotReady),
        (0x2, 0x0401, Kind::NotReady),
        (0x3, 0x1100, Kind::Medium),
        (0x3, 0x0C00, Kind::Medium),
        (0x4, 0x4400, Kind::Hardware),
        (0x5, 0x2000, Kind::IllegalRequest),
        (0x5, 0x2100, Kind::OutOfRange),
        (0x5, 0x2500, Kind::NoSuchLun),
        (0x6, 0x2900, Kind::UnitAttention),
        (0x7, 0x2700, Kind::ReadOnly),
        (0x7, 0x2707, Kind::NoSpace),
        (0xB, 0x4B00, Kind::Aborted),
        (0xE, 0x1D00, Kind::Medium),
        (0xF, 0x0000, Kind::Host),
    ];
    for (key, code, expected) in cases {
        let (verdict, _) = judge(&check_condition(fixed(key, code)));
        assert_eq!(kind(verdict), Some(expected), "key {key:x}, code {code:04x}");
    }
}

#[test]
fn recovered_errors_and_no_sense_are_done() {
    assert_eq!(judge(&check_condition(fixed(1, 0x1700))), (Verdict::Done, Notice::None));
    assert_eq!(judge(&check_condition(fixed(0, 0))), (Verdict::Done, Notice::None));
}

#[test]
fn the_raw_bytes_are_kept() {
    let sense = fixed(3, 0x1100);
    let (Verdict::Failed(error), _) = judge(&check_condition(sense)) else { panic!() };
    assert_eq!(error.sense.as_bytes(), sense.as_bytes());
    assert_eq!(error.to_string(), "a block can't be read or written (sense key 3, code 1100)");
}

#[test]
fn descriptor_format_is_understood() {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&[0x72, 0x05, 0x21, 0x00]);
    let sense = Sense::new(&bytes, 8);
    assert_eq!(sense.decode(), Some((SenseKey::ILLEGAL_REQUEST, AdditionalSense(0x2100))));
}

#[test]
fn unit_attentions_are_tried_again_and_say_what_changed() {
    let cases = [
        (0x2900, Notice::None),
        (0x2902, Notice::None),
        (0x2A09, Notice::DiskChanged),
        (0x2A01, Notice::DiskChanged),
        (0x2800, Notice::DiskChanged),
        (0x3F03, Notice::DiskChanged),
        (0x3F0E, Notice::DisksChanged),
    ];
    for (code, expected) in cases {
        let (verdict, notice) = judge(&check_condition(fixed(6, code)));
        assert!(matches!(verdict, Verdict::Retry(Retry::Attention, _)), "{code:04x}");
        assert_eq!(notice, expected, "{code:04x}");
    }
}

#[test]
fn busy_disks_are_tried_again_later() {
    for statuses in [
        by_status(ScsiStatus::BUSY, SrbStatus::ERROR),
        by_status(ScsiStatus::TASK_SET_FULL, SrbStatus::ERROR),
        by_status(ScsiStatus::GOOD, SrbStatus::BUSY),
        check_condition(fixed(2, 0x0401)),
    ] {
        assert!(matches!(judge(&statuses).0, Verdict::Retry(Retry::Busy, _)), "{statuses:?}");
    }
}

#[test]
fn what_a_reset_ended_is_tried_again() {
    for srb in [SrbStatus::ABORTED, SrbStatus::BUS_RESET, SrbStatus::REQUEST_FLUSHED] {
        let (verdict, _) = judge(&by_status(ScsiStatus::GOOD, srb));
        assert!(matches!(verdict, Verdict::Retry(Retry::Aborted, _)), "{srb:?}");
    }
}

#[test]
fn absent_units_have_the_bus_looked_at_again() {
    for srb in [SrbStatus::INVALID_LUN, SrbStatus::NO_DEVICE, SrbStatus::INVALID_TARGET_ID] {
        let (verdict, notice) = judge(&by_status(ScsiStatus::CHECK_CONDITION, srb));
        assert_eq!((kind(verdict), notice), (Some(DiskErrorKind::NoSuchLun), Notice::DisksChanged));
    }
}

#[test]
fn only_agreement_is_success() {
    let good = by_status(ScsiStatus::GOOD, SrbStatus::SUCCESS);
    assert_eq!(judge(&good).0, Verdict::Done);
    let contradictions = [
        Statuses { vstor: VstorStatus::UNSUCCESSFUL, ..good },
        by_status(ScsiStatus::CHECK_CONDITION, SrbStatus::SUCCESS),
        by_status(ScsiStatus::GOOD, SrbStatus::PENDING),
        by_status(ScsiStatus(0x77), SrbStatus::SUCCESS),
        // Sense data is announced, and is none.
        check_condition(Sense::NONE),
        check_condition(Sense::new(&[0x42; 20], 20)),
    ];
    for statuses in contradictions {
        assert_eq!(kind(judge(&statuses).0), Some(DiskErrorKind::BadReply), "{statuses:?}");
    }
}

#[test]
fn sense_data_for_success_is_believed() {
    // SCSI's status says that there is sense data, the SRB's number says success: the worse counts.
    let statuses =
        Statuses { srb: SrbStatus::SUCCESS.with_autosense(), ..check_condition(fixed(3, 0x1100)) };
    assert_eq!(kind(judge(&statuses).0), Some(DiskErrorKind::Medium));
}

#[test]
fn a_length_that_lies_reads_nothing_behind_the_bytes() {
    let sense = Sense::new(&[0x70; 20], 255);
    assert_eq!(sense.as_bytes().len(), 20);
    // Without byte 2, there is no key.
    assert_eq!(Sense::new(&[0x70; 20], 2).decode(), None);
    assert_eq!(Sense::new(&[0x70; 20], 3).decode(), Some((SenseKey(0), AdditionalSense(0))));
}

proptest! {
    #[test]
    fn any_answer_gets_a_verdict(vstor: u32, srb: u8, scsi: u8, bytes: [u8; 20], len in 0usize..256) {
        let sense = Sense::new(&bytes, len);
        let statuses = Statuses {
            vstor: VstorStatus(vstor),
            srb: SrbStatus(srb),
            scsi: ScsiStatus(scsi),
            sense,
        };
        let (verdict, _) = judge(&statuses);
        if verdict == Verdict::Done && scsi == 0 {
            prop_assert_eq!(SrbStatus(srb).code(), SrbStatus::SUCCESS);
        }
        if scsi != 0 && verdict == Verdict::Done {
            prop_assert!(matches!(sense.decode(), Some((SenseKey(0 | 1), _))));
        }
    }
}
