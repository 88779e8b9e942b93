//! Requests that the host does not answer, and tables that are full.

use alloc::vec::Vec;

use super::machine::{pause, with_driver};
use super::target::{Act, On, Target};
use crate::SECOND_100NS;
use crate::hal::Hal;
use crate::storvsc::{DiskErrorKind, IoBuffer, StorOptions, join};

const READ: On = On::Command(0x28);
const WRITE: On = On::Command(0x2A);

fn options() -> StorOptions {
    StorOptions {
        request_limit_100ns: 10 * SECOND_100NS,
        reset_limit_100ns: 2 * SECOND_100NS,
        reset_grace_100ns: SECOND_100NS,
        ..StorOptions::default()
    }
}

fn buffer() -> IoBuffer {
    IoBuffer::zeroed(512).unwrap()
}

#[test]
fn a_request_without_an_answer_fails_after_a_reset_and_keeps_its_memory() {
    with_driver(
        |_| {},
        options(),
        async |machine, storvsc| {
            let disk = storvsc.disk(0).unwrap();
            machine.target().rule(READ, 1, Act::Hold);
            let start = machine.bus.hal().now_100ns();
            let failed = disk.read_lent(0, buffer()).await.unwrap_err();
            let seconds = (machine.bus.hal().now_100ns() - start) / SECOND_100NS;
            assert!((11..=13).contains(&seconds), "{seconds}");
            assert_eq!(failed.error.kind, DiskErrorKind::TimedOut);
            assert!(failed.buffers.is_empty(), "the host may still write to it");
            let resets = [4, 6].map(|operation| machine.target().operations(operation));
            assert_eq!(resets, [1, 0]);
            assert_eq!(storvsc.in_flight(), 1);
            let counts = storvsc.counts();
            assert_eq!((counts.timeouts, counts.resets), (1, 1));
            // The disk works, and the late answer frees the slot.
            disk.read(0, &mut [0; 512]).await.unwrap();
            machine.release();
            pause(machine, 10).await;
            assert_eq!((storvsc.in_flight(), storvsc.counts().rejected), (0, 0));
        },
    );
}

#[test]
fn a_late_answer_writes_to_memory_that_is_still_there() {
    with_driver(
        |_| {},
        options(),
        async |machine, storvsc| {
            machine.target().disks.get_mut(&0).unwrap().bytes.fill(0x5A);
            machine.target().rule(READ, 1, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            disk.read_lent(0, buffer()).await.unwrap_err();
            // Whoever got this memory in the meantime would see the host's bytes in it.
            let others: Vec<IoBuffer> = (0..64).map(|_| buffer()).collect();
            machine.release();
            pause(machine, 10).await;
            assert!(others.iter().all(|other| other.iter().all(|byte| *byte == 0)));
        },
    );
}

#[test]
fn a_reset_that_ends_the_request_lets_it_be_tried_again() {
    with_driver(
        |_| {},
        options(),
        async |machine, storvsc| {
            machine.target().rule(WRITE, 1, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            let host = async {
                machine.host.until(|_| machine.target().operations(4) == 1).await;
                let packet = machine.target().held.remove(0);
                let mut aborted = packet.payload.clone();
                aborted[0..16]
                    .copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x0E, 0]);
                machine.end(0).complete(&packet, &aborted);
                core::future::pending::<()>().await;
            };
            join::beside(disk.write(0, &[3; 512]), Vec::from([join::task(host)])).await.unwrap();
            assert_eq!(machine.target().disks[&0].bytes[..512], [3; 512]);
        },
    );
}

#[test]
fn if_the_units_reset_fails_the_bus_is_reset() {
    for act in [Act::Silence, Act::Status(0xC000_0010)] {
        let prepare = |target: &mut Target| target.rule(On::Operation(4), 1, act);
        with_driver(prepare, options(), async |machine, storvsc| {
            machine.target().rule(READ, 1, Act::Silence);
            let failed = storvsc.disk(0).unwrap().read_lent(0, buffer()).await.unwrap_err();
            assert_eq!(failed.error.kind, DiskErrorKind::TimedOut);
            assert_eq!(machine.target().operations(6), 1);
        });
    }
}

#[test]
fn a_host_that_answers_nothing_at_all_hangs_nobody() {
    with_driver(
        |_| {},
        options(),
        async |machine, storvsc| {
            for on in [READ, WRITE, On::Command(0x35), On::Operation(4), On::Operation(6)] {
                machine.target().rule(on, usize::MAX, Act::Silence);
            }
            let disk = storvsc.disk(0).unwrap();
            assert_eq!(disk.flush().await.unwrap_err().kind, DiskErrorKind::TimedOut);
            let mut errors = Vec::new();
            let reads = (0..600).map(|_| disk.read_lent(0, buffer()));
            join::for_each(reads, 600, |result| errors.push(result.unwrap_err().error.kind)).await;
            assert!(errors.iter().all(|kind| *kind == DiskErrorKind::TimedOut), "{errors:?}");
            // All slots are the host's; whoever comes now waits for one in vain, but not for ever.
            assert_eq!(storvsc.in_flight(), 256);
            assert_eq!(
                disk.read(0, &mut [0; 512]).await.unwrap_err().kind,
                DiskErrorKind::TimedOut
            );
        },
    );
}

#[test]
fn a_request_that_is_never_taken_from_the_ring_comes_back_whole() {
    // A ring so small that most requests are never sent.
    let options = StorOptions { ring_bytes: 4096, ..options() };
    with_driver(
        |_| {},
        options,
        async |machine, storvsc| {
            for on in [READ, On::Operation(4), On::Operation(6)] {
                machine.target().rule(on, usize::MAX, Act::Silence);
            }
            let disk = storvsc.disk(0).unwrap();
            let mut back = 0;
            let reads = (0..100).map(|_| disk.read_lent(0, buffer()));
            join::for_each(reads, 100, |result| {
                let failed = result.unwrap_err();
                assert_eq!(failed.error.kind, DiskErrorKind::TimedOut);
                back += failed.buffers.len();
            })
            .await;
            assert_eq!(back + storvsc.in_flight(), 100);
        },
    );
}

#[test]
fn hundreds_of_requests_at_once_all_end_on_a_small_table_and_a_small_ring() {
    for (depth, ring_bytes) in [(1, 128 << 10), (3, 4096), (256, 4096), (1024, 8192)] {
        let options = StorOptions { depth, ring_bytes, ..StorOptions::default() };
        with_driver(
            |_| {},
            options,
            async |machine, storvsc| {
                let disk = storvsc.disk(0).unwrap();
                let mut done = 0;
                let writes = (0..700u64).map(|block| {
                    let disk = &disk;
                    async move {
                        let buffer = IoBuffer::from(alloc::vec![block as u8; 512]);
                        disk.write_lent(block, buffer).await.unwrap();
                    }
                });
                join::for_each(writes, 700, |()| done += 1).await;
                assert_eq!(done, 700);
                let target = machine.target();
                for block in 0..700 {
                    assert_eq!(target.disks[&0].bytes[block * 512], block as u8);
                }
            },
        );
    }
}

#[test]
fn at_least_256_requests_are_in_flight_on_a_channel() {
    with_driver(
        |_| {},
        StorOptions::default(),
        async |machine, storvsc| {
            machine.target().rule(READ, 256, Act::Hold);
            let disk = storvsc.disk(0).unwrap();
            let reads = (0..256).map(|_| disk.read_lent(0, buffer()));
            let host = async {
                machine.host.until(|_| machine.target().held.len() == 256).await;
                // In any order.
                let end = machine.end(0);
                while !machine.target().held.is_empty() {
                    let last = machine.target().held.len() - 1;
                    machine.target().release(&end, last / 2);
                }
                core::future::pending::<()>().await;
            };
            let reads = join::for_each(reads, 256, |result| assert!(result.is_ok()));
            join::beside(reads, Vec::from([join::task(host)])).await;
        },
    );
}
