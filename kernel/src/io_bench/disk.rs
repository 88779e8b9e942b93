//! Reads and writes of a disk, whatever way leads to it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::poll_fn;
use core::task::Poll;

use kernel::cmdline::{IoBench, IoPath};
use vsc_drivers::storvsc::IoBuffer;

use super::Work;

/// Bytes of a random read or write.
const SMALL: u64 = 4096;
/// Bytes of one of a sequence.
const LARGE: u64 = 128 << 10;
/// Large ones that are done at least, however few are asked for.
const LEAST_LARGE: u64 = 64;
/// Of those of which not all are done.
const LEAST: u64 = 2;

/// A disk.
pub(super) trait BenchDisk {
    /// The way to it.
    const PATH: IoPath;
    /// Requests at a time that it can have.
    const DEPTHS: &'static [u32];
    /// One of so many writes is done: not 1 for a way that costs so much that fewer tell as much.
    const WRITES_ONE_OF: u64 = 1;

    /// Bytes of a block.
    fn block_bytes(&self) -> u32;
    /// Its blocks.
    fn blocks(&self) -> u64;
    /// Reads or writes all of `buffer`, from block `lba` on, and gives it back.
    async fn transfer(&self, lba: u64, buffer: IoBuffer, writes: bool) -> Result<IoBuffer, String>;
}

/// Where the next request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Random,
    Sequential,
}

/// All work that is asked for.
pub(super) async fn work<D: BenchDisk>(disk: &D, bench: IoBench) -> Result<(), String> {
    let operations = u64::from(bench.operations);
    // Once before: whoever has something to set up has done it then.
    let deepest = D::DEPTHS.iter().copied().max().unwrap_or(1);
    lanes(disk, deepest, writes::<D>(64), SMALL, Order::Random, true).await?;
    each(disk, operations, SMALL, Order::Random).await?;
    if bench.all {
        let operations = (operations * SMALL / LARGE).max(LEAST_LARGE);
        each(disk, operations, LARGE, Order::Sequential).await?;
    }
    Ok(())
}

/// How many writes are done, where so many reads are.
fn writes<D: BenchDisk>(reads: u64) -> u64 {
    (reads / D::WRITES_ONE_OF).max(LEAST.min(reads))
}

async fn each<D: BenchDisk>(disk: &D, reads: u64, bytes: u64, order: Order) -> Result<(), String> {
    for (name, is_write) in [("read", false), ("write", true)] {
        let operations = if is_write { writes::<D>(reads) } else { reads };
        for &depth in D::DEPTHS {
            let work = Work { path: D::PATH, name, depth, operations, bytes };
            work.marked(lanes(disk, depth, operations, bytes, order, is_write)).await?;
        }
    }
    Ok(())
}

/// `operations` in all, `depth` of them at a time.
async fn lanes<D: BenchDisk>(
    disk: &D,
    depth: u32,
    operations: u64,
    bytes: u64,
    order: Order,
    writes: bool,
) -> Result<(), String> {
    // The first place may say what the disk is for, and stays as it is.
    let places = (disk.blocks() * u64::from(disk.block_bytes()) / bytes).saturating_sub(1);
    if places == 0 {
        return Err("the disk is too small".into());
    }
    let tasks = Tasks { left: Cell::new(operations), next: Cell::new(0), places, order };
    let mut lanes: Vec<_> =
        (0..depth).map(|lane| Box::pin(lane_work(disk, lane, &tasks, bytes, writes))).collect();
    poll_fn(|context| {
        let mut problem = None;
        lanes.retain_mut(|lane| match lane.as_mut().poll(context) {
            Poll::Ready(done) => {
                problem = done.err().or(problem.take());
                false
            }
            Poll::Pending => true,
        });
        match problem {
            Some(problem) => Poll::Ready(Err(problem)),
            None if lanes.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

/// What all lanes share.
struct Tasks {
    left: Cell<u64>,
    next: Cell<u64>,
    /// Places on the disk, the first one not counted.
    places: u64,
    order: Order,
}

impl Tasks {
    /// The place of the next request, if there is one to be made.
    fn take(&self, random: &mut u64) -> Option<u64> {
        self.left.set(self.left.get().checked_sub(1)?);
        let place = match self.order {
            Order::Sequential => self.next.replace(self.next.get() + 1),
            Order::Random => {
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                *random
            }
        };
        Some(1 + place % self.places)
    }
}

async fn lane_work<D: BenchDisk>(
    disk: &D,
    lane: u32,
    tasks: &Tasks,
    bytes: u64,
    writes: bool,
) -> Result<(), String> {
    let mut buffer = IoBuffer::zeroed(bytes as usize).ok_or("no memory")?;
    let mut random = u64::from(lane + 1) * 0x9E37_79B9_7F4A_7C15;
    while let Some(place) = tasks.take(&mut random) {
        let lba = place * bytes / u64::from(disk.block_bytes().max(1));
        buffer = disk.transfer(lba, buffer, writes).await?;
    }
    Ok(())
}
