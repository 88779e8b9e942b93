//! Disks that come, go and change while the driver runs.

use super::machine::{pause, with_driver};
use super::target::{Act, MemoryDisk, On};
use crate::storvsc::{DiskChange, DiskErrorKind, Geometry, StorOptions};

const ENUMERATE_BUS: u32 = 11;
const REMOVE_DEVICE: u32 = 2;

#[test]
fn a_new_watcher_first_hears_of_the_disks_that_are_there() {
    let prepare = |target: &mut super::target::Target| {
        target.disks.insert(5, MemoryDisk::new(8));
    };
    with_driver(prepare, StorOptions::default(), async |_, storvsc| {
        let mut watcher = storvsc.watch();
        for lun in [0, 5] {
            let Some(DiskChange::Added(disk)) = watcher.try_next() else { panic!() };
            assert_eq!(disk.address().lun, lun);
        }
        assert!(watcher.try_next().is_none());
    });
}

#[test]
fn a_disk_that_is_added_is_told_of_and_works() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let mut watcher = storvsc.watch();
            watcher.next().await;
            machine.target().disks.insert(9, MemoryDisk::new(16));
            machine.tell(ENUMERATE_BUS);
            let DiskChange::Added(disk) = watcher.next().await else { panic!() };
            assert_eq!((disk.address().lun, disk.blocks()), (9, 16));
            disk.write(0, &[1; 512]).await.unwrap();
        },
    );
}

#[test]
fn a_disk_that_is_removed_is_told_of_and_refuses() {
    for notice in [ENUMERATE_BUS, REMOVE_DEVICE] {
        with_driver(
            |_| {},
            StorOptions::default(),
            async |machine, storvsc| {
                let mut watcher = storvsc.watch();
                watcher.next().await;
                machine.target().disks.clear();
                machine.tell(notice);
                let DiskChange::Removed(disk) = watcher.next().await else { panic!() };
                assert!(disk.is_gone());
                let error = disk.read(0, &mut [0; 512]).await.unwrap_err();
                assert_eq!(error.kind, DiskErrorKind::NoSuchLun);
            },
        );
    }
}

#[test]
fn a_disk_that_is_gone_is_found_out_by_using_it() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let mut watcher = storvsc.watch();
            watcher.next().await;
            let disk = storvsc.disk(0).unwrap();
            machine.target().disks.clear();
            let error = disk.read(0, &mut [0; 512]).await.unwrap_err();
            assert_eq!(error.kind, DiskErrorKind::NoSuchLun);
            assert!(matches!(watcher.next().await, DiskChange::Removed(_)));
        },
    );
}

#[test]
fn a_disk_that_grows_or_shrinks_is_told_of_with_the_size_it_had() {
    for blocks in [100usize, 9000] {
        with_driver(
            |_| {},
            StorOptions::default(),
            async |machine, storvsc| {
                let mut watcher = storvsc.watch();
                watcher.next().await;
                let disk = storvsc.disk(0).unwrap();
                machine.target().disks.get_mut(&0).unwrap().bytes.resize(blocks * 512, 0);
                machine.target().rule(On::Command(0x28), 1, Act::sense(6, 0x2A09));
                disk.read(0, &mut [0; 512]).await.unwrap();
                let DiskChange::Resized(same, before) = watcher.next().await else { panic!() };
                assert_eq!(before, Geometry { block_bytes: 512, blocks: 4096 });
                assert_eq!((same.blocks(), disk.blocks()), (blocks as u64, blocks as u64));
                disk.read(blocks as u64 - 1, &mut [0; 512]).await.unwrap();
            },
        );
    }
}

#[test]
fn a_disk_that_shrank_without_a_word_is_looked_at_again() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            machine.target().disks.get_mut(&0).unwrap().bytes.truncate(10 * 512);
            let error = disk.read(4000, &mut [0; 512]).await.unwrap_err();
            assert_eq!(error.kind, DiskErrorKind::OutOfRange);
            pause(machine, 100).await;
            assert_eq!(disk.blocks(), 10);
        },
    );
}

#[test]
fn write_protection_that_changes_is_told_of() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let mut watcher = storvsc.watch();
            watcher.next().await;
            machine.target().disks.get_mut(&0).unwrap().read_only = true;
            machine.target().rule(On::Command(0x28), 1, Act::sense(6, 0x2A01));
            storvsc.disk(0).unwrap().read(0, &mut [0; 512]).await.unwrap();
            let DiskChange::Changed(disk) = watcher.next().await else { panic!() };
            assert!(disk.is_read_only());
        },
    );
}

#[test]
fn another_disk_at_the_same_place_is_another_disk() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let mut watcher = storvsc.watch();
            watcher.next().await;
            let old = storvsc.disk(0).unwrap();
            machine.target().disks.get_mut(&0).unwrap().serial = "S2";
            machine.tell(ENUMERATE_BUS);
            assert!(matches!(watcher.next().await, DiskChange::Removed(_)));
            let DiskChange::Added(new) = watcher.next().await else { panic!() };
            assert!(old.is_gone() && !new.is_gone());
            assert_eq!(new.identity().serial, "S2");
            assert_eq!(old.write(0, &[0; 512]).await.unwrap_err().kind, DiskErrorKind::NoSuchLun);
        },
    );
}

#[test]
fn a_disk_that_can_not_be_looked_at_stays_as_it_was() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            machine.target().rule(On::Command(0x25), 1, Act::sense(4, 0x4400));
            storvsc.rescan().await.unwrap();
            assert_eq!(storvsc.disk(0).unwrap().blocks(), 4096);
            machine.target().rule(On::Command(0x12), 1, Act::sense(4, 0x4400));
            storvsc.rescan().await.unwrap();
            assert!(!storvsc.disk(0).unwrap().is_gone());
        },
    );
}

#[test]
fn a_disk_without_a_medium_is_none_until_it_has_one() {
    let prepare = |target: &mut super::target::Target| {
        target.rule(On::Command(0x00), 1, Act::sense(2, 0x3A00));
    };
    with_driver(prepare, StorOptions::default(), async |_, storvsc| {
        assert!(storvsc.disks().is_empty());
        storvsc.rescan().await.unwrap();
        assert_eq!(storvsc.disks().len(), 1);
    });
}

#[test]
fn a_watcher_that_does_not_listen_hears_the_sum_later() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let mut watcher = storvsc.watch();
            for _ in 0..100 {
                machine.target().disks.insert(1, MemoryDisk::new(8));
                storvsc.rescan().await.unwrap();
                machine.target().disks.remove(&1);
                storvsc.rescan().await.unwrap();
            }
            assert!(matches!(watcher.try_next(), Some(DiskChange::Added(_))));
            assert!(watcher.try_next().is_none());
        },
    );
}
