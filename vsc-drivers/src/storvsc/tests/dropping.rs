//! Futures that are dropped or forgotten while the host has their request: the memory outlives them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::machine::{pause, poll_once, with_driver};
use super::target::{Act, On};
use crate::SECOND_100NS;
use crate::storvsc::{DiskErrorKind, IoBuffer, StorOptions, join};

const READ: On = On::Command(0x28);

#[test]
fn a_dropped_read_leaves_its_memory_with_the_host_until_the_answer() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            machine.target().disks.get_mut(&0).unwrap().bytes.fill(0x77);
            machine.target().rule(READ, 1, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            {
                let mut read = pin!(disk.read_lent(0, IoBuffer::zeroed(4096).unwrap()));
                assert!(poll_once(read.as_mut()).is_pending());
                pause(machine, 10).await;
                assert_eq!(storvsc.in_flight(), 1);
            }
            assert_eq!(storvsc.in_flight(), 1);
            let mut others: Vec<IoBuffer> =
                (0..64).map(|_| IoBuffer::zeroed(4096).unwrap()).collect();
            machine.release();
            assert!(storvsc.drained(SECOND_100NS).await);
            assert!(others.iter().all(|other| other.iter().all(|byte| *byte == 0)));
            others.clear();
            assert_eq!(storvsc.counts().rejected, 0);
        },
    );
}

#[test]
fn a_forgotten_read_into_a_slice_writes_nothing_to_the_slice() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            machine.target().disks.get_mut(&0).unwrap().bytes.fill(0x77);
            machine.target().rule(READ, 1, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            let mut bytes = [0; 512];
            let mut read = Box::pin(disk.read(0, &mut bytes));
            assert!(poll_once(read.as_mut()).is_pending());
            pause(machine, 10).await;
            // Legal, and the reason for copies: the borrow ends, the destructor never runs.
            mem::forget(read);
            machine.release();
            assert!(storvsc.drained(SECOND_100NS).await);
            assert_eq!(bytes, [0; 512]);
        },
    );
}

#[test]
fn a_request_dropped_before_it_was_sent_is_never_seen_by_the_host() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            let before = machine.target().log.len();
            {
                let mut read = pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
                assert!(poll_once(read.as_mut()).is_pending());
            }
            pause(machine, 10).await;
            assert_eq!(machine.target().log.len(), before);
        },
    );
}

#[test]
fn who_waits_for_a_slot_and_goes_stands_in_nobodys_way() {
    let options = StorOptions { depth: 1, ..StorOptions::default() };
    with_driver(
        |_| {},
        options,
        async |machine, storvsc| {
            machine.target().rule(READ, 1, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            let mut first = pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            assert!(poll_once(first.as_mut()).is_pending());
            let mut last = pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            {
                let mut second = pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
                assert!(poll_once(second.as_mut()).is_pending());
                assert!(poll_once(last.as_mut()).is_pending());
            }
            pause(machine, 10).await;
            machine.release();
            first.await.unwrap();
            last.await.unwrap();
        },
    );
}

#[test]
fn dropping_the_controller_with_requests_in_flight_leaks_rather_than_frees() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    let held = with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            machine.target().disks.get_mut(&0).unwrap().bytes.fill(0x66);
            machine.target().rule(READ, 1, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            let mut read = pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            assert!(poll_once(read.as_mut()).is_pending());
            pause(machine, 10).await;
            LEFT.store(storvsc.in_flight(), Ordering::Relaxed);
            machine.target().held[0].clone()
        },
    );
    // Everything is gone; an allocator that hands the memory out again would hand it out here.
    let others: Vec<IoBuffer> = (0..64).map(|_| IoBuffer::zeroed(512).unwrap()).collect();
    let lent = held.ranges[0].pages[0] << 12;
    let taken = |other: &IoBuffer| other.as_ptr() as u64 + crate::fake::GPA_OFFSET == lent;
    assert!(!others.iter().any(taken));
    assert_eq!(LEFT.load(Ordering::Relaxed), 1);
}

#[test]
fn a_dropped_part_of_a_large_transfer_keeps_the_whole_buffer() {
    let prepare = |target: &mut super::target::Target| target.max_transfer = 4096;
    with_driver(prepare, StorOptions::default(), async |machine, storvsc| {
        machine.target().rule(READ, 2, Act::Hold);
        let disk = storvsc.disk(0).unwrap();
        let buffer = IoBuffer::zeroed(4 * 4096).unwrap();
        let address = buffer.as_ptr();
        {
            let mut read = pin!(disk.read_lent(0, buffer));
            assert!(poll_once(read.as_mut()).is_pending());
            pause(machine, 10).await;
        }
        assert_eq!(storvsc.in_flight(), 2);
        let others: Vec<IoBuffer> = (0..64).map(|_| IoBuffer::zeroed(4 * 4096).unwrap()).collect();
        assert!(!others.iter().any(|other| other.as_ptr() == address));
        machine.release();
        machine.release();
        assert!(storvsc.drained(SECOND_100NS).await);
    });
}

#[test]
fn stopping_waits_for_answers_and_gets_all_memory_back() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            machine.target().rule(READ, 1, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            {
                let mut read = pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
                assert!(poll_once(read.as_mut()).is_pending());
                pause(machine, 10).await;
            }
            let answer = async {
                pause(machine, SECOND_100NS).await;
                machine.release();
                core::future::pending::<()>().await;
            };
            let stop = storvsc.stop(10 * SECOND_100NS);
            join::beside(stop, Vec::from([join::task(answer)])).await.unwrap();
            assert_eq!(storvsc.in_flight(), 0);
            assert!(disk.read(0, &mut [0; 512]).await.is_err());
        },
    );
}

#[test]
fn stopping_gets_unanswered_memory_back_when_the_host_has_closed() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            machine.target().rule(READ, usize::MAX, Act::Silence);
            let disk = storvsc.disk(0).unwrap();
            let mut read = pin!(disk.read_lent(0, IoBuffer::zeroed(512).unwrap()));
            assert!(poll_once(read.as_mut()).is_pending());
            pause(machine, 10).await;
            storvsc.stop(SECOND_100NS).await.unwrap();
            assert_eq!(storvsc.in_flight(), 0);
            let failed = read.await.unwrap_err();
            assert_eq!(failed.error.kind, DiskErrorKind::Gone);
            // And it starts again.
            let again = machine.start(StorOptions::default()).await.unwrap();
            assert_eq!(again.disks().len(), 1);
        },
    );
}
