//! Reads and writes of a disk, past the page cache, between marks.

#![expect(unsafe_code, reason = "system calls that libc has no functions for")]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Marker;
use crate::probe::disk::Aligned;
use crate::probe::pattern::mix;

/// Bytes up to which requests go to random places, and from which on they follow each other.
const SEQUENTIAL_FROM: usize = 64 << 10;
/// Most bytes of a request.
const MOST_BYTES: usize = 1 << 20;

/// What is done with blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// Read them.
    Read,
    /// Write them.
    Write,
}

/// `operations` reads or writes of `bytes` bytes at places of a device, `depth` of them at a time; the time in units of 100 ns.
/// Small ones go to random places, large ones follow each other.
///
/// # Errors
///
/// The device can't be used, or there are no marks.
pub fn bench(device: &Path, work: Work, depth: u32, operations: u64, bytes: usize) -> Result<u128> {
    if !(512..=MOST_BYTES).contains(&bytes) || !bytes.is_multiple_of(512) {
        bail!("{bytes} is no size of a request; give 512 to {MOST_BYTES}, in whole sectors");
    }
    let marker = Marker::find()?;
    let mut options = OpenOptions::new();
    options.read(true).write(work == Work::Write).custom_flags(libc::O_DIRECT);
    let file = options.open(device).with_context(|| format!("cannot open {}", device.display()))?;
    let places = std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0))? / bytes as u64;
    if places == 0 {
        bail!("{} is too small", device.display());
    }
    let place = |operation: u64| {
        let order = if bytes >= SEQUENTIAL_FROM { operation } else { mix(operation) };
        order % places * bytes as u64
    };
    if depth <= 1 {
        let mut buffer = Aligned::new(bytes);
        let buffer = &mut buffer.0[..bytes];
        return marker.around(|| {
            for operation in 0..operations {
                match work {
                    Work::Read => file.read_exact_at(buffer, place(operation))?,
                    Work::Write => file.write_all_at(buffer, place(operation))?,
                }
            }
            Ok(())
        });
    }
    let mut queue = Queue::new(depth, bytes)?;
    marker.around(|| queue.work(&file, work, operations, place))
}

/// `struct iocb` of `linux/aio_abi.h`, for reads and writes.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    _reserved: u64,
    flags: u32,
    event_fd: u32,
}

const _: () = assert!(size_of::<Request>() == 64);

/// `struct io_event` of `linux/aio_abi.h`.
#[repr(C)]
#[derive(Default, Clone)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Event>() == 32);

const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_PWRITE: u16 = 1;

/// Linux's asynchronous I/O. It lives as long as the process does.
struct Queue {
    context: u64,
    /// Bytes of each request.
    bytes: usize,
    requests: Vec<Request>,
    buffers: Vec<Aligned>,
    events: Vec<Event>,
}

impl Queue {
    fn new(depth: u32, bytes: usize) -> Result<Self> {
        let mut context = 0_u64;
        // SAFETY: the kernel writes the context's number, and nothing else.
        let done = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        if done != 0 {
            bail!("no asynchronous I/O: {}", std::io::Error::last_os_error());
        }
        let count = depth as usize;
        Ok(Self {
            context,
            bytes,
            requests: (0..depth).map(|_| Request::default()).collect(),
            buffers: (0..depth).map(|_| Aligned::new(bytes)).collect(),
            events: vec![Event::default(); count],
        })
    }

    fn work(
        &mut self,
        file: &File,
        work: Work,
        operations: u64,
        place: impl Fn(u64) -> u64,
    ) -> Result<()> {
        let opcode = if work == Work::Read { IOCB_CMD_PREAD } else { IOCB_CMD_PWRITE };
        let mut idle: Vec<usize> = (0..self.requests.len()).collect();
        let (mut begun, mut ended) = (0, 0);
        while ended < operations {
            let count = idle.len().min((operations - begun) as usize);
            let slots: Vec<usize> = idle.drain(..count).collect();
            for &slot in &slots {
                self.requests[slot] = Request {
                    data: slot as u64,
                    opcode,
                    fd: file.as_raw_fd() as u32,
                    buffer: self.buffers[slot].0.as_mut_ptr().addr() as u64,
                    bytes: self.bytes as u64,
                    offset: place(begun) as i64,
                    ..Request::default()
                };
                begun += 1;
            }
            self.submit(&slots)?;
            for event in self.take()? {
                if event.result != self.bytes as i64 {
                    bail!("a request ended with {}", event.result);
                }
                idle.push(event.data as usize);
                ended += 1;
            }
        }
        Ok(())
    }

    fn submit(&mut self, slots: &[usize]) -> Result<()> {
        let mut pointers: Vec<*mut Request> =
            slots.iter().map(|&slot| &raw mut self.requests[slot]).collect();
        while !pointers.is_empty() {
            let count = pointers.len() as libc::c_long;
            // SAFETY: so many requests of ours, whose buffers live as long as this and are nobody else's meanwhile.
            let taken = unsafe {
                libc::syscall(libc::SYS_io_submit, self.context, count, pointers.as_mut_ptr())
            };
            let taken = usize::try_from(taken).ok().filter(|&taken| taken > 0);
            let taken = taken.with_context(|| {
                format!("cannot begin requests: {}", std::io::Error::last_os_error())
            })?;
            pointers.drain(..taken.min(pointers.len()));
        }
        Ok(())
    }

    /// What has ended, one at least.
    fn take(&mut self) -> Result<Vec<Event>> {
        let most = self.events.len() as libc::c_long;
        let no_limit = std::ptr::null::<libc::timespec>();
        // SAFETY: room for `most` events.
        let count = unsafe {
            let events = self.events.as_mut_ptr();
            libc::syscall(libc::SYS_io_getevents, self.context, 1_i64, most, events, no_limit)
        };
        let count = usize::try_from(count)
            .map_err(|_| std::io::Error::last_os_error())
            .context("cannot wait for requests")?;
        Ok(self.events[..count].to_vec())
    }
}
