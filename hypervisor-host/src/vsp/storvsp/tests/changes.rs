//! Disks that come, go and change while the guest uses others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hv_abi::storvsp::{DataDirection, Operation, StorvspVersion, VstorHeader, VstorStatus};
use hv_abi::vmbus::packet::PacketType;
use zerocopy::FromBytes;

use super::guest::*;
use crate::storage::disk::Disk;
use crate::storage::faulty::{FaultyDisk, Kind, Trouble};
use crate::storage::memory::MemoryDisk;
use crate::storage::unit::Unit;

const TEST: [u8; 6] = [0; 6];

fn unit(byte: u8) -> Arc<Unit> {
    Arc::new(Unit::new("more", byte.into(), Arc::new(MemoryDisk::new(vec![byte; 1 << 20]))))
}

fn gone() -> Outcome {
    Outcome::refused(0x20, VstorStatus::DEVICE_DOES_NOT_EXIST)
}

/// The next packet must be news that the disks have changed.
#[track_caller]
fn expect_news(channel: &mut Channel<'_>) {
    let received = channel.channel.receive(channel.guest);
    assert_eq!((received.kind, received.transaction_id), (PacketType::DATA_INBAND, 0));
    assert!(!received.completion_requested);
    assert_eq!(received.payload.len(), channel.version.packet_bytes());
    let header = VstorHeader::read_from_prefix(&received.payload).unwrap().0;
    assert_eq!(header.operation, Operation::ENUMERATE_BUS);
}

#[test]
fn a_disk_that_comes_and_goes_is_told_of() {
    let machine = Machine::new(&[Arc::new(MemoryDisk::new(vec![0; 4096]))]);
    let mut channel = machine.start();
    assert_eq!(channel.command(3, &TEST), gone());
    machine.controller.add(3, unit(3)).unwrap();
    expect_news(&mut channel);
    assert_eq!(channel.command(0, &TEST), Outcome::failed(6, 0x3F, 0x0E));
    assert_eq!(channel.command(3, &TEST), Outcome::failed(6, 0x29, 0));
    assert_eq!(channel.read_blocks(3, 7, 1), (Outcome::done(512), vec![3; 512]));
    machine.controller.remove(3).unwrap();
    expect_news(&mut channel);
    assert_eq!(channel.command(3, &TEST), gone());
    assert_eq!(channel.read_blocks(3, 7, 1).0, gone());
}

#[test]
fn a_disk_that_grows_is_told_of() {
    let disk = Arc::new(MemoryDisk::new(vec![0; 4096]));
    let shared: Arc<dyn Disk> = disk.clone();
    let machine = Machine::new(&[shared]);
    let mut channel = machine.start();
    assert_eq!(channel.read_blocks(0, 8, 1).0, Outcome::failed(5, 0x21, 0));
    disk.resize(8192);
    assert_eq!(machine.controller.refresh(0), Ok(true));
    expect_news(&mut channel);
    assert_eq!(channel.command(0, &TEST), Outcome::failed(6, 0x2A, 9));
    assert_eq!(channel.read_blocks(0, 8, 1).0, Outcome::done(512));
}

#[test]
fn guests_that_know_no_news_get_none() {
    let machine = Machine::new(&[]);
    let mut channel = machine.open();
    channel.begin(StorvspVersion::V2_0);
    machine.controller.add(0, unit(1)).unwrap();
    assert_eq!(channel.command(0, &TEST), Outcome::failed(6, 0x29, 0));
    assert_eq!(channel.command(0, &TEST), Outcome::done(0));
}

#[test]
fn news_before_the_end_of_the_beginning_are_none() {
    let machine = Machine::new(&[]);
    let mut channel = machine.open();
    machine.controller.add(0, unit(1)).unwrap();
    channel.begin(StorvspVersion::V6_2);
    assert_eq!(channel.command(0, &TEST), Outcome::failed(6, 0x29, 0));
}

#[test]
fn a_disk_goes_while_it_is_busy() {
    let slow = Arc::new(FaultyDisk::new(Arc::new(MemoryDisk::new(vec![5; 4096]))));
    slow.always(Kind::Read, Trouble::Slow(Duration::from_millis(150)));
    let machine = Machine::new(&[slow]);
    let mut channel = machine.start();
    let memory = Memory::new(&machine.guest, 512);
    let request = channel.request(0, &blocks_10(0x28, 0, 1), DataDirection::READ, 512);
    channel.send_request(&request, &[memory.range()]);
    // Behind this the read is in flight.
    assert_eq!(channel.command(0, &TEST), Outcome::done(0));
    machine.controller.remove(0).unwrap();
    expect_news(&mut channel);
    assert_eq!(channel.command(0, &TEST), gone());
    assert_eq!(channel.outcome().1, Outcome::done(512));
    assert_eq!(memory.content(&machine.guest), vec![5; 512]);
}

#[test]
fn disks_come_and_go_under_load() {
    let machine = Machine::new(&[Arc::new(MemoryDisk::new(vec![9; 1 << 20]))]);
    let mut channel = machine.start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                machine.controller.add(1, unit(1)).unwrap();
                std::thread::sleep(Duration::from_millis(1));
                machine.controller.remove(1).unwrap();
            }
        });
        let memory = Memory::new(&machine.guest, 4096);
        let (mut answers, mut news) = (0, 0);
        for number in 0..600_u32 {
            let lun = (number % 2) as u8;
            let request = channel.request(lun, &blocks_10(0x28, 0, 8), DataDirection::READ, 4096);
            channel.send_request(&request, &[memory.range()]);
            while answers < number {
                let received = channel.channel.receive(channel.guest);
                match received.kind {
                    PacketType::COMP => answers += 1,
                    _ => news += 1,
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(news > 0);
    });
}
