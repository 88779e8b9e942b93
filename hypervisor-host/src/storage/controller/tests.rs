//! Units that come, go and change.

use std::sync::atomic::{AtomicU32, Ordering};

use hv_abi::storvsp::MAX_CDB_BYTES;

use super::*;
use crate::storage::memory::MemoryDisk;
use crate::storage::request::DiskOp;
use crate::storage::scsi::data::DataWay;

const DATA: DataPhase = DataPhase { way: DataWay::In, bytes: 1024 };
const TEST_UNIT_READY: [u8; 6] = [0; 6];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 255, 0];
const REQUEST_SENSE: [u8; 6] = [3, 0, 0, 0, 255, 0];
const REPORT_LUNS: [u8; 12] = [0xA0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];

fn unit() -> (Arc<MemoryDisk>, Arc<Unit>) {
    let disk = Arc::new(MemoryDisk::new(vec![0; 4096]));
    (disk.clone(), Arc::new(Unit::new("memory", 1, disk)))
}

fn at(lun: u8) -> Address {
    Address { path: 0, target: 0, lun }
}

fn run(controller: &Controller, address: Address, bytes: &[u8]) -> Verdict {
    let mut whole = [0; MAX_CDB_BYTES];
    whole[..bytes.len()].copy_from_slice(bytes);
    let cdb = Cdb::new(&whole, bytes.len()).unwrap();
    controller.begin(address, &cdb, DATA, None)
}

#[track_caller]
fn action(controller: &Controller, address: Address, bytes: &[u8]) -> Action {
    match run(controller, address, bytes) {
        Verdict::Action(action, _) => action,
        Verdict::NoUnit => panic!("no unit"),
    }
}

fn news(code: AdditionalSense) -> Action {
    Action::Fail(Sense::attention(code))
}

fn luns(controller: &Controller) -> Vec<u8> {
    match action(controller, at(0), &REPORT_LUNS) {
        Action::Answer(answer) => answer[8..].chunks(8).map(|entry| entry[1]).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_are_given_once() {
    let controller = Controller::default();
    assert_eq!(controller.free_lun(), Some(0));
    controller.plug(0, unit().1).unwrap();
    controller.plug(2, unit().1).unwrap();
    assert_eq!(controller.free_lun(), Some(1));
    assert_eq!(controller.plug(2, unit().1), Err(ControllerError::Taken(2)));
    assert_eq!(controller.plug(64, unit().1), Err(ControllerError::NoSuchLun(64)));
    assert_eq!(controller.remove(1).err(), Some(ControllerError::Absent(1)));
    assert_eq!(controller.remove(64).err(), Some(ControllerError::NoSuchLun(64)));
    for lun in (0..64).filter(|lun| ![0, 2].contains(lun)) {
        controller.plug(lun, unit().1).unwrap();
    }
    assert_eq!(controller.free_lun(), None);
    assert_eq!(luns(&controller), (0..64).collect::<Vec<_>>());
}

#[test]
fn what_is_absent_answers_as_much_as_it_must() {
    let controller = Controller::default();
    controller.plug(3, unit().1).unwrap();
    for address in [at(0), at(255), Address { target: 1, ..at(3) }, Address { path: 7, ..at(3) }] {
        assert!(matches!(run(&controller, address, &TEST_UNIT_READY), Verdict::NoUnit));
        let Action::Answer(answer) = action(&controller, address, &INQUIRY) else { panic!() };
        assert_eq!(answer[0], 0x7F);
        let Action::Answer(sense) = action(&controller, address, &REQUEST_SENSE) else { panic!() };
        assert_eq!([sense[2], sense[12], sense[13]], [5, 0x25, 0]);
    }
    assert_eq!(luns(&controller), [3]);
    let elsewhere = action(&controller, Address { target: 1, ..at(0) }, &REPORT_LUNS);
    assert_eq!(elsewhere, Action::Answer(vec![0; 8]));
}

#[test]
fn a_unit_that_comes_is_told_of_to_all() {
    let controller = Controller::default();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let watcher: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    controller.watch(&watcher);
    controller.plug(0, unit().1).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    controller.add(1, unit().1).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    let changed = AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED;
    assert_eq!(action(&controller, at(0), &TEST_UNIT_READY), news(changed));
    assert_eq!(action(&controller, at(0), &TEST_UNIT_READY), Action::Good);
    let power_on = AdditionalSense::POWER_ON_OR_RESET;
    assert!(matches!(action(&controller, at(1), &INQUIRY), Action::Answer(_)));
    assert_eq!(action(&controller, at(1), &TEST_UNIT_READY), news(power_on));
    assert_eq!(action(&controller, at(1), &TEST_UNIT_READY), Action::Good);
    controller.remove(1).unwrap();
    assert_eq!((luns(&controller), calls.load(Ordering::Relaxed)), (vec![0], 2));
    // Who has the list knows.
    assert_eq!(action(&controller, at(0), &TEST_UNIT_READY), Action::Good);
    assert!(matches!(run(&controller, at(1), &TEST_UNIT_READY), Verdict::NoUnit));
    drop(watcher);
    controller.add(1, unit().1).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn a_new_size_is_told_once() {
    let controller = Controller::default();
    let (disk, unit) = unit();
    controller.plug(0, unit).unwrap();
    assert_eq!(controller.refresh(0), Ok(false));
    disk.resize(8192);
    assert_eq!(controller.refresh(0), Ok(true));
    assert_eq!(controller.refresh(0), Ok(false));
    let changed = news(AdditionalSense::CAPACITY_DATA_HAS_CHANGED);
    assert_eq!(action(&controller, at(0), &TEST_UNIT_READY), changed);
    let Action::Answer(told) = action(&controller, at(0), &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    else {
        panic!()
    };
    assert_eq!(told[3], 15);
    assert_eq!(controller.refresh(1), Err(ControllerError::Absent(1)));
}

#[test]
fn news_wait_in_order_and_can_be_asked_for() {
    let controller = Controller::default();
    let (_, unit) = unit();
    controller.plug(0, unit.clone()).unwrap();
    unit.attend(AdditionalSense::CAPACITY_DATA_HAS_CHANGED);
    controller.reset(None);
    controller.reset(Some(0));
    controller.reset(Some(1));
    let Action::Answer(sense) = action(&controller, at(0), &REQUEST_SENSE) else { panic!() };
    assert_eq!(sense, [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2A, 9, 0, 0, 0, 0]);
    let reset = news(AdditionalSense::BUS_RESET_OCCURRED);
    assert_eq!(action(&controller, at(0), &TEST_UNIT_READY), reset);
    let Action::Answer(none) = action(&controller, at(0), &[3, 1, 0, 0, 255, 0]) else { panic!() };
    assert_eq!(none, [0x72, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_units_did_is_counted() {
    let controller = Controller::default();
    let (_, unit) = unit();
    controller.plug(5, unit.clone()).unwrap();
    let range = crate::storage::disk::ByteRange::new(0, 512);
    let error = unit.finish(&DiskOp::Read(range), 512, Err(DiskError::Short));
    assert!(error.is_err());
    unit.finish(&DiskOp::Write { range, through: true }, 512, Ok(())).unwrap();
    unit.finish(&DiskOp::Flush, 0, Ok(())).unwrap();
    unit.finish(&DiskOp::Zero(range), 0, Ok(())).unwrap();
    unit.finish(&DiskOp::Discard(vec![range]), 0, Ok(())).unwrap();
    let expected = DiskReport {
        lun: 5,
        path: "memory".into(),
        reads: 1,
        writes: 2,
        flushes: 2,
        discards: 1,
        read_bytes: 512,
        written_bytes: 1024,
        errors: 1,
    };
    assert_eq!(controller.report(), std::slice::from_ref(&expected));
    controller.remove(5).unwrap();
    assert_eq!(controller.report(), [expected]);
}
