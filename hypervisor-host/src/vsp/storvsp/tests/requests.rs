//! Requests of a well-behaved guest.

use std::sync::Arc;
use std::time::Duration;

use hv_abi::storvsp::{DataDirection, Operation};
use hv_abi::vmbus::version::VmbusVersion;

use super::guest::*;
use crate::storage::disk::{ByteRange, Disk, DiskError};
use crate::storage::engine::EngineChoice;
use crate::storage::faulty::{Fault, FaultyDisk, Kind, Trouble};
use crate::storage::file::{Access, FileDisk};
use crate::storage::memory::MemoryDisk;
use crate::storage::test_folder::TestFolder;
use crate::vsp::storvsp::StorvspOptions;

fn disk() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new((0..1 << 20).map(|at: u32| (at / 512) as u8).collect()))
}

fn machine(disk: Arc<dyn Disk>, engine: EngineChoice) -> Machine {
    Machine::with(&[disk], StorvspOptions::new(4), VmbusVersion::V5_3, engine)
}

#[test]
fn data_goes_straight_between_file_and_scattered_pages() {
    let folder = TestFolder::new();
    for engine in [EngineChoice::Auto, EngineChoice::Threads] {
        let path = folder.sparse(&format!("{engine:?}"), 8 << 20);
        let disk = Arc::new(FileDisk::open(&path, Access::ReadWrite).unwrap());
        let machine = machine(disk, engine);
        let mut channel = machine.start();
        let content: Vec<u8> =
            (0..1 << 20).map(|at: u32| (at * 7 / 512) as u8 ^ at as u8).collect();
        assert_eq!(channel.write_blocks(0, 5, &content), Outcome::done(1 << 20));
        assert_eq!(channel.command(0, &blocks_10(0x35, 0, 0)), Outcome::done(0));
        assert!(std::fs::read(&path).unwrap()[5 * 512..][..1 << 20] == content);
        let (outcome, read) = channel.read_blocks(0, 5, 2048);
        assert_eq!(outcome, Outcome::done(1 << 20));
        assert!(read == content);
        let report = machine.controller.report().remove(0);
        assert_eq!((report.reads, report.writes, report.flushes), (1, 1, 1));
        assert_eq!((report.read_bytes, report.written_bytes, report.errors), (1 << 20, 1 << 20, 0));
    }
}

#[test]
fn several_ranges_are_one_after_the_other() {
    let disk = disk();
    let machine = machine(disk, EngineChoice::Auto);
    let mut channel = machine.start();
    let memories = [512, 100, 412].map(|bytes| Memory::new(&machine.guest, bytes));
    let ranges = memories.each_ref().map(Memory::range);
    let request = channel.request(0, &blocks_10(0x28, 3, 2), DataDirection::READ, 1024);
    channel.send_request(&request, &ranges);
    assert_eq!(channel.outcome().1, Outcome::done(1024));
    let content: Vec<u8> = memories.iter().flat_map(|it| it.content(&machine.guest)).collect();
    assert!(content == [[3; 512], [4; 512]].concat());
}

#[test]
fn more_memory_than_data_is_left_alone() {
    let machine = machine(disk(), EngineChoice::Auto);
    let mut channel = machine.start();
    let (outcome, content) = channel.read(0, &blocks_10(0x28, 9, 1), 4096);
    assert_eq!((outcome, content), (Outcome::done(512), vec![9; 512]));
    let (outcome, inquiry) = channel.read(0, &[0x12, 0, 0, 0, 255, 0], 255);
    assert_eq!((outcome, inquiry.len()), (Outcome::done(36), 36));
}

#[test]
fn a_full_queue_is_answered_completely() {
    for engine in [EngineChoice::Auto, EngineChoice::Threads] {
        let folder = TestFolder::new();
        let path = folder.sparse("disk", 8 << 20);
        let disk = Arc::new(FileDisk::open(&path, Access::ReadWrite).unwrap());
        let machine = machine(disk, engine);
        let mut channel = machine.start();
        let memory = Memory::new(&machine.guest, 4096);
        // More than the guest's ring holds, and more than the host's.
        let count = 1500;
        let mut answered = Vec::new();
        for number in 0..count {
            let cdb = blocks_10(0x2A, number * 8, 8);
            let request = channel.request(0, &cdb, DataDirection::WRITE, 4096);
            channel.send_request(&request, &[memory.range()]);
            // A guest that never looked would have to wait for ever.
            if number >= 300 {
                answered.push(channel.outcome());
            }
        }
        while answered.len() < count as usize {
            answered.push(channel.outcome());
        }
        assert!(answered.iter().all(|(_, outcome)| *outcome == Outcome::done(4096)));
        answered.sort_by_key(|(transaction, _)| *transaction);
        answered.dedup_by_key(|(transaction, _)| *transaction);
        assert_eq!(answered.len(), count as usize);
    }
}

#[test]
fn slow_requests_are_overtaken() {
    let faulty = FaultyDisk::new(disk());
    faulty.add(Fault {
        kind: Kind::Read,
        range: ByteRange::new(0, 512),
        times: 1,
        trouble: Trouble::Slow(Duration::from_millis(200)),
    });
    let machine = machine(Arc::new(faulty), EngineChoice::Auto);
    let mut channel = machine.start();
    let memory = Memory::new(&machine.guest, 512);
    let sent: Vec<_> = (0..5)
        .map(|lba| {
            let request = channel.request(0, &blocks_10(0x28, lba, 1), DataDirection::READ, 512);
            channel.send_request(&request, &[memory.range()])
        })
        .collect();
    let answered: Vec<_> = (0..5).map(|_| channel.outcome().0).collect();
    assert_eq!(answered[4], sent[0]);
}

#[test]
fn errors_of_the_disk_become_sense_data() {
    let faulty = Arc::new(FaultyDisk::new(disk()));
    let machine = machine(faulty.clone(), EngineChoice::Auto);
    let mut channel = machine.start();
    let eio = Trouble::Fails(DiskError::Os(libc::EIO));
    let content = [1; 512];
    faulty.always(Kind::Read, eio);
    assert_eq!(channel.read_blocks(0, 1, 1).0, Outcome::failed(3, 0x11, 0));
    faulty.heal();
    faulty.always(Kind::Read, Trouble::Short);
    let memory = Memory::new(&machine.guest, 1024);
    let request = channel.request(0, &blocks_10(0x28, 1, 2), DataDirection::READ, 1024);
    channel.send_request(&request, &[memory.range()]);
    assert_eq!(channel.outcome().1, Outcome::failed(3, 0x11, 0));
    faulty.always(Kind::Write, eio);
    assert_eq!(channel.write_blocks(0, 1, &content), Outcome::failed(3, 0x0C, 0));
    faulty.heal();
    faulty.always(Kind::Write, Trouble::Fails(DiskError::NoSpace));
    assert_eq!(channel.write_blocks(0, 1, &content), Outcome::failed(7, 0x27, 7));
    faulty.always(Kind::Flush, eio);
    assert_eq!(channel.command(0, &blocks_10(0x35, 0, 0)), Outcome::failed(3, 0x0C, 0));
    faulty.heal();
    assert_eq!(channel.write_blocks(0, 1, &content), Outcome::done(512));
    assert_eq!(machine.controller.report()[0].errors, 5);
}

#[test]
fn parameters_are_fetched_from_the_guest() {
    let disk = disk();
    let machine = machine(disk.clone(), EngineChoice::Auto);
    let mut channel = machine.start();
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend(4_u64.to_be_bytes());
    list.extend([0, 0, 0, 2, 0, 0, 0, 0]);
    assert_eq!(channel.write(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list), Outcome::done(0));
    let same = [0x41, 0, 0, 0, 0, 7, 0, 0, 2, 0];
    assert_eq!(channel.write(0, &same, &[0x33; 512]), Outcome::done(0));
    let against = [0x2F, 0x02, 0, 0, 0, 7, 0, 0, 1, 0];
    assert_eq!(channel.write(0, &against, &[0x33; 512]), Outcome::done(512));
    let mut other = [0x33; 512];
    other[100] = 0;
    assert_eq!(channel.write(0, &against, &other), Outcome::failed(14, 0x1D, 0));
    let content = disk.content();
    let byte = |block: usize| content[block * 512];
    assert_eq!([byte(3), byte(4), byte(5), byte(6)], [3, 0, 0, 6]);
    assert_eq!([byte(7), byte(8), byte(9)], [0x33, 0x33, 9]);
}

#[test]
fn a_reset_is_told_by_the_next_command() {
    let disks: [Arc<dyn Disk>; 2] = [disk(), disk()];
    let machine = Machine::new(&disks);
    let mut channel = machine.start();
    let reset = Outcome::failed(6, 0x29, 2);
    let test = [0; 6];
    let request = channel.request(1, &[], DataDirection::UNKNOWN, 0);
    let bytes = zerocopy::IntoBytes::as_bytes(&request).to_vec();
    channel.expect(Operation::RESET_LUN, &bytes);
    assert_eq!(
        [channel.command(0, &test), channel.command(1, &test)],
        [Outcome::done(0), reset.clone()]
    );
    for operation in [Operation::RESET_BUS, Operation::RESET_ADAPTER] {
        channel.expect(operation, &[]);
        for lun in [0, 1] {
            assert_eq!(channel.command(lun, &test), reset);
            assert_eq!(channel.command(lun, &test), Outcome::done(0));
        }
    }
}

#[test]
fn sense_data_is_left_out_where_nobody_wants_it() {
    let machine = machine(disk(), EngineChoice::Auto);
    let mut channel = machine.start();
    let mut request = channel.request(0, &[0xFF; 6], DataDirection::UNKNOWN, 0);
    request.srb_flags = 0x20;
    channel.send_request(&request, &[]);
    let outcome = channel.outcome().1;
    assert_eq!((outcome.srb_status, outcome.scsi_status, outcome.sense), (4, 2, None));
    (request.srb_flags, request.sense_info_length) = (0, 0);
    channel.send_request(&request, &[]);
    assert_eq!(channel.outcome().1.srb_status, 4);
}
