//! Disks in real files.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::*;
use crate::storage::test_folder::TestFolder;

fn read_write(path: &Path) -> FileDisk {
    FileDisk::open(path, Access::ReadWrite).unwrap()
}

fn refused(path: &Path, access: Access) -> String {
    let error = FileDisk::open(path, access).err().expect("it is refused");
    match error.advice() {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

#[test]
fn bytes_go_to_the_file_and_back() {
    let folder = TestFolder::new();
    let path = folder.sparse("disk", 1 << 20);
    let disk = read_write(&path);
    assert_eq!(disk.info(), DiskInfo { bytes: 1 << 20, read_only: false, discard: true });
    disk.write(1024, &IoBuffer::owned(vec![7; 1536])).unwrap();
    disk.write_through(512, &IoBuffer::owned(vec![8; 512])).unwrap();
    disk.flush().unwrap();
    let read = IoBuffer::owned(vec![1; 3072]);
    disk.read(0, &read).unwrap();
    let content = read.to_vec();
    assert_eq!(content, fs::read(&path).unwrap()[..3072]);
    assert_eq!([content[511], content[512], content[1024], content[2560]], [0, 8, 7, 0]);
}

#[test]
fn more_pieces_than_one_call_takes_are_moved() {
    let folder = TestFolder::new();
    let disk = read_write(&folder.sparse("disk", 1 << 20));
    let memory = Box::leak(vec![3_u8; 3 * 2 * MANY].into_boxed_slice()).as_mut_ptr();
    const MANY: usize = syscalls::MAX_PIECES + 500;
    let pieces = (0..MANY)
        .map(|at| libc::iovec { iov_base: memory.wrapping_add(at * 6).cast(), iov_len: 3 })
        .collect();
    // SAFETY: leaked memory lives for ever.
    let buffer = unsafe { IoBuffer::new(pieces, std::sync::Arc::new(())) };
    disk.write(5, &buffer).unwrap();
    buffer.write(0, &[0; 3 * MANY]);
    disk.read(5, &buffer).unwrap();
    assert_eq!(buffer.to_vec(), vec![3; 3 * MANY]);
}

#[test]
fn discarded_space_is_given_back_and_reads_as_zeros() {
    let folder = TestFolder::new();
    let path = folder.file("disk", &vec![1; 1 << 20]);
    let disk = read_write(&path);
    disk.flush().unwrap();
    let before = fs::metadata(&path).unwrap().blocks();
    disk.discard(ByteRange::new(4096, 512 << 10)).unwrap();
    let content = fs::read(&path).unwrap();
    assert_eq!(content.len(), 1 << 20);
    assert!(content[4096..4096 + (512 << 10)].iter().all(|&byte| byte == 0));
    assert_eq!((content[4095], content[4096 + (512 << 10)]), (1, 1));
    assert!(fs::metadata(&path).unwrap().blocks() <= before - 900);
}

#[test]
fn zeros_are_written_whatever_the_file_system_can() {
    let folder = TestFolder::new();
    let path = folder.file("disk", &vec![1; 1 << 16]);
    let disk = read_write(&path);
    disk.zero(ByteRange::new(512, 1024)).unwrap();
    disk.write_zeros(ByteRange::new(4096, 512)).unwrap();
    disk.zero(ByteRange::new(0, 0)).unwrap();
    let content = fs::read(&path).unwrap();
    assert_eq!([content[511], content[512], content[1535], content[1536]], [1, 0, 0, 1]);
    assert_eq!([content[4095], content[4096], content[4607], content[4608]], [1, 0, 0, 1]);
}

#[test]
fn a_read_only_disk_leaves_its_file_alone() {
    let folder = TestFolder::new();
    let path = folder.file("disk", &[1; 1024]);
    let disk = FileDisk::open(&path, Access::ReadOnly).unwrap();
    let buffer = IoBuffer::owned(vec![2; 512]);
    let range = ByteRange::new(0, 512);
    assert!(disk.info().read_only && !disk.info().discard);
    assert_eq!(disk.write(0, &buffer), Err(DiskError::ReadOnly));
    assert_eq!(disk.write_through(0, &buffer), Err(DiskError::ReadOnly));
    assert_eq!(disk.discard(range), Err(DiskError::ReadOnly));
    assert_eq!(disk.zero(range), Err(DiskError::ReadOnly));
    assert_eq!(disk.lower(Direction::Write, range), None);
    assert_eq!((disk.flush(), disk.read(0, &buffer)), (Ok(()), Ok(())));
    assert_eq!(fs::read(&path).unwrap(), [1; 1024]);
}

#[test]
fn what_can_be_no_disk_is_refused_with_advice() {
    let folder = TestFolder::new();
    let missing = refused(&folder.path("missing"), Access::ReadWrite);
    assert!(missing.contains("No such file") && missing.ends_with("; check the path"), "{missing}");
    let directory = refused(&folder.path(""), Access::ReadOnly);
    assert!(directory.contains("it is a directory"), "{directory}");
    assert!(refused(Path::new("/dev/null"), Access::ReadOnly).contains("a character device"));
    let empty = refused(&folder.file("empty", b""), Access::ReadWrite);
    assert!(empty.contains("truncate -s 1G"), "{empty}");
    let partial = refused(&folder.file("partial", &[0; 700]), Access::ReadWrite);
    assert!(partial.contains("700 bytes") && partial.contains("truncate -s %512"), "{partial}");
}

#[test]
fn one_writer_or_many_readers() {
    let folder = TestFolder::new();
    let path = folder.sparse("disk", 4096);
    let writer = read_write(&path);
    assert!(refused(&path, Access::ReadWrite).contains("another machine"));
    assert!(refused(&path, Access::ReadOnly).contains("another machine"));
    drop(writer);
    let readers = [(); 2].map(|()| FileDisk::open(&path, Access::ReadOnly).unwrap());
    assert!(refused(&path, Access::ReadWrite).contains("another machine"));
    drop(readers);
    read_write(&path);
}

#[test]
fn a_new_size_is_seen_when_asked_for() {
    let folder = TestFolder::new();
    let path = folder.sparse("disk", 4096);
    let disk = read_write(&path);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(8192 + 100).unwrap();
    assert_eq!(disk.info().bytes, 4096);
    assert_eq!(disk.refresh().unwrap().bytes, 8192);
    file.set_len(512).unwrap();
    file.write_all_at(&[9; 512], 0).unwrap();
    let buffer = IoBuffer::owned(vec![0; 1024]);
    assert_eq!(disk.read(0, &buffer), Err(DiskError::Short));
    assert_eq!(disk.refresh().unwrap().bytes, 512);
}

#[test]
fn after_one_failed_flush_none_is_believed() {
    let folder = TestFolder::new();
    let disk = read_write(&folder.sparse("disk", 4096));
    assert_eq!(disk.synced(Err(DiskError::Os(libc::EIO))), Err(DiskError::Os(libc::EIO)));
    assert_eq!(disk.flush(), Err(DiskError::FlushLost));
    let buffer = IoBuffer::owned(vec![0; 512]);
    assert_eq!(disk.write_through(0, &buffer), Err(DiskError::FlushLost));
    assert_eq!(disk.read(0, &buffer), Ok(()));
}
