//! A host that is killed between flushes loses nothing that was flushed, nor anything else that it did not just write.
//!
//! A process writes to a disk through an engine, batch by batch: in each some requests that don't overlap, in any order, then a
//! flush, and then a line that says so. It is killed at some moment. Every sector must then be as the last flush that was told left it,
//! or as the one batch behind it would. The next process goes on with the same disk.
//!
//! What is lost with the power is another matter, which the overlay's own tests simulate.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hypervisor_host::storage::buffer::IoBuffer;
use hypervisor_host::storage::disk::{ByteRange, Disk};
use hypervisor_host::storage::engine::{EngineChoice, Engines, Queue, Request};
use hypervisor_host::storage::open;
use hypervisor_host::storage::options::DiskOptions;
use hypervisor_host::storage::request::DiskOp;

/// Tells the process to be the writer: disk, engine and seed.
const WRITER: &str = "ENL_TEST_WRITER";
/// Zones of the disk, each of which has one request in a batch.
const ZONES: u64 = 16;
const ZONE_SECTORS: u64 = 256;
const SECTOR: usize = 512;
const DISK_BYTES: usize = (ZONES * ZONE_SECTORS) as usize * SECTOR;
/// How often each kind of disk loses its writer.
const KILLS: u64 = 40;

/// xorshift64*, which is the same in both processes.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % limit
    }
}

/// What a request makes of its sectors.
#[derive(Clone, Copy)]
enum Change {
    Write { through: bool },
    Zero,
    Discard,
}

struct Step {
    range: ByteRange,
    change: Change,
    /// Tells the content of this request from that of all others.
    mark: u64,
}

impl Step {
    fn content(&self) -> Vec<u8> {
        let mark = if let Change::Write { .. } = self.change { self.mark } else { 0 };
        mark.to_le_bytes().iter().copied().cycle().take(self.range.length as usize).collect()
    }

    fn op(&self) -> DiskOp {
        match self.change {
            Change::Write { through } => DiskOp::Write { range: self.range, through },
            Change::Zero => DiskOp::Zero(self.range),
            Change::Discard => DiskOp::Discard(vec![self.range]),
        }
    }
}

/// The requests of a batch.
fn batch(seed: u64, number: u64) -> Vec<Step> {
    let mut random = Random::new(seed << 20 ^ number);
    (0..ZONES)
        .map(|zone| {
            let first = random.below(ZONE_SECTORS);
            let count = 1 + random.below((ZONE_SECTORS - first).min(40));
            let offset = (zone * ZONE_SECTORS + first) * SECTOR as u64;
            let change = match random.below(8) {
                0 => Change::Zero,
                1 => Change::Discard,
                kind => Change::Write { through: kind == 2 },
            };
            let mark = seed << 40 | number << 8 | zone << 1 | 1;
            Step { range: ByteRange::new(offset, count * SECTOR as u64), change, mark }
        })
        .collect()
}

/// The writer, when this process is told to be it.
#[test]
fn writer() {
    let Ok(task) = std::env::var(WRITER) else { return };
    let mut words = task.split('|');
    let disk = DiskOptions::parse(words.next().unwrap().as_ref()).unwrap();
    let engine = match words.next() {
        Some("threads") => EngineChoice::Threads,
        _ => EngineChoice::Auto,
    };
    let seed: u64 = words.next().unwrap().parse().unwrap();
    let disk = open::open(&disk).unwrap();
    let mut queue = Engines::new(engine).unwrap().queue().unwrap();
    let mut stdout = std::io::stdout();
    for number in 0.. {
        for step in batch(seed, number) {
            let buffer = IoBuffer::owned(step.content());
            submit(&mut queue, &disk, step.op(), buffer);
        }
        finish(&mut queue);
        submit(&mut queue, &disk, DiskOp::Flush, IoBuffer::none());
        finish(&mut queue);
        writeln!(stdout, "flushed {number}").unwrap();
    }
}

fn submit(queue: &mut Queue, disk: &Arc<dyn Disk>, op: DiskOp, buffer: IoBuffer) {
    queue.submit(Request { tag: 0, disk: disk.clone(), op, buffer });
}

fn finish(queue: &mut Queue) {
    let mut completed = Vec::new();
    assert!(queue.drain(Duration::from_secs(60), &mut completed));
    assert!(completed.iter().all(|it| it.result == Ok(())), "{completed:?}");
}

struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("killed-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(disk: &str, engine: &str, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture", "--test-threads", "1"])
        .env(WRITER, format!("{disk}|{engine}|{seed}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a writer run for a while, kills it, and tells how many batches it said were flushed.
fn run_and_kill(disk: &str, engine: &str, seed: u64) -> u64 {
    let mut child = start(disk, engine, seed);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut random = Random::new(seed ^ 0xDEAD);
    let mut flushed = 0;
    let mut count = |line: String| {
        // libtest writes on the same lines.
        if let Some((_, number)) = line.rsplit_once("flushed ") {
            flushed = number.trim().parse::<u64>().unwrap() + 1;
        }
        flushed
    };
    let least = random.below(4);
    while count(lines.next().expect("the writer lives").unwrap()) < least {}
    std::thread::sleep(Duration::from_micros(random.below(20_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died.
    for line in lines.map_while(Result::ok) {
        count(line);
    }
    flushed
}

fn content(disk: &str) -> Vec<u8> {
    let disk = open::open(&DiskOptions::parse(disk.as_ref()).unwrap()).unwrap();
    let buffer = IoBuffer::owned(vec![0; DISK_BYTES]);
    disk.read(0, &buffer).unwrap();
    buffer.to_vec()
}

/// Checks a disk against what it was before a writer with this seed had it.
fn check(before: &[u8], after: &[u8], seed: u64, flushed: u64) {
    let mut sure = before.to_vec();
    for number in 0..flushed {
        apply(&mut sure, &batch(seed, number));
    }
    let mut possible = sure.clone();
    apply(&mut possible, &batch(seed, flushed));
    for sector in 0..DISK_BYTES / SECTOR {
        let place = sector * SECTOR..(sector + 1) * SECTOR;
        let found = &after[place.clone()];
        assert!(
            *found == sure[place.clone()] || *found == possible[place.clone()],
            "sector {sector} after {flushed} flushes of seed {seed}: {:02x?}, not {:02x?} or {:02x?}",
            &found[..8],
            &sure[place.clone()][..8],
            &possible[place.clone()][..8]
        );
    }
}

fn apply(content: &mut [u8], steps: &[Step]) {
    for step in steps {
        let place = step.range.offset as usize..step.range.end() as usize;
        content[place].copy_from_slice(&step.content());
    }
}

fn kill_many_times(name: &str, engine: &str, options: impl Fn(&Path) -> String) {
    let folder = Folder::new(&format!("{name}-{engine}"));
    let image = folder.0.join("disk");
    let base: Vec<u8> = (0..DISK_BYTES).map(|at| (at / SECTOR) as u8 ^ 0x5A).collect();
    fs::write(&image, &base).unwrap();
    let disk = options(&folder.0);
    let mut before = base.clone();
    let mut all_flushed = 0;
    for seed in 1..=KILLS {
        let flushed = run_and_kill(&disk, engine, seed);
        let after = content(&disk);
        check(&before, &after, seed, flushed);
        before = after;
        all_flushed += flushed;
    }
    assert!(all_flushed > KILLS, "only {all_flushed} flushes");
    if disk.contains("cow") {
        assert!(fs::read(&image).unwrap() == base, "the base was written");
    }
}

#[test]
fn a_raw_image_keeps_what_was_flushed() {
    for engine in ["auto", "threads"] {
        kill_many_times("raw", engine, |folder| format!("{}/disk", folder.display()));
    }
}

#[test]
fn an_overlay_keeps_what_was_flushed() {
    for engine in ["auto", "threads"] {
        kill_many_times("cow", engine, |folder| {
            format!("{0}/disk,cow={0}/changes", folder.display())
        });
    }
}
