//! Many threads on many channels, with the driver's tasks and the device on threads of their own.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::future::pending;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hv_abi::storvsp::SCSI_GUID;

use super::machine::{INSTANCE, Machine};
use super::target::MemoryDisk;
use crate::fake::{FakeHal, FakeOffer};
use crate::storvsc::{Doorbell, StorOptions, StorVsc, join};
use crate::task::block_on;

const THREADS: usize = 4;
const ROUNDS: u64 = 300;
/// Blocks of each thread.
const SHARE: u64 = 1024;

/// A small generator: the numbers need only differ (Marsaglia, *Xorshift RNGs*).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Writes and reads in its own part of the disk, and compares.
async fn work(storvsc: &StorVsc<FakeHal>, thread: u64) {
    let disk = storvsc.disk(0).unwrap();
    let mut state = thread + 1;
    let mut written = vec![0u8; SHARE as usize];
    for round in 0..ROUNDS {
        let block = next(&mut state) % (SHARE - 8);
        let mark = (round + thread * 50) as u8 | 1;
        let writes = (block..block + 8).map(|block| {
            let disk = &disk;
            async move { disk.write(thread * SHARE + block, &[mark; 512]).await.unwrap() }
        });
        join::for_each(writes, 8, drop).await;
        written[block as usize..block as usize + 8].fill(mark);
        let check = next(&mut state) % SHARE;
        let mut back = [0; 512];
        disk.read(thread * SHARE + check, &mut back).await.unwrap();
        assert_eq!(back, [written[check as usize]; 512]);
    }
}

fn torture(doorbell: Doorbell, depth: u16) {
    let machine = Arc::new(Machine::new(|target| {
        target.sub_channels = 2;
        target.disks.insert(0, MemoryDisk::new(THREADS * SHARE as usize));
    }));
    let subs: Vec<_> = (1..=2)
        .map(|index| FakeOffer::new(SCSI_GUID).instance(INSTANCE).sub_channel(index))
        .map(|offer| machine.host.offer(offer))
        .collect();
    machine.host.real_time();
    let options = StorOptions { channels: 3, doorbell, depth, ..StorOptions::default() };
    let storvsc = machine.run(async {
        let subs = subs.iter().map(|sub| join::task(machine.serve(*sub))).collect();
        join::beside(machine.start(options), subs).await.unwrap()
    });
    assert_eq!(storvsc.channels(), 3);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for index in 0..3 {
            let (machine, stop, end) = (&machine, &stop, machine.end(index));
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match end.try_receive() {
                        Some(packet) => machine.target().serve(&end, packet),
                        None => thread::yield_now(),
                    }
                }
            });
        }
        let (storvsc, stop, hal) = (&storvsc, &stop, machine.bus.hal());
        scope.spawn(move || {
            let stopped = core::future::poll_fn(|_| match stop.load(Ordering::Relaxed) {
                true => core::task::Poll::Ready(()),
                false => core::task::Poll::Pending,
            });
            block_on(hal, pin!(storvsc.run()), stopped);
        });
        let workers: Vec<_> = (0..THREADS as u64)
            .map(|index| scope.spawn(move || block_on(hal, pending::<()>(), work(storvsc, index))))
            .collect();
        let results: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    let counts = storvsc.counts();
    assert_eq!((counts.rejected, counts.timeouts, storvsc.in_flight()), (0, 0, 0));
    assert_eq!(counts.requests, counts.completions);
}

#[test]
fn threads_share_channels_without_losing_or_mixing_anything() {
    torture(Doorbell::Deferred, 256);
}

#[test]
fn the_same_when_each_sends_at_once_and_slots_are_few() {
    torture(Doorbell::Immediate, 3);
}
