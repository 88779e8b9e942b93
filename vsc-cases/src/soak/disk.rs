//! Random reads and writes of a disk, many at a time, against a model that knows the newest generation of each block.
//!
//! Most are 4 KiB at any block; some are of one block up to 128 KiB, in pieces that lie anywhere in memory. No two that are in flight touch the same
//! block, so the model always knows what must be read.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::{AddAssign, Range};

use vsc_drivers::Hal;
use vsc_drivers::storvsc::{Disk, Failed, IoBuffer};
use vsc_drivers::task::all;

use super::block::Wrong;
use super::model::Model;
use super::random::Random;

/// Bytes of most requests.
const USUAL_BYTES: u64 = 4096;
/// Bytes of the longest.
const MAX_BYTES: u64 = 128 << 10;
/// One request in so many has another size.
const OTHER_SIZES: u64 = 16;
/// One in so many is a flush.
const FLUSHES: u64 = 1000;

/// What to use and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Blocks of the disk, which are all overwritten.
    pub blocks: Range<u64>,
    /// Requests in flight.
    pub depth: usize,
    /// Tells this run from others.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Random reads.
    pub reads: u64,
    /// Random writes.
    pub writes: u64,
    /// Those of both that were of several pieces, or not of 4 KiB.
    pub scattered: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes moved by all of these.
    pub bytes: u64,
    /// Blocks read that were older than what had been written.
    pub lost: u64,
    /// Blocks read that were never written so, or elsewhere.
    pub corrupt: u64,
    /// Requests that failed.
    pub failed: u64,
    /// What was wrong first.
    pub first: Option<String>,
}

impl Tally {
    /// Reads, writes and flushes.
    pub fn operations(&self) -> u64 {
        self.reads + self.writes + self.flushes
    }

    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.corrupt, self.failed) == (0, 0, 0)
    }

    fn note(&mut self, first: impl FnOnce() -> String) {
        self.first.get_or_insert_with(first);
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.scattered += other.scattered;
        self.flushes += other.flushes;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.corrupt += other.corrupt;
        self.failed += other.failed;
        self.first = self.first.take().or(other.first);
    }
}

/// Writes all blocks once, then goes on at random while `goes_on` says so, which is told the number of requests so far; reads all
/// blocks at the end. The driver's task must run beside it. Ends early if a request fails.
pub async fn soak<H: Hal>(disk: &Disk<H>, plan: &Plan, goes_on: impl Fn(u64) -> bool) -> Tally {
    let soak = Soak::new(disk, plan);
    soak.sweep(true).await;
    all((0..plan.depth).map(|_| Box::pin(soak.wander(&goes_on)))).await;
    soak.sweep(false).await;
    soak.tally.into_inner()
}

struct Soak<'a, H: Hal> {
    disk: &'a Disk<H>,
    plan: &'a Plan,
    block_bytes: u64,
    model: RefCell<Model>,
    random: RefCell<Random>,
    tally: RefCell<Tally>,
}

/// A request.
struct Piece {
    blocks: Range<u64>,
    /// Blocks of each of its buffers.
    parts: Vec<u64>,
    writes: bool,
}

impl<'a, H: Hal> Soak<'a, H> {
    fn new(disk: &'a Disk<H>, plan: &'a Plan) -> Self {
        Self {
            disk,
            plan,
            block_bytes: disk.block_bytes().into(),
            model: RefCell::new(Model::new(plan.seed, plan.blocks.clone())),
            random: RefCell::new(Random::new(plan.seed)),
            tally: RefCell::default(),
        }
    }

    /// Writes or reads all blocks in order, in long requests.
    async fn sweep(&self, writes: bool) {
        let step = (MAX_BYTES / self.block_bytes).max(1);
        let next = RefCell::new(self.plan.blocks.clone().step_by(step as usize));
        let lane = || async {
            loop {
                let Some(start) = next.borrow_mut().next() else { return };
                let blocks = start..(start + step).min(self.plan.blocks.end);
                let parts = vec![blocks.end - blocks.start];
                if self.is_over() || !self.execute(&Piece { blocks, parts, writes }).await {
                    return;
                }
            }
        };
        all((0..self.plan.depth.min(16)).map(|_| Box::pin(lane()))).await;
    }

    /// One request after the other.
    async fn wander(&self, goes_on: &impl Fn(u64) -> bool) {
        while !self.is_over() && goes_on(self.tally.borrow().operations()) {
            if self.random.borrow_mut().one_in(FLUSHES) {
                self.tally.borrow_mut().flushes += 1;
                if let Err(error) = self.disk.flush().await {
                    self.fails(|| format!("a flush: {error}"));
                }
                continue;
            }
            let piece = self.choose();
            self.count(&piece);
            self.execute(&piece).await;
            self.model.borrow_mut().release(&piece.blocks);
        }
    }

    fn is_over(&self) -> bool {
        self.tally.borrow().failed > 0
    }

    fn fails(&self, what: impl FnOnce() -> String) {
        let mut tally = self.tally.borrow_mut();
        tally.failed += 1;
        tally.note(what);
    }

    /// A request that touches nothing that another one does.
    fn choose(&self) -> Piece {
        let mut random = self.random.borrow_mut();
        let usual = (USUAL_BYTES / self.block_bytes).max(1);
        loop {
            let parts = match random.one_in(OTHER_SIZES) {
                true => parts(&mut random, (MAX_BYTES / self.block_bytes).max(1)),
                false => vec![usual],
            };
            let count = parts.iter().sum::<u64>();
            let all = &self.plan.blocks;
            let room = (all.end - all.start).saturating_sub(count) + 1;
            let start = all.start + random.below(room);
            let blocks = start..(start + count).min(all.end);
            if self.model.borrow_mut().claim(&blocks) {
                return Piece { blocks, parts, writes: random.one_in(2) };
            }
        }
    }

    /// Before it is begun: others look whether to go on meanwhile.
    fn count(&self, piece: &Piece) {
        let mut tally = self.tally.borrow_mut();
        let bytes = (piece.blocks.end - piece.blocks.start) * self.block_bytes;
        tally.bytes += bytes;
        tally.scattered += u64::from(piece.parts.len() > 1 || bytes != USUAL_BYTES);
        match piece.writes {
            true => tally.writes += 1,
            false => tally.reads += 1,
        }
    }

    /// Does a request, with the model; whether it did not fail.
    async fn execute(&self, piece: &Piece) -> bool {
        let Some(mut buffers) = self.buffers(piece) else {
            self.fails(|| "no memory is left".into());
            return false;
        };
        if piece.writes {
            self.fill(piece, &mut buffers);
        }
        match self.transfer(piece, buffers).await {
            Ok(buffers) => {
                match piece.writes {
                    true => self.model.borrow_mut().written(&piece.blocks),
                    false => self.verify(piece, &buffers),
                }
                true
            }
            Err(failed) => {
                let (blocks, way) = (&piece.blocks, if piece.writes { "write" } else { "read" });
                self.fails(|| format!("{way} of blocks {blocks:?}: {}", failed.error));
                false
            }
        }
    }

    /// One page-aligned buffer, or several that are where the heap has them.
    fn buffers(&self, piece: &Piece) -> Option<Vec<IoBuffer>> {
        let bytes = |blocks: &u64| (blocks * self.block_bytes) as usize;
        match piece.parts.as_slice() {
            [one] => IoBuffer::zeroed(bytes(one)).map(|buffer| vec![buffer]),
            parts => Some(parts.iter().map(|part| IoBuffer::from(vec![0; bytes(part)])).collect()),
        }
    }

    fn transfer(
        &self,
        piece: &Piece,
        mut buffers: Vec<IoBuffer>,
    ) -> impl Future<Output = Result<Vec<IoBuffer>, Failed>> {
        let (disk, lba, writes) = (self.disk, piece.blocks.start, piece.writes);
        async move {
            let alone = if buffers.len() == 1 { buffers.pop() } else { None };
            match (alone, writes) {
                (Some(one), true) => disk.write_lent(lba, one).await.map(|one| vec![one]),
                (Some(one), false) => disk.read_lent(lba, one).await.map(|one| vec![one]),
                (None, true) => disk.write_lent_vectored(lba, buffers).await,
                (None, false) => disk.read_lent_vectored(lba, buffers).await,
            }
        }
    }

    fn fill(&self, piece: &Piece, buffers: &mut [IoBuffer]) {
        let model = self.model.borrow();
        let blocks =
            buffers.iter_mut().flat_map(|buffer| buffer.chunks_mut(self.block_bytes as usize));
        for (number, block) in piece.blocks.clone().zip(blocks) {
            model.next(number).fill(block);
        }
    }

    fn verify(&self, piece: &Piece, buffers: &[IoBuffer]) {
        let model = self.model.borrow();
        let blocks = buffers.iter().flat_map(|buffer| buffer.chunks(self.block_bytes as usize));
        for (number, block) in piece.blocks.clone().zip(blocks) {
            let newest = model.newest(number);
            let Err(wrong) = newest.check(block) else { continue };
            let mut tally = self.tally.borrow_mut();
            match wrong {
                Wrong::Stale(_) => tally.lost += 1,
                Wrong::Corrupt | Wrong::Misplaced(_) => tally.corrupt += 1,
            }
            tally.note(|| format!("block {number} is not {newest:?}: {wrong}"));
        }
    }
}

/// So many blocks at most, in up to eight parts of any sizes.
fn parts(random: &mut Random, most: u64) -> Vec<u64> {
    let mut left = 1 + random.below(most);
    let mut parts = Vec::new();
    while left > 0 && parts.len() < 7 {
        let part = 1 + random.below(left);
        parts.push(part);
        left -= part;
    }
    parts.extend((left > 0).then_some(left));
    parts
}
