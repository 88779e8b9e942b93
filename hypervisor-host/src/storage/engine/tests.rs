//! Both kinds of engines do the same.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::storage::disk::ByteRange;
use crate::storage::faulty::{FaultyDisk, Kind, Trouble};
use crate::storage::file::{Access, FileDisk};
use crate::storage::memory::MemoryDisk;
use crate::storage::test_folder::TestFolder;

const LIMIT: Duration = Duration::from_secs(20);

/// All engines that this kernel has.
fn engines() -> Vec<Engines> {
    [EngineChoice::IoUring, EngineChoice::Threads]
        .into_iter()
        .filter_map(|choice| match Engines::new(choice) {
            Ok(engines) => Some(engines),
            Err(error) => {
                eprintln!("SKIP: {error}");
                None
            }
        })
        .collect()
}

fn file_disk(folder: &TestFolder, name: &str, bytes: u64) -> Arc<dyn Disk> {
    Arc::new(FileDisk::open(&folder.sparse(name, bytes), Access::ReadWrite).unwrap())
}

fn drained(queue: &mut Queue) -> Vec<Completed> {
    let mut completed = Vec::new();
    assert!(queue.drain(LIMIT, &mut completed), "{} in flight", queue.in_flight());
    completed.sort_by_key(|it| it.tag);
    completed
}

fn write(tag: u64, disk: &Arc<dyn Disk>, offset: u64, content: Vec<u8>) -> Request {
    let range = ByteRange::new(offset, content.len() as u64);
    let op = DiskOp::Write { range, through: false };
    Request { tag, disk: disk.clone(), op, buffer: IoBuffer::owned(content) }
}

/// A read, and its memory.
fn read(tag: u64, disk: &Arc<dyn Disk>, offset: u64, length: u64) -> (Request, IoBuffer) {
    let buffer = IoBuffer::owned(vec![0xEE; length as usize]);
    let op = DiskOp::Read(ByteRange::new(offset, length));
    (Request { tag, disk: disk.clone(), op, buffer: buffer.part(0, length) }, buffer)
}

/// A byte that tells requests apart.
fn content(tag: u64) -> u8 {
    (tag % 255) as u8 + 1
}

#[test]
fn many_requests_at_once_are_all_completed() {
    let folder = TestFolder::new();
    for engines in engines() {
        let disk = file_disk(&folder, engines.name(), 16 << 20);
        let mut queue = engines.queue().unwrap();
        for tag in 0..1000 {
            queue.submit(write(tag, &disk, tag * 4096, vec![content(tag); 4096]));
        }
        let completed = drained(&mut queue);
        assert_eq!(completed.len(), 1000);
        assert!(completed.iter().zip(0..).all(|(it, tag)| it.tag == tag && it.result == Ok(())));
        let reads: Vec<_> = (0..1000)
            .map(|tag| {
                let (request, buffer) = read(tag, &disk, tag * 4096, 4096);
                queue.submit(request);
                buffer
            })
            .collect();
        assert_eq!(drained(&mut queue).len(), 1000);
        for (tag, buffer) in reads.iter().enumerate() {
            assert!(buffer.to_vec().iter().all(|&byte| byte == content(tag as u64)), "{tag}");
        }
    }
}

#[test]
fn the_event_tells_of_completions() {
    let folder = TestFolder::new();
    for engines in engines() {
        let disk = file_disk(&folder, engines.name(), 1 << 20);
        let mut queue = engines.queue().unwrap();
        for tag in 0..50 {
            queue.submit(write(tag, &disk, 0, vec![1; 512]));
            queue.submit(Request { op: DiskOp::Flush, ..write(tag, &disk, 0, Vec::new()) });
            queue.start();
            let mut completed = Vec::new();
            while completed.len() < 2 {
                let fd = queue.event().as_raw_fd();
                let mut poll = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
                syscalls::poll(&mut poll, LIMIT);
                assert_ne!(poll[0].revents, 0, "nothing was told");
                queue.completions(true, &mut completed);
            }
        }
        assert_eq!(queue.in_flight(), 0);
    }
}

#[test]
fn errors_come_back_with_their_tags() {
    let folder = TestFolder::new();
    let outside = Err(DiskError::Outside);
    for engines in engines() {
        let disk = file_disk(&folder, engines.name(), 1 << 20);
        let path = folder.sparse("read-only", 4096);
        let read_only: Arc<dyn Disk> = Arc::new(FileDisk::open(&path, Access::ReadOnly).unwrap());
        let mut queue = engines.queue().unwrap();
        queue.submit(read(0, &disk, (1 << 20) - 512, 1024).0);
        queue.submit(read(1, &disk, u64::MAX - 511, 1024).0);
        queue.submit(write(2, &read_only, 0, vec![1; 512]));
        queue.submit(read(3, &disk, 0, 512).0);
        let results: Vec<_> = drained(&mut queue).into_iter().map(|it| it.result).collect();
        assert_eq!(results, [outside, outside, Err(DiskError::ReadOnly), Ok(())]);
    }
}

#[test]
fn a_file_that_was_cut_off_gives_a_short_read() {
    let folder = TestFolder::new();
    for engines in engines() {
        let path = folder.sparse(engines.name(), 1 << 20);
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&path, Access::ReadWrite).unwrap());
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(1000).unwrap();
        let mut queue = engines.queue().unwrap();
        queue.submit(read(0, &disk, 512, 1024).0);
        assert_eq!(drained(&mut queue)[0].result, Err(DiskError::Short));
    }
}

#[test]
fn a_request_that_hangs_holds_up_no_other() {
    for engines in engines() {
        let slow = FaultyDisk::new(Arc::new(MemoryDisk::new(vec![0; 4096])));
        slow.always(Kind::Read, Trouble::Never);
        let slow = Arc::new(slow);
        let hanging: Arc<dyn Disk> = slow.clone();
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(vec![0; 4096]));
        let mut queue = engines.queue().unwrap();
        queue.submit(read(0, &hanging, 0, 512).0);
        queue.submit(read(1, &disk, 0, 512).0);
        let mut completed = Vec::new();
        assert!(!queue.drain(Duration::from_millis(100), &mut completed));
        assert_eq!((completed.len(), completed[0].tag, queue.in_flight()), (1, 1, 1));
        slow.release();
        assert_eq!(drained(&mut queue).len(), 1);
    }
}

#[test]
fn requests_without_data_are_done_too() {
    let folder = TestFolder::new();
    for engines in engines() {
        let disk = file_disk(&folder, engines.name(), 1 << 20);
        let mut queue = engines.queue().unwrap();
        queue.submit(write(0, &disk, 0, vec![5; 8192]));
        assert_eq!(drained(&mut queue).len(), 1);
        let range = ByteRange::new(4096, 512);
        let ops = [
            DiskOp::Flush,
            DiskOp::Zero(range),
            DiskOp::Verify(ByteRange::new(0, 1 << 20)),
            DiskOp::Discard(vec![ByteRange::new(8192, 4096)]),
            DiskOp::Fill { range: ByteRange::new(4608, 512), pattern: vec![6; 512] },
        ];
        for (tag, op) in (0..).zip(ops) {
            queue.submit(Request { tag, disk: disk.clone(), op, buffer: IoBuffer::none() });
        }
        assert!(drained(&mut queue).iter().all(|it| it.result == Ok(())));
        let (request, buffer) = read(9, &disk, 4096, 1536);
        queue.submit(request);
        drained(&mut queue);
        let content = buffer.to_vec();
        assert_eq!([content[0], content[511], content[512], content[1024]], [0, 0, 6, 5]);
    }
}

#[test]
fn a_queue_that_goes_lets_its_requests_finish() {
    let folder = TestFolder::new();
    for engines in engines() {
        let path = folder.sparse(engines.name(), 1 << 20);
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(&path, Access::ReadWrite).unwrap());
        let mut queue = engines.queue().unwrap();
        for tag in 0..256 {
            queue.submit(write(tag, &disk, tag * 4096, vec![1; 4096]));
        }
        drop(queue);
        assert!(std::fs::read(&path).unwrap().iter().all(|&byte| byte == 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn scattered_reads_and_writes_agree_with_a_model(
        writes in prop::collection::vec((0_u64..200, 1_u64..24), 1..40),
        pieces in prop::collection::vec(1_usize..3000, 1..30),
    ) {
        let folder = TestFolder::new();
        for engines in engines() {
            let disk = file_disk(&folder, engines.name(), 128 << 10);
            let mut queue = engines.queue().unwrap();
            let mut model = vec![0; 128 << 10];
            for (tag, (sector, count)) in (0_u64..).zip(&writes) {
                let (offset, length) = (sector * 512, count * 512);
                let content: Vec<u8> = (0..length).map(|at| (at * 31 + tag * 7) as u8).collect();
                model[offset as usize..][..content.len()].copy_from_slice(&content);
                let mut request = write(tag, &disk, offset, content);
                request.buffer = scatter(&request.buffer.to_vec(), &pieces);
                queue.submit(request);
                // Overlapping requests have no order unless one waits for the other.
                drained(&mut queue);
            }
            let buffer = scatter(&vec![0; model.len()], &pieces);
            let op = DiskOp::Read(ByteRange::new(0, buffer.len()));
            let part = buffer.part(0, u64::MAX);
            queue.submit(Request { tag: 0, disk: disk.clone(), op, buffer: part });
            prop_assert_eq!(drained(&mut queue)[0].result, Ok(()));
            prop_assert!(buffer.to_vec() == model);
        }
    }
}

/// The content in pieces of these lengths, in turn, far from one another.
fn scatter(content: &[u8], lengths: &[usize]) -> IoBuffer {
    let mut pieces = Vec::new();
    let mut owners = Vec::new();
    let (mut left, mut lengths) = (content, lengths.iter().cycle());
    while !left.is_empty() {
        let length = left.len().min(*lengths.next().unwrap());
        let (part, rest) = left.split_at(length);
        let owned = IoBuffer::owned(part.to_vec());
        pieces.extend(owned.pieces(0, u64::MAX));
        owners.push(owned);
        left = rest;
    }
    #[expect(unsafe_code, reason = "memory by address")]
    // SAFETY: the owners keep the pieces mapped.
    unsafe {
        IoBuffer::new(pieces, Arc::new(owners))
    }
}
