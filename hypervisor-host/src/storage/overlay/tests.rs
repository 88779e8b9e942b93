//! Overlays against a model, and against losing power at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use proptest::prelude::*;

use super::map::CLUSTER_BYTES;
use super::*;
use crate::storage::disk::SECTOR_BYTES;
use crate::storage::file::{Access, FileDisk};
use crate::storage::memory::MemoryDisk;
use crate::storage::test_folder::TestFolder;

/// Not a multiple of a cluster, and more than one word of the map.
const DISK_BYTES: u64 = WORD_BYTES + 3 * CLUSTER_BYTES + 3 * SECTOR_BYTES;
const SECTORS: u64 = DISK_BYTES / SECTOR_BYTES;

fn base_content() -> Vec<u8> {
    (0..DISK_BYTES).map(|at| (at / SECTOR_BYTES) as u8 ^ 0xA5).collect()
}

fn base() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::read_only(base_content()))
}

fn layout() -> Layout {
    Layout::new(DISK_BYTES).unwrap()
}

fn over(store: Arc<dyn Disk>, map: Map) -> Overlay {
    Overlay::new(base(), store, layout(), map, true)
}

fn read(disk: &dyn Disk, range: ByteRange) -> Vec<u8> {
    let buffer = IoBuffer::owned(vec![0xEE; range.length as usize]);
    disk.read(range.offset, &buffer).unwrap();
    buffer.to_vec()
}

fn all(disk: &dyn Disk) -> Vec<u8> {
    read(disk, ByteRange::new(0, DISK_BYTES))
}

/// What a test does to a disk, in sectors.
#[derive(Debug, Clone)]
enum Step {
    Write(u64, u64, u8),
    Zero(u64, u64),
    Discard(u64, u64),
    Flush,
}

impl Step {
    fn range(&self) -> ByteRange {
        let (Self::Write(first, count, _) | Self::Zero(first, count) | Self::Discard(first, count)) =
            *self
        else {
            return ByteRange::new(0, 0);
        };
        let count = count.min(SECTORS - first);
        ByteRange::new(first * SECTOR_BYTES, count * SECTOR_BYTES)
    }

    fn byte(&self) -> u8 {
        if let Self::Write(_, _, byte) = self { *byte } else { 0 }
    }

    fn run(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        let range = self.range();
        match self {
            Self::Write(_, _, byte) => {
                disk.write(range.offset, &IoBuffer::owned(vec![*byte; range.length as usize]))
            }
            Self::Zero(..) => disk.zero(range),
            Self::Discard(..) => disk.discard(range),
            Self::Flush => disk.flush(),
        }
    }

    fn apply(&self, model: &mut [u8]) {
        let range = self.range();
        model[range.offset as usize..range.end() as usize].fill(self.byte());
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Mostly small, so that clusters are written in part.
    let count = prop_oneof![4 => 1_u64..12, 1 => 1_u64..700];
    let place = (0..SECTORS, count);
    let step = prop_oneof![
        6 => (place.clone(), 1_u8..).prop_map(|((first, count), byte)| Step::Write(first, count, byte)),
        1 => place.clone().prop_map(|(first, count)| Step::Zero(first, count)),
        1 => place.prop_map(|(first, count)| Step::Discard(first, count)),
        2 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..24)
}

/// A store that can lose power: what was not flushed may be there or not, sector by sector.
struct Volatile {
    safe: Mutex<Sectors>,
    /// In the order in which they came.
    written: Mutex<Vec<(u64, Sector)>>,
    /// Calls that still work before power goes.
    calls_left: Mutex<u32>,
}

type Sector = [u8; SECTOR_BYTES as usize];
/// By number; zeros where there are none.
type Sectors = BTreeMap<u64, Sector>;

impl Volatile {
    fn new(calls: u32) -> Self {
        Self { safe: Mutex::default(), written: Mutex::default(), calls_left: Mutex::new(calls) }
    }

    fn call(&self) -> Result<(), DiskError> {
        let mut left = lock(&self.calls_left);
        *left = left.checked_sub(1).ok_or(DiskError::Os(libc::EIO))?;
        Ok(())
    }

    /// What is found afterwards, if `survives` says which unflushed sectors were written in time.
    fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Sectors {
        let mut sectors = lock(&self.safe).clone();
        for (number, sector) in lock(&self.written).iter() {
            if survives() {
                sectors.insert(*number, *sector);
            }
        }
        sectors
    }

    /// What whoever has it finds then.
    fn restarted(sectors: &Sectors) -> Self {
        let store = Self::new(u32::MAX);
        *lock(&store.safe) = sectors.clone();
        store
    }
}

impl Disk for Volatile {
    fn info(&self) -> DiskInfo {
        DiskInfo { bytes: layout().store_bytes(), read_only: false, discard: true }
    }

    fn read(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        let sectors = self.after_power_loss(|| true);
        for (at, number) in
            (0..buffer.len()).step_by(SECTOR_BYTES as usize).zip(offset / SECTOR_BYTES..)
        {
            buffer.write(at, sectors.get(&number).unwrap_or(&[0; SECTOR_BYTES as usize]));
        }
        Ok(())
    }

    fn write(&self, offset: u64, buffer: &IoBuffer) -> Result<(), DiskError> {
        self.call()?;
        let content = buffer.to_vec();
        let sectors = content.chunks_exact(SECTOR_BYTES as usize).map(|it| it.try_into().unwrap());
        lock(&self.written).extend((offset / SECTOR_BYTES..).zip(sectors));
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.call()?;
        let sectors = self.after_power_loss(|| true);
        lock(&self.written).clear();
        *lock(&self.safe) = sectors;
        Ok(())
    }

    fn discard(&self, range: ByteRange) -> Result<(), DiskError> {
        self.zero(range)
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        self.write(range.offset, &IoBuffer::owned(vec![0; range.length as usize]))
    }
}

/// The map in a store.
fn map_of(store: &Volatile) -> Map {
    let range = ByteRange::new(layout().map_offset, layout().map_bytes());
    Map::from_bytes(&read(store, range), DISK_BYTES)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_overlay_reads_as_a_plain_disk_would(steps in steps()) {
        let store = Arc::new(MemoryDisk::new(vec![0xDD; layout().store_bytes() as usize]));
        let disk = over(store, Map::empty(DISK_BYTES));
        let mut model = base_content();
        for step in &steps {
            step.run(&disk).unwrap();
            step.apply(&mut model);
        }
        prop_assert!(all(&disk) == model);
    }

    #[test]
    fn flushed_data_survives_power_loss_at_any_call(steps in steps(), seed in any::<u64>()) {
        let mut random = seed | 1;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let (all_calls, _) = run_until(u32::MAX, &steps);
        for _ in 0..8 {
            let calls = next() % u64::from(all_calls + 1);
            let (_, run) = run_until(calls as u32, &steps);
            // Little or much of what was on its way arrived.
            let share = next() % 8;
            let found = run.store.after_power_loss(|| next() >> 20 & 7 < share);
            let found = Volatile::restarted(&found);
            let map = map_of(&found);
            let again = over(Arc::new(found), map);
            let content = all(&again);
            let sectors = content.chunks(SECTOR_BYTES as usize);
            for (number, (sector, allowed)) in sectors.zip(&run.possible).enumerate() {
                let byte = sector[0];
                prop_assert!(sector.iter().all(|it| *it == byte), "sector {} is torn", number);
                prop_assert!(allowed.contains(&byte), "sector {}: {}, not {:?}", number, byte, allowed);
            }
        }
    }
}

struct Run {
    store: Arc<Volatile>,
    /// For each sector, what all its bytes may be afterwards.
    possible: Vec<Vec<u8>>,
}

/// Does as much as the store allows before its power goes. Gives the number of calls it had.
fn run_until(calls: u32, steps: &[Step]) -> (u32, Run) {
    let store = Arc::new(Volatile::new(calls));
    let disk = over(store.clone(), Map::empty(DISK_BYTES));
    let base = base_content();
    let sectors = base.chunks(SECTOR_BYTES as usize);
    let mut possible: Vec<_> = sectors.map(|sector| vec![sector[0]]).collect();
    for step in steps {
        let done = step.run(&disk);
        if let (Step::Flush, Ok(())) = (step, done) {
            possible.iter_mut().for_each(|all| drop(all.drain(..all.len() - 1)));
        }
        for at in (step.range().offset..step.range().end()).step_by(SECTOR_BYTES as usize) {
            possible[(at / SECTOR_BYTES) as usize].push(step.byte());
        }
        if done.is_err() {
            break;
        }
    }
    // As it ends it would flush.
    std::mem::forget(disk);
    let left = *lock(&store.calls_left);
    (calls - left, Run { store, possible })
}

#[test]
fn writers_to_one_cluster_do_not_undo_each_other() {
    let disk = over(
        Arc::new(MemoryDisk::new(vec![0; layout().store_bytes() as usize])),
        Map::empty(DISK_BYTES),
    );
    std::thread::scope(|scope| {
        for sector in 0..8 {
            let disk = &disk;
            scope.spawn(move || {
                for cluster in 0..64 {
                    let offset = cluster * CLUSTER_BYTES + sector * SECTOR_BYTES;
                    let content = vec![sector as u8 + 1; SECTOR_BYTES as usize];
                    disk.write(offset, &IoBuffer::owned(content)).unwrap();
                }
            });
        }
    });
    let content = read(&disk, ByteRange::new(0, WORD_BYTES));
    for (number, sector) in content.chunks(SECTOR_BYTES as usize).enumerate() {
        assert!(sector.iter().all(|&byte| byte == (number % 8) as u8 + 1), "sector {number}");
    }
}

#[test]
fn a_flush_that_fails_is_made_up_for_by_the_next() {
    let store = Arc::new(Volatile::new(2));
    let disk = over(store.clone(), Map::empty(DISK_BYTES));
    disk.write(0, &IoBuffer::owned(vec![1; CLUSTER_BYTES as usize])).unwrap();
    assert!(disk.flush().is_err());
    *lock(&store.calls_left) = 100;
    disk.flush().unwrap();
    let found = Volatile::restarted(&store.after_power_loss(|| false));
    assert!(map_of(&found).all_set(ByteRange::new(0, CLUSTER_BYTES)));
}

fn files(folder: &TestFolder) -> (std::path::PathBuf, std::path::PathBuf) {
    (folder.file("base", &base_content()), folder.path("changes"))
}

fn open_files(base: &std::path::Path, changes: &std::path::Path) -> Result<Overlay, OverlayError> {
    let base = FileDisk::open(base, Access::ReadOnly).unwrap();
    open(Arc::new(base), changes, 7)
}

#[test]
fn a_file_keeps_the_changes_and_the_base_is_untouched() {
    let folder = TestFolder::new();
    let (base, changes) = files(&folder);
    let mut model = base_content();
    let steps = [Step::Write(3, 9, 1), Step::Discard(20, 30), Step::Write(SECTORS - 1, 1, 2)];
    for round in 0..3 {
        let disk = open_files(&base, &changes).unwrap();
        assert!(all(&disk) == model, "round {round}");
        for step in &steps {
            step.run(&disk).unwrap();
            step.apply(&mut model);
        }
        assert_eq!(disk.info().bytes, DISK_BYTES);
    }
    assert!(fs::read(&base).unwrap() == base_content());
}

#[test]
fn a_temporary_overlay_forgets() {
    let folder = TestFolder::new();
    let (base, _) = files(&folder);
    for _ in 0..2 {
        let base = FileDisk::open(&base, Access::ReadOnly).unwrap();
        let disk = temporary(Arc::new(base)).unwrap();
        assert!(all(&disk) == base_content());
        disk.write(0, &IoBuffer::owned(vec![1; 4096])).unwrap();
        disk.flush().unwrap();
        assert_eq!(read(&disk, ByteRange::new(4095, 1)), [1]);
    }
}

#[test]
fn reads_and_later_writes_need_no_thread() {
    let folder = TestFolder::new();
    let (base, changes) = files(&folder);
    let disk = open_files(&base, &changes).unwrap();
    let range = ByteRange::new(4096, 12288);
    assert_eq!(disk.lower(Direction::Write, range), None);
    disk.write(8192, &IoBuffer::owned(vec![1; 512])).unwrap();
    let parts = disk.lower(Direction::Read, range).unwrap();
    let places: Vec<_> = parts.iter().map(|part| (part.buffer_offset, part.length)).collect();
    assert_eq!(places, [(0, 4096), (4096, 4096), (8192, 4096)]);
    assert_eq!((parts[0].fd, parts[0].file_offset), (parts[2].fd, 4096));
    assert_ne!(parts[1].fd, parts[0].fd);
    assert_eq!(parts[1].file_offset, layout().data_offset(8192));
    let inside = ByteRange::new(8192, 4096);
    assert_eq!(disk.lower(Direction::Write, inside).unwrap().len(), 1);
}

#[test]
fn what_is_no_overlay_of_this_base_is_refused() {
    let folder = TestFolder::new();
    let (base, changes) = files(&folder);
    let refused = |changes: &std::path::Path| open_files(&base, changes).err().unwrap();
    for content in [&b"short"[..], &[b'x'; 9000]] {
        let file = folder.file("other", content);
        assert!(matches!(refused(&file), OverlayError::NoOverlay));
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    drop(open_files(&base, &changes).unwrap());
    let larger = FileDisk::open(&folder.sparse("larger", 1 << 20), Access::ReadOnly).unwrap();
    let error = open(Arc::new(larger), &changes, 7).err().unwrap();
    assert!(matches!(error, OverlayError::OtherSize(DISK_BYTES)));
    let same = FileDisk::open(&base, Access::ReadOnly).unwrap();
    assert!(matches!(open(Arc::new(same), &changes, 8), Err(OverlayError::Changed)));
    let first = open_files(&base, &changes).unwrap();
    assert!(refused(&changes).to_string().contains("another machine"));
    drop(first);
    fs::OpenOptions::new().write(true).open(&changes).unwrap().set_len(1 << 20).unwrap();
    assert!(matches!(refused(&changes), OverlayError::NoOverlay));
    assert!(matches!(refused(&folder.path("")), OverlayError::Os(_)));
}

#[test]
fn an_overlay_whose_making_was_interrupted_is_made_again() {
    let folder = TestFolder::new();
    let (base, _) = files(&folder);
    for (name, bytes) in [("empty", 0), ("sized", layout().store_bytes())] {
        let disk = open_files(&base, &folder.sparse(name, bytes)).unwrap();
        assert!(all(&disk) == base_content());
    }
}
