//! A block device under test: filled, checked, worked on at random by several threads; past the page cache.

#![expect(unsafe_code, reason = "memory aligned as direct I/O wants it")]

use std::alloc::Layout;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

use super::pattern::{fill, first_difference, mix};

/// Bytes that one request of [`fill_device`] and [`check_device`] has.
const CHUNK: usize = 256 << 10;
/// Bytes that [`work_at_random`] reads or writes at once.
pub const BLOCK: usize = 4096;

/// Memory on a page boundary.
pub(super) struct Aligned(pub(super) Box<[u8]>);

impl Aligned {
    pub(super) fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.next_multiple_of(BLOCK), BLOCK)
            .expect("a size that fits and a power of two");
        // SAFETY: the layout's size is not 0.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!memory.is_null(), "no memory");
        // Never given back: a box would do so with an alignment of 1.
        // SAFETY: so many bytes of our own, zeroed.
        let bytes = unsafe { std::slice::from_raw_parts_mut(memory, layout.size()) };
        // SAFETY: see above; `Drop` below takes it apart again.
        Self(unsafe { Box::from_raw(bytes) })
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        let memory = Box::leak(std::mem::take(&mut self.0));
        let layout = Layout::from_size_align(memory.len(), BLOCK).expect("as in `new`");
        // SAFETY: allocated in `new` with this layout.
        unsafe { std::alloc::dealloc(memory.as_mut_ptr(), layout) };
    }
}

fn open(device: &Path, write: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write).custom_flags(libc::O_DIRECT);
    options.open(device).with_context(|| format!("cannot open {}", device.display()))
}

fn chunks(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    let whole = bytes.div_ceil(CHUNK as u64);
    (0..whole).map(move |index| {
        let offset = index * CHUNK as u64;
        (offset, (bytes - offset).min(CHUNK as u64) as usize)
    })
}

/// Writes the first `bytes` of a device with the stream of `seed`, and waits until they are on it.
///
/// # Errors
///
/// The device can't be opened, written or flushed.
pub fn fill_device(device: &Path, bytes: u64, seed: u64) -> Result<()> {
    let file = open(device, true)?;
    let mut buffer = Aligned::new(CHUNK);
    for (offset, length) in chunks(bytes) {
        let part = &mut buffer.0[..length];
        fill(seed, offset, part);
        file.write_all_at(part, offset).with_context(|| format!("writing at {offset}"))?;
    }
    file.sync_all().context("flushing")
}

/// Compares the first `bytes` of a device with the stream of `seed`.
///
/// # Errors
///
/// The device can't be read, or differs.
pub fn check_device(device: &Path, bytes: u64, seed: u64) -> Result<()> {
    let file = open(device, false)?;
    let mut buffer = Aligned::new(CHUNK);
    for (offset, length) in chunks(bytes) {
        let part = &mut buffer.0[..length];
        file.read_exact_at(part, offset).with_context(|| format!("reading at {offset}"))?;
        if let Some(at) = first_difference(seed, offset, part) {
            bail!("byte {at} is not what was written");
        }
    }
    Ok(())
}

/// What [`work_at_random`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Blocks read and compared.
    pub reads: u64,
    /// Blocks written.
    pub writes: u64,
}

/// `operations` reads and writes of blocks at random places of the first `bytes`, by `threads` threads that each have
/// blocks of their own; every block that is read must hold what was last written to it. At the end all are checked.
///
/// # Errors
///
/// The device can't be read or written, or a block is not what was written.
pub fn work_at_random(
    device: &Path,
    bytes: u64,
    seed: u64,
    operations: u64,
    threads: u64,
) -> Result<Work> {
    let blocks = bytes / BLOCK as u64;
    if threads == 0 || blocks < threads {
        bail!("{bytes} bytes are too few for {threads} threads");
    }
    let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
    let part = |thread: u64| -> Result<()> {
        let file = open(device, true)?;
        let own = blocks / threads;
        // How often each block was written; its content follows.
        let mut written = vec![0_u32; own as usize];
        let mut buffer = Aligned::new(BLOCK);
        let content = |index: u64, times: u32| seed ^ mix(index) ^ u64::from(times);
        let place = |index: u64| (index * threads + thread) * BLOCK as u64;
        for operation in 0..operations / threads {
            let random = mix(seed ^ mix(thread) ^ operation.wrapping_mul(0x1_0001));
            let index = random % own;
            let times = &mut written[index as usize];
            if *times == 0 || random >> 63 == 0 {
                *times += 1;
                fill(content(index, *times), 0, &mut buffer.0);
                file.write_all_at(&buffer.0, place(index))
                    .with_context(|| format!("writing at {}", place(index)))?;
                writes.fetch_add(1, Ordering::Relaxed);
            } else {
                check(&file, &mut buffer, place(index), content(index, *times))?;
                reads.fetch_add(1, Ordering::Relaxed);
            }
        }
        file.sync_all().context("flushing")?;
        for (index, &times) in written.iter().enumerate().filter(|(_, times)| **times != 0) {
            check(&file, &mut buffer, place(index as u64), content(index as u64, times))?;
            reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;
    Ok(Work { reads: reads.into_inner(), writes: writes.into_inner() })
}

fn check(file: &File, buffer: &mut Aligned, offset: u64, seed: u64) -> Result<()> {
    file.read_exact_at(&mut buffer.0, offset).with_context(|| format!("reading at {offset}"))?;
    match first_difference(seed, 0, &buffer.0) {
        None => Ok(()),
        Some(at) => bail!("byte {at} of the block at {offset} is not what was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on a file system that takes direct I/O.
    fn temporary(name: &str, bytes: u64) -> std::path::PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/probe-tests");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}-{}", std::process::id()));
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    #[test]
    fn what_was_filled_is_found_again_and_a_changed_byte_too() {
        let path = temporary("fill", 1 << 20);
        fill_device(&path, 1 << 20, 3).unwrap();
        check_device(&path, 1 << 20, 3).unwrap();
        assert!(check_device(&path, 1 << 20, 4).is_err());
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"!", 700_000).unwrap();
        let error = check_device(&path, 1 << 20, 3).unwrap_err().to_string();
        assert!(error.contains("700000"), "{error}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn random_work_reads_what_it_wrote() {
        let path = temporary("random", 1 << 20);
        let work = work_at_random(&path, 1 << 20, 5, 2000, 4).unwrap();
        assert!(work.reads > 200 && work.writes > 200, "{work:?}");
        assert!(work_at_random(&path, 4096, 5, 10, 2).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
