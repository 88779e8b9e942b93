//! Reading, writing, flushing, discarding.

use alloc::vec;
use alloc::vec::Vec;

use super::machine::{with_disk, with_driver};
use super::target::{Act, MemoryDisk, On, Target};
use crate::storvsc::{DiskErrorKind, IoBuffer, StorOptions};

/// Bytes that say where they belong.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 512 + index % 251) as u8).collect()
}

fn large(target: &mut Target) {
    target.disks.insert(0, MemoryDisk::new(16 * 1024));
}

#[test]
fn what_was_written_is_read_back_whole_across_requests() {
    with_disk(large, async |machine, disk| {
        let data = pattern(3 << 20);
        disk.write(11, &data).await.unwrap();
        assert_eq!(machine.target().disks[&0].bytes[11 * 512..][..data.len()], data);
        let mut back = vec![0; data.len()];
        disk.read(11, &mut back).await.unwrap();
        assert!(back == data);
        let longest = machine.target().log.iter().map(|seen| seen.bytes).max();
        assert_eq!(longest, Some(0x4_0000));
    });
}

#[test]
fn lent_memory_is_used_in_place_at_any_alignment() {
    with_disk(large, async |_, disk| {
        let mut vector = vec![0; 4096 + 512];
        vector.copy_from_slice(&pattern(4096 + 512));
        let address = vector.as_ptr();
        let buffer = disk.write_lent(3, IoBuffer::from(vector)).await.unwrap();
        let back = disk.read_lent(3, IoBuffer::from(vec![0; 4096 + 512])).await.unwrap();
        assert_eq!(*back, *buffer);
        let vector = buffer.into_vec();
        assert_eq!(vector.as_ptr(), address);
    });
}

#[test]
fn a_large_lent_buffer_is_split_and_comes_back_in_one_piece() {
    with_disk(large, async |machine, disk| {
        let data = pattern(1 << 20);
        let before = machine.target().log.len();
        let buffer = disk.write_lent(0, IoBuffer::from(data.clone())).await.unwrap();
        assert!(buffer.into_vec() == data);
        assert_eq!(machine.target().log.len() - before, 4);
        let back = disk.read_lent(0, IoBuffer::zeroed(1 << 20).unwrap()).await.unwrap();
        assert!(*back == data[..]);
    });
}

#[test]
fn several_buffers_are_one_request_where_pages_allow() {
    with_disk(large, async |machine, disk| {
        let pages: Vec<IoBuffer> = (0..4).map(|_| IoBuffer::zeroed(4096).unwrap()).collect();
        let before = machine.target().log.len();
        disk.read_lent_vectored(0, pages).await.unwrap();
        assert_eq!(machine.target().log.len() - before, 1);
        let odd: Vec<IoBuffer> = (0..3).map(|_| IoBuffer::zeroed(512).unwrap()).collect();
        let buffers = disk.read_lent_vectored(0, odd).await.unwrap();
        assert_eq!(buffers.len(), 3);
        assert_eq!(machine.target().log.len() - before, 4);
    });
}

#[test]
fn slices_of_any_lengths_are_gathered_and_scattered() {
    with_disk(large, async |_, disk| {
        let data = pattern(5 * 512);
        let parts: [&[u8]; 4] = [&data[..1], &[], &data[1..700], &data[700..]];
        disk.write_vectored(9, &parts).await.unwrap();
        let (mut first, mut second, mut third) = ([0; 513], [0; 2000], [0; 47]);
        disk.read_vectored(9, &mut [&mut first, &mut second, &mut third]).await.unwrap();
        assert_eq!([&first[..], &second, &third].concat(), data);
    });
}

#[test]
fn bad_requests_are_refused_before_the_host_sees_them() {
    with_disk(
        |_| {},
        async |machine, disk| {
            let before = machine.target().log.len();
            let kind =
                async |lba, len: usize| disk.read(lba, &mut vec![0; len]).await.unwrap_err().kind;
            assert_eq!(kind(0, 511).await, DiskErrorKind::Misaligned);
            assert_eq!(kind(4096, 512).await, DiskErrorKind::OutOfRange);
            assert_eq!(kind(4095, 1024).await, DiskErrorKind::OutOfRange);
            assert_eq!(kind(u64::MAX, 512).await, DiskErrorKind::OutOfRange);
            let failed = disk.read_lent(0, IoBuffer::zeroed(100).unwrap()).await.unwrap_err();
            assert_eq!((failed.error.kind, failed.buffers.len()), (DiskErrorKind::Misaligned, 1));
            let odd = vec![IoBuffer::zeroed(256).unwrap(), IoBuffer::zeroed(256).unwrap()];
            let failed = disk.read_lent_vectored(0, odd).await.unwrap_err();
            assert_eq!((failed.error.kind, failed.buffers.len()), (DiskErrorKind::Misaligned, 2));
            assert_eq!(disk.discard(0, 1).await.unwrap_err().kind, DiskErrorKind::Unsupported);
            assert_eq!(
                disk.write_zeroes(1, u64::MAX).await.unwrap_err().kind,
                DiskErrorKind::OutOfRange
            );
            assert_eq!(machine.target().log.len(), before);
        },
    );
}

#[test]
fn nothing_is_read_and_written_without_a_request() {
    with_disk(
        |_| {},
        async |machine, disk| {
            let before = machine.target().log.len();
            disk.read(4096, &mut []).await.unwrap();
            disk.write(0, &[]).await.unwrap();
            disk.read_lent(0, IoBuffer::zeroed(0).unwrap()).await.unwrap();
            assert!(disk.read_lent_vectored(0, Vec::new()).await.unwrap().is_empty());
            assert_eq!(machine.target().log.len(), before);
        },
    );
}

#[test]
fn a_read_only_disk_is_not_written() {
    let prepare = |target: &mut Target| target.disks.get_mut(&0).unwrap().read_only = true;
    with_disk(prepare, async |machine, disk| {
        let before = machine.target().log.len();
        assert_eq!(disk.write(0, &[0; 512]).await.unwrap_err().kind, DiskErrorKind::ReadOnly);
        assert_eq!(disk.write_zeroes(0, 1).await.unwrap_err().kind, DiskErrorKind::ReadOnly);
        assert_eq!(machine.target().log.len(), before);
        disk.read(0, &mut [0; 512]).await.unwrap();
        disk.flush().await.unwrap();
    });
}

#[test]
fn writing_through_takes_unit_access_or_a_flush() {
    for unit_access in [false, true] {
        let prepare =
            |target: &mut Target| target.disks.get_mut(&0).unwrap().unit_access = unit_access;
        with_disk(prepare, async |machine, disk| {
            disk.write_through(0, IoBuffer::zeroed(512).unwrap()).await.unwrap();
            let target = machine.target();
            let write = target.log.iter().rfind(|seen| seen.cdb[0] == 0x2A).unwrap();
            assert_eq!(write.cdb[1] & 8 != 0, unit_access);
            assert_eq!(target.disks[&0].flushes, usize::from(!unit_access));
        });
    }
}

#[test]
fn discard_keeps_to_the_disks_limits() {
    let prepare = |target: &mut Target| {
        let disk = target.disks.get_mut(&0).unwrap();
        (disk.provisioning, disk.max_unmap) = (0x80, 100);
        disk.bytes.fill(0xFF);
    };
    with_disk(prepare, async |machine, disk| {
        assert_eq!(disk.provisioning().unwrap().max_discard_blocks, 100);
        disk.discard(10, 250).await.unwrap();
        let target = machine.target();
        assert_eq!(target.commands(0x42), 3);
        let bytes = &target.disks[&0].bytes;
        assert!(bytes[10 * 512..260 * 512].iter().all(|byte| *byte == 0));
        assert!(bytes[..10 * 512].iter().chain(&bytes[260 * 512..]).all(|byte| *byte == 0xFF));
    });
}

#[test]
fn discard_is_by_write_same_where_the_disk_has_only_that() {
    let prepare = |target: &mut Target| {
        let disk = target.disks.get_mut(&0).unwrap();
        disk.provisioning = 0x40;
        disk.bytes.fill(0xFF);
    };
    with_disk(prepare, async |machine, disk| {
        disk.discard(1, 2).await.unwrap();
        let target = machine.target();
        let command = target.log.last().unwrap();
        assert_eq!((command.cdb[0], command.cdb[1]), (0x93, 8));
        assert_eq!(target.disks[&0].bytes[512..3 * 512], [0; 1024]);
    });
}

#[test]
fn zeros_are_written_by_one_block_where_the_disk_can() {
    let fill = |target: &mut Target| target.disks.get_mut(&0).unwrap().bytes.fill(0xFF);
    with_disk(fill, async |machine, disk| {
        disk.write_zeroes(1, 2000).await.unwrap();
        let target = machine.target();
        assert_eq!((target.commands(0x93), target.log.last().unwrap().bytes), (1, 512));
        let bytes = &target.disks[&0].bytes;
        assert!(bytes[512..2001 * 512].iter().all(|byte| *byte == 0));
        assert_eq!((bytes[511], bytes[2001 * 512]), (0xFF, 0xFF));
    });
}

#[test]
fn zeros_are_written_plainly_where_the_disk_refuses_and_it_is_asked_once() {
    let prepare = |target: &mut Target| {
        target.disks.get_mut(&0).unwrap().bytes.fill(0xFF);
        target.rule(On::Command(0x93), 9, Act::sense(5, 0x2000));
    };
    with_disk(prepare, async |machine, disk| {
        disk.write_zeroes(0, 2000).await.unwrap();
        disk.write_zeroes(2000, 96).await.unwrap();
        let target = machine.target();
        assert_eq!((target.commands(0x93), target.commands(0x2A)), (1, 5));
        assert!(target.disks[&0].bytes[..2096 * 512].iter().all(|byte| *byte == 0));
        assert_eq!(target.disks[&0].bytes[2096 * 512], 0xFF);
    });
}

#[test]
fn before_version_6_2_zeros_are_written_plainly() {
    let prepare = |target: &mut Target| target.versions = vec![0x0600];
    with_disk(prepare, async |machine, disk| {
        disk.write_zeroes(0, 8).await.unwrap();
        assert_eq!(machine.target().commands(0x93), 0);
    });
}

#[test]
fn small_copies_use_the_same_memory_again() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |_, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            for _ in 0..10 {
                disk.read(0, &mut [0; 4096]).await.unwrap();
            }
            assert_eq!(storvsc.counts().copied_bytes, 40_960);
        },
    );
}

#[test]
fn a_blocking_disk_needs_nobody_else() {
    use super::machine::Machine;
    use crate::storvsc::BlockingDisk;
    // The device is served by a thread, as a host is.
    let machine = std::sync::Arc::new(Machine::new(|_| {}));
    machine.host.real_time();
    let storvsc = machine.run(machine.start(StorOptions::default())).unwrap();
    let disk = BlockingDisk::new(storvsc.disk(0).unwrap());
    let end = machine.end(0);
    let stop = std::sync::Arc::new(core::sync::atomic::AtomicBool::new(false));
    let device = {
        let (machine, stop) = (machine.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(core::sync::atomic::Ordering::Relaxed) {
                match end.try_receive() {
                    Some(packet) => machine.target().serve(&end, packet),
                    None => std::thread::yield_now(),
                }
            }
        })
    };
    disk.write(5, &[9; 512]).unwrap();
    let mut back = [0; 512];
    disk.read(5, &mut back).unwrap();
    disk.flush().unwrap();
    assert_eq!(back, [9; 512]);
    stop.store(true, core::sync::atomic::Ordering::Relaxed);
    device.join().unwrap();
}
