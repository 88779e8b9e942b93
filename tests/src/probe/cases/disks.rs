//! Disks by Linux's block layer, past its cache. Cases write to the first disk that can be written to and has 16 MiB.

#![expect(unsafe_code, reason = "several buffers with one call, at a place")]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::sense::SenseKey;
use hv_abi::storvsp::SCSI_GUID;
use vsc_cases::scsi::cdb::blocks_10;
use vsc_cases::scsi::target::{Data, Target};
use vsc_cases::support::{check, skip};
use vsc_cases::{CaseResult, Problem};

use super::failed;
use super::registry::at_once;
use super::sg::SgTarget;
use super::system::{of_kind, text};
use crate::probe::disk::Aligned;
use crate::probe::pattern::fill;

/// Bytes that a scratch disk must have.
const SCRATCH_BYTES: u64 = 16 << 20;
/// Unit of `size` under `/sys`.
const SECTOR: u64 = 512;
/// Threads that write and read at the same time, and how often each.
const THREADS: u64 = 100;
const TIMES: u64 = 3;

/// A disk as Linux shows it.
struct Shown {
    lun: u8,
    node: PathBuf,
    bytes: u64,
    block: usize,
    read_only: bool,
}

fn shown(target: &SgTarget) -> Vec<Shown> {
    let one = |lun: u8| {
        let folder = target.block_folder(lun)?;
        let number = |file: &str| text(folder.join(file)).parse::<u64>().ok();
        Some(Shown {
            lun,
            node: target.node(lun)?,
            bytes: number("size")? * SECTOR,
            block: number("queue/logical_block_size")? as usize,
            read_only: number("ro")? != 0,
        })
    };
    target.luns().into_iter().filter_map(one).collect()
}

fn scratch() -> Result<Shown, Problem> {
    let target = SgTarget::first()?;
    let fits = |disk: &Shown| !disk.read_only && disk.bytes >= SCRATCH_BYTES;
    let found = shown(&target).into_iter().find(fits);
    found.map_or_else(|| skip("there is no writable disk of 16 MiB"), Ok)
}

fn open(node: &Path, write: bool, flags: i32) -> Result<File, Problem> {
    let mut options = OpenOptions::new();
    options.read(true).write(write).custom_flags(libc::O_DIRECT | flags);
    options.open(node).map_err(failed(node.display().to_string()))
}

/// Writes `bytes` bytes that can be told from their place, and reads them again.
fn round_trip(file: &File, place: u64, bytes: usize, seed: u64) -> CaseResult {
    let mut buffer = Aligned::new(bytes);
    fill(seed, 0, &mut buffer.0[..bytes]);
    let expected = buffer.0[..bytes].to_vec();
    file.write_all_at(&buffer.0[..bytes], place).map_err(failed("write"))?;
    buffer.0.fill(0);
    file.read_exact_at(&mut buffer.0[..bytes], place).map_err(failed("read"))?;
    check(buffer.0[..bytes] == expected, || format!("{bytes} bytes at byte {place} differ"))
}

/// `storage::the_controller_starts_and_finds_disks`, after its driver let go of it.
///
/// # Errors
///
/// As every case.
pub fn the_controller_starts_and_finds_disks() -> CaseResult {
    let controllers = of_kind(SCSI_GUID, "SCSI controller")?;
    let before = SgTarget::first()?.luns();
    controllers[0].rebind(|| Ok(()))?;
    let target = SgTarget::first()?;
    check(target.luns() == before, || format!("first {before:?}, then {:?}", target.luns()))?;
    for Shown { node, bytes, block, .. } in shown(&target) {
        check(block.is_power_of_two() && bytes != 0, || {
            format!("{}: {bytes} bytes in blocks of {block}", node.display())
        })?;
    }
    Ok(())
}

/// `storage::what_is_written_is_read_again`.
///
/// # Errors
///
/// As every case.
pub fn what_is_written_is_read_again() -> CaseResult {
    let disk = scratch()?;
    let file = open(&disk.node, true, 0)?;
    let block = disk.block as u64;
    for (number, bytes) in [disk.block, 4096, 65_536, 1 << 20].into_iter().enumerate() {
        let middle = (disk.bytes / 2 / block + 1) * block;
        for (at, place) in [0, middle, disk.bytes - bytes as u64].into_iter().enumerate() {
            round_trip(&file, place, bytes, (number * 3 + at) as u64)?;
        }
    }
    Ok(())
}

/// `storage::pieces_across_pages_keep_their_order`.
///
/// # Errors
///
/// As every case.
pub fn pieces_across_pages_keep_their_order() -> CaseResult {
    let disk = scratch()?;
    let file = open(&disk.node, true, 0)?;
    let sizes = [1, 9, 2, 17, 1, 3].map(|blocks: usize| blocks * disk.block);
    let whole: usize = sizes.iter().sum();
    let mut expected = vec![0; whole];
    fill(77, 0, &mut expected);
    let (mut pieces, mut at) = (Vec::new(), 0);
    for size in sizes {
        let mut piece = Aligned::new(size);
        piece.0[..size].copy_from_slice(&expected[at..at + size]);
        pieces.push(piece);
        at += size;
    }
    let list: Vec<libc::iovec> = pieces
        .iter_mut()
        .zip(sizes)
        .map(|(piece, size)| libc::iovec { iov_base: piece.0.as_mut_ptr().cast(), iov_len: size })
        .collect();
    let place = 40 * disk.block;
    // SAFETY: so many pieces of their own lengths, which are only read.
    let written = unsafe {
        libc::pwritev(file.as_raw_fd(), list.as_ptr(), list.len() as i32, place as libc::off_t)
    };
    check(written == whole as isize, || {
        format!("{written} of {whole} bytes: {}", std::io::Error::last_os_error())
    })?;
    let mut buffer = Aligned::new(whole);
    file.read_exact_at(&mut buffer.0[..whole], place as u64).map_err(failed("read"))?;
    check(buffer.0[..whole] == expected, || "what was written in pieces is not what is read".into())
}

/// `storage::a_flush_is_answered`.
///
/// # Errors
///
/// As every case.
pub fn a_flush_is_answered() -> CaseResult {
    let disk = scratch()?;
    let file = open(&disk.node, true, 0)?;
    file.sync_all().map_err(failed("flush"))?;
    round_trip(&file, 0, 4096, 1)?;
    file.sync_all().map_err(failed("flush"))?;
    let through = open(&disk.node, true, libc::O_DSYNC)?;
    round_trip(&through, 0, 4096, 2)
}

/// `storage::a_read_beyond_the_end_is_refused`: the last block is there, and none behind it.
///
/// # Errors
///
/// As every case.
pub fn a_read_beyond_the_end_is_refused() -> CaseResult {
    let disk = scratch()?;
    let file = open(&disk.node, true, 0)?;
    let mut buffer = Aligned::new(disk.block);
    let last = &mut buffer.0[..disk.block];
    file.read_exact_at(last, disk.bytes - disk.block as u64).map_err(failed("read"))?;
    let behind = file.read_at(last, disk.bytes).map_err(failed("read"))?;
    check(behind == 0, || format!("{behind} bytes behind the end"))?;
    let written = file.write_at(last, disk.bytes);
    check(written.is_err(), || format!("{written:?} bytes written behind the end"))
}

/// `storage::a_read_only_disk_stays_as_it_is`: Linux refuses writes by itself; one by `SG_IO` reaches the disk.
///
/// # Errors
///
/// As every case.
pub fn a_read_only_disk_stays_as_it_is() -> CaseResult {
    let target = SgTarget::first()?;
    let Some(disk) = shown(&target).into_iter().find(|disk| disk.read_only) else {
        return skip("there is no read-only disk");
    };
    let read = || -> Result<Vec<u8>, Problem> {
        let mut buffer = Aligned::new(disk.block);
        let file = open(&disk.node, false, 0)?;
        file.read_exact_at(&mut buffer.0[..disk.block], 0).map_err(failed("read"))?;
        Ok(buffer.0[..disk.block].to_vec())
    };
    let before = read()?;
    at_once(async {
        target.write(&vec![0x5A; disk.block])?;
        let cdb = blocks_10(ScsiOp::WRITE_10, 0, 1);
        let outcome = target.run(disk.lun, &cdb, Data::Out(disk.block as u32)).await?;
        let key = outcome.error().map(|(key, _)| key);
        check(key == Some(SenseKey::DATA_PROTECT), || format!("{outcome:x?}"))
    })?;
    check(read()? == before, || "its first block changed".into())
}

/// `storage::many_requests_are_in_flight_at_the_same_time`.
///
/// # Errors
///
/// As every case.
pub fn many_requests_are_in_flight_at_the_same_time() -> CaseResult {
    let disk = scratch()?;
    let file = open(&disk.node, true, 0)?;
    let one = |thread: u64| -> CaseResult {
        (0..TIMES).try_for_each(|time| {
            let number = thread * TIMES + time;
            round_trip(&file, number * 4096, 4096, number)
        })
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || one(thread))).collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Problem::Fail("a thread panicked".into())))
        });
        ended.fold(Ok(()), CaseResult::and)
    })
}
