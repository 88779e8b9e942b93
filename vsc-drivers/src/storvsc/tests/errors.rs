//! Errors of disks: told, tried again, bounded.

use super::machine::{with_disk, with_driver};
use super::target::{Act, On, Target};
use crate::storvsc::{DiskErrorKind, IoBuffer, StorOptions};

const READ: On = On::Command(0x28);
const WRITE: On = On::Command(0x2A);

/// The error of a read for which the host says `act` as often as it is asked.
fn read_error(act: Act) -> (DiskErrorKind, usize) {
    with_disk(
        |_| {},
        async |machine, disk| {
            machine.target().rule(READ, usize::MAX, act);
            let error = disk.read(0, &mut [0; 512]).await.unwrap_err();
            (error.kind, machine.target().commands(0x28))
        },
    )
}

#[test]
fn errors_of_the_disk_are_told_at_once_with_their_sense_data() {
    with_disk(
        |_| {},
        async |machine, disk| {
            machine.target().rule(READ, 1, Act::sense(3, 0x1100));
            let error = disk.read(0, &mut [0; 512]).await.unwrap_err();
            assert_eq!(error.kind, DiskErrorKind::Medium);
            assert_eq!(error.sense.as_bytes()[..3], [0x70, 0, 3]);
            assert_eq!(machine.target().commands(0x28), 1);
            disk.read(0, &mut [0; 512]).await.unwrap();
        },
    );
}

#[test]
fn write_protection_found_late_is_told_and_remembered() {
    with_disk(
        |_| {},
        async |machine, disk| {
            {
                let mut target = machine.target();
                target.rule(WRITE, 1, Act::sense(7, 0x2700));
                target.disks.get_mut(&0).unwrap().read_only = true;
            }
            assert_eq!(disk.write(0, &[0; 512]).await.unwrap_err().kind, DiskErrorKind::ReadOnly);
            super::machine::pause(machine, 10).await;
            assert!(disk.is_read_only());
        },
    );
}

#[test]
fn a_full_disk_says_so() {
    with_disk(
        |_| {},
        async |machine, disk| {
            machine.target().rule(WRITE, 1, Act::sense(7, 0x2707));
            assert_eq!(disk.write(0, &[0; 512]).await.unwrap_err().kind, DiskErrorKind::NoSpace);
        },
    );
}

#[test]
fn a_unit_attention_is_handled_without_anybody_noticing() {
    with_disk(
        |_| {},
        async |machine, disk| {
            machine.target().rule(READ, 3, Act::sense(6, 0x2900));
            disk.read(0, &mut [0; 512]).await.unwrap();
            assert_eq!(machine.target().commands(0x28), 4);
        },
    );
}

#[test]
fn a_busy_disk_is_asked_again_with_pauses() {
    for act in [
        Act::Say { scsi: 0x08, srb: 0x04, vstor: 0, sense: [].into() },
        Act::Say { scsi: 0x28, srb: 0x04, vstor: 0, sense: [].into() },
        Act::Say { scsi: 0x00, srb: 0x05, vstor: 0, sense: [].into() },
    ] {
        with_disk(
            |_| {},
            async |machine, disk| {
                machine.target().rule(READ, 4, act);
                let hal = machine.bus.hal();
                let start = crate::hal::Hal::now_100ns(hal);
                disk.read(0, &mut [0; 512]).await.unwrap();
                let passed = crate::hal::Hal::now_100ns(hal) - start;
                // 1 + 2 + 4 + 8 ms.
                assert!(passed >= 150_000, "{passed}");
                assert_eq!(machine.target().commands(0x28), 5);
            },
        );
    }
}

#[test]
fn every_repetition_is_bounded() {
    let busy = Act::Say { scsi: 0x08, srb: 0x04, vstor: 0, sense: [].into() };
    assert_eq!(read_error(busy), (DiskErrorKind::Busy, 11));
    assert_eq!(read_error(Act::sense(6, 0x2900)), (DiskErrorKind::UnitAttention, 9));
    assert_eq!(read_error(Act::sense(0xB, 0x4B00)), (DiskErrorKind::Aborted, 6));
    let reset = Act::Say { scsi: 0, srb: 0x0E, vstor: 0, sense: [].into() };
    assert_eq!(read_error(reset), (DiskErrorKind::Aborted, 6));
}

#[test]
fn what_a_reset_ended_is_tried_again() {
    with_disk(
        |_| {},
        async |machine, disk| {
            let aborted = Act::Say { scsi: 0, srb: 0x02, vstor: 0xC000_0120, sense: [].into() };
            machine.target().rule(WRITE, 2, aborted);
            disk.write(0, &[1; 512]).await.unwrap();
            assert_eq!(machine.target().disks[&0].bytes[..512], [1; 512]);
        },
    );
}

#[test]
fn a_failed_part_fails_the_whole_with_the_first_blocks_error() {
    let prepare = |target: &mut Target| target.max_transfer = 4096;
    with_disk(prepare, async |machine, disk| {
        machine.target().rule(READ, 1, Act::sense(4, 0x4400));
        machine.target().rule(READ, 1, Act::sense(3, 0x1100));
        let failed = disk.read_lent(0, IoBuffer::zeroed(5 * 4096).unwrap()).await.unwrap_err();
        assert_eq!(failed.error.kind, DiskErrorKind::Hardware);
        assert_eq!(failed.buffers.len(), 1);
        assert_eq!(failed.buffers[0].len(), 5 * 4096);
    });
}

#[test]
fn a_failed_flush_is_told() {
    with_disk(
        |_| {},
        async |machine, disk| {
            machine.target().rule(On::Command(0x35), 1, Act::sense(4, 0x4400));
            assert_eq!(disk.flush().await.unwrap_err().kind, DiskErrorKind::Hardware);
        },
    );
}

#[test]
fn repetitions_are_counted() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let before = storvsc.counts();
            machine.target().rule(READ, 2, Act::sense(6, 0x2900));
            storvsc.disk(0).unwrap().read(0, &mut [0; 512]).await.unwrap();
            let after = storvsc.counts();
            assert_eq!(after.retries - before.retries, 2);
            assert_eq!(after.requests - before.requests, 3);
        },
    );
}
