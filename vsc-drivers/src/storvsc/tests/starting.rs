//! The protocol's beginning.

use alloc::vec;
use alloc::vec::Vec;

use hv_abi::storvsp::{Operation, StorvspVersion, VstorStatus};

use super::machine::{Machine, with_driver};
use super::target::{Act, MemoryDisk, On, Target};
use crate::SECOND_100NS;
use crate::storvsc::{StartError, StorOptions};

const BEGIN: On = On::Operation(7);
const VERSION: On = On::Operation(9);
const PROPERTIES: On = On::Operation(10);
const END: On = On::Operation(8);

fn start_error(prepare: impl FnOnce(&mut Target)) -> StartError {
    let machine = Machine::new(prepare);
    machine.run(async { machine.start(StorOptions::default()).await.unwrap_err() })
}

#[test]
fn every_version_works_from_negotiation_to_data() {
    for version in StorvspVersion::ALL {
        let only = |target: &mut Target| target.versions = vec![version.0];
        with_driver(only, StorOptions::default(), async |machine, storvsc| {
            assert_eq!(storvsc.version(), version);
            let disk = storvsc.disk(0).unwrap();
            disk.write(7, &[0xA5; 1024]).await.unwrap();
            let mut back = [0; 1024];
            disk.read(7, &mut back).await.unwrap();
            assert_eq!(back, [0xA5; 1024]);
            disk.flush().await.unwrap();
            assert_eq!(machine.target().disks[&0].flushes, 1);
            let last = machine.target().log.last().unwrap().payload;
            assert_eq!(last, version.packet_bytes());
        });
    }
}

#[test]
fn versions_are_tried_newest_first_until_the_host_agrees() {
    let prepare = |target: &mut Target| target.versions = vec![0x0402];
    with_driver(prepare, StorOptions::default(), async |machine, storvsc| {
        assert_eq!(storvsc.version(), StorvspVersion::V4_2);
        assert_eq!(machine.target().operations(9), 4);
    });
}

#[test]
fn a_forced_version_is_the_only_one_asked_for() {
    let options = StorOptions::default().forced(StorvspVersion::V6_0);
    with_driver(
        |_| {},
        options,
        async |machine, storvsc| {
            assert_eq!(storvsc.version(), StorvspVersion::V6_0);
            assert_eq!(machine.target().operations(9), 1);
        },
    );
}

#[test]
fn the_sequence_is_linuxs() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, _| {
            let log: Vec<u32> = machine.target().log.iter().map(|seen| seen.operation).collect();
            assert_eq!(log[..5], [7, 9, 10, 8, 3]);
        },
    );
}

#[test]
fn a_host_without_a_common_version_is_refused() {
    let error = start_error(|target| target.versions = vec![0x0603, 0x0100]);
    assert_eq!(error, StartError::NoVersion);
}

#[test]
fn each_refused_step_is_named() {
    let status = VstorStatus::INVALID_DEVICE_STATE;
    for (on, operation) in [
        (BEGIN, Operation::BEGIN_INITIALIZATION),
        (PROPERTIES, Operation::QUERY_PROPERTIES),
        (END, Operation::END_INITIALIZATION),
    ] {
        let error = start_error(|target| target.rule(on, 1, Act::Status(status.0)));
        assert_eq!(error, StartError::Refused(operation, status));
    }
}

#[test]
fn each_step_without_an_answer_is_named() {
    for (on, operation) in [
        (BEGIN, Operation::BEGIN_INITIALIZATION),
        (VERSION, Operation::QUERY_PROTOCOL_VERSION),
        (PROPERTIES, Operation::QUERY_PROPERTIES),
        (END, Operation::END_INITIALIZATION),
    ] {
        let error = start_error(|target| target.rule(on, 1, Act::Silence));
        assert_eq!(error, StartError::TimedOut(operation));
    }
}

#[test]
fn answers_that_are_none_are_named() {
    let error = start_error(|target| target.rule(BEGIN, 1, Act::Raw(vec![3; 64])));
    assert_eq!(error, StartError::BadReply(Operation::BEGIN_INITIALIZATION));
    // Too short for the properties.
    let mut short = vec![0; 16];
    short[0] = 1;
    let error = start_error(|target| target.rule(PROPERTIES, 1, Act::Raw(short)));
    assert_eq!(error, StartError::BadReply(Operation::QUERY_PROPERTIES));
}

#[test]
fn a_host_that_takes_no_page_at_once_is_refused() {
    let error = start_error(|target| target.max_transfer = 4095);
    assert_eq!(error, StartError::BadReply(Operation::QUERY_PROPERTIES));
}

#[test]
fn a_rescind_in_the_middle_of_starting_ends_it() {
    for (on, count) in [(BEGIN, 1), (VERSION, 2), (PROPERTIES, 3), (END, 4), (On::Command(0xA0), 5)]
    {
        let machine = Machine::new(|target| target.rule(on, 1, Act::Silence));
        let rescind = async {
            machine.host.until(|_| machine.target().log.len() >= count).await;
            machine.host.rescind(machine.channel);
            core::future::pending::<()>().await;
        };
        let error = machine.run(async {
            let start = machine.start(StorOptions::default());
            let mut rescind = core::pin::pin!(rescind);
            let mut start = core::pin::pin!(start);
            core::future::poll_fn(|context| {
                let _ = rescind.as_mut().poll(context);
                start.as_mut().poll(context)
            })
            .await
            .unwrap_err()
        });
        assert_eq!(error, StartError::Ended, "{on:?}");
    }
}

#[test]
fn sparse_units_up_to_63_are_found() {
    let prepare = |target: &mut Target| {
        target.disks.clear();
        for lun in [1, 17, 63] {
            target.disks.insert(lun, MemoryDisk::new(8 + usize::from(lun)));
        }
    };
    with_driver(prepare, StorOptions::default(), async |_, storvsc| {
        let found: Vec<_> =
            storvsc.disks().iter().map(|disk| (disk.address().lun, disk.blocks())).collect();
        assert_eq!(found, [(1, 9), (17, 25), (63, 71)]);
    });
}

#[test]
fn without_a_list_units_are_tried_one_by_one() {
    let prepare = |target: &mut Target| {
        target.disks.insert(63, MemoryDisk::new(8));
        target.rule(On::Command(0xA0), 100, Act::sense(5, 0x2000));
    };
    with_driver(prepare, StorOptions::default(), async |machine, storvsc| {
        assert_eq!(storvsc.disks().len(), 2);
        assert!(machine.target().log.iter().filter(|seen| seen.cdb[0] == 0x12).count() >= 64);
    });
}

#[test]
fn a_disk_says_what_it_is() {
    let prepare = |target: &mut Target| {
        let mut disk = MemoryDisk::new(64);
        disk.block_bytes = 4096;
        disk.bytes = vec![0; 64 * 4096];
        disk.read_only = true;
        target.disks.insert(0, disk);
    };
    with_driver(prepare, StorOptions::default(), async |_, storvsc| {
        let disk = storvsc.disk(0).unwrap();
        assert_eq!((disk.block_bytes(), disk.blocks(), disk.is_read_only()), (4096, 64, true));
        assert_eq!(disk.physical_block_bytes(), 4096 * 8);
        let identity = disk.identity();
        assert_eq!((&*identity.vendor, &*identity.product), ("Msft", "Virtual Disk"));
        assert_eq!(identity.serial, "S1");
    });
}

#[test]
fn disks_above_two_terabytes_are_sized_by_the_long_command() {
    let prepare = |target: &mut Target| {
        target.disks.get_mut(&0).unwrap().claims = Some(1 << 33);
    };
    with_driver(prepare, StorOptions::default(), async |machine, storvsc| {
        let disk = storvsc.disk(0).unwrap();
        assert_eq!(disk.blocks(), 1 << 33);
        // Behind what ten-byte commands can say.
        let _ = disk.read((1 << 33) - 1, &mut [0; 512]).await;
        assert_eq!(machine.target().log.last().unwrap().cdb[0], 0x88);
    });
}

#[test]
fn starting_does_not_hang_on_a_disk_that_never_answers() {
    let prepare = |target: &mut Target| {
        target.disks.insert(1, MemoryDisk::new(8));
        target.rule(On::Command(0x25), 1, Act::Silence);
    };
    let options = StorOptions { request_limit_100ns: SECOND_100NS, ..StorOptions::default() };
    with_driver(prepare, options, async |_, storvsc| {
        let luns: Vec<_> = storvsc.disks().iter().map(|disk| disk.address().lun).collect();
        assert_eq!(luns, [1]);
    });
}
