//! Disk I/O by io_uring: one ring for each queue.
//!
//! A request becomes as many entries as its disk says it has parts, each with pieces of the guest's memory. It is completed when
//! all parts are. One that was cut short, or that the kernel wants to be tried again, is handed back and done by a thread, from
//! the beginning.
#![expect(unsafe_code, reason = "the kernel works on memory by address")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::{Completed, Request};
use crate::storage::disk::{Direction, DiskError, FilePart};
use crate::storage::syscalls::MAX_PIECES;

/// Entries that can be handed to the kernel at once.
const ENTRIES: u32 = 256;
/// Completions that fit; more wait in the kernel.
const COMPLETIONS: u32 = 2048;

/// Whether this kernel has an io_uring with what we need.
///
/// # Errors
/// It has not, or this process may not use it.
pub fn probe() -> io::Result<()> {
    let ring = IoUring::new(4)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let supported =
        [opcode::Readv::CODE, opcode::Writev::CODE].iter().all(|&code| probe.is_supported(code));
    // Completions that don't fit must not be lost (Linux 5.5).
    if supported && ring.params().is_feature_nodrop() {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }
}

/// A ring and the requests in it.
pub struct Ring {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    used: usize,
}

/// A request in the ring. The kernel may use its memory until all parts have ended.
struct Slot {
    request: Request,
    _pieces: Vec<Vec<libc::iovec>>,
    lengths: Vec<u64>,
    parts_left: usize,
    result: Result<(), Ended>,
}

/// Why a part did not succeed.
enum Ended {
    Failed(DiskError),
    TryAgain,
}

// SAFETY: the pointers in the slots are those of the requests' buffers, which may be sent.
unsafe impl Send for Ring {}

impl Ring {
    /// A ring that signals `event` when something is completed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(event: &impl AsFd) -> io::Result<Self> {
        let ring = IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES)?;
        ring.submitter().register_eventfd(event.as_fd().as_raw_fd())?;
        Ok(Self { ring, slots: Vec::new(), free: Vec::new(), used: 0 })
    }

    /// Takes a request, unless a ring can't do it.
    ///
    /// # Errors
    /// The request, for others.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        let Some((direction, range)) = request.op.transfer() else { return Err(request) };
        let outside = range
            .offset
            .checked_add(range.length)
            .is_none_or(|end| end > request.disk.info().bytes);
        if outside || range.length == 0 || range.length > request.buffer.len() {
            return Err(request);
        }
        let Some(parts) = request.disk.lower(direction, range) else { return Err(request) };
        let pieces: Vec<_> = parts
            .iter()
            .map(|part| request.buffer.pieces(part.buffer_offset, part.length))
            .collect();
        let fits = |list: &Vec<libc::iovec>| !list.is_empty() && list.len() <= MAX_PIECES;
        if parts.is_empty() || !pieces.iter().all(fits) {
            return Err(request);
        }
        self.push(request, direction, &parts, pieces);
        Ok(())
    }

    fn push(
        &mut self,
        request: Request,
        direction: Direction,
        parts: &[FilePart],
        pieces: Vec<Vec<libc::iovec>>,
    ) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let entries: Vec<_> = parts
            .iter()
            .zip(&pieces)
            .enumerate()
            .map(|(number, (part, pieces))| {
                entry(direction, part, pieces).user_data((index as u64) << 16 | number as u64)
            })
            .collect();
        let lengths = parts.iter().map(|part| part.length).collect();
        let slot =
            Slot { request, _pieces: pieces, lengths, parts_left: parts.len(), result: Ok(()) };
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
            self.used += 1;
        }
        for entry in &entries {
            self.push_entry(entry);
        }
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: file and pieces stay until the part has ended: the slot keeps disk, buffer and pieces.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.start();
        }
    }

    /// Hands what was submitted to the kernel.
    pub fn start(&mut self) {
        if self.ring.submission().is_empty() {
            return;
        }
        // What the kernel does not take now (no memory, too many completions) stays, and goes next time.
        if self.ring.submit().is_err() {
            std::thread::yield_now();
        }
    }

    /// Appends the requests that have ended; gives those that somebody else must do.
    pub fn completions(&mut self, completed: &mut Vec<Completed>) -> Vec<Request> {
        self.start();
        let mut again = Vec::new();
        loop {
            let entry = self.ring.completion().next();
            let Some(entry) = entry else { break };
            if let Some(slot) = self.part_ended(&entry) {
                let result = match slot.result {
                    Ok(()) => Ok(()),
                    Err(Ended::Failed(error)) => Err(error),
                    Err(Ended::TryAgain) => {
                        again.push(slot.request);
                        continue;
                    }
                };
                let Request { tag, op, .. } = slot.request;
                completed.push(Completed { tag, op, result });
            }
        }
        again
    }

    /// Notes how a part ended; gives its request with the last one.
    fn part_ended(&mut self, entry: &cqueue::Entry) -> Option<Slot> {
        let index = (entry.user_data() >> 16) as usize;
        let place = self.slots.get_mut(index)?;
        let slot = place.as_mut()?;
        let length = slot.lengths.get((entry.user_data() & 0xFFFF) as usize).copied().unwrap_or(0);
        let ended = ended(entry.result(), length);
        if slot.result.is_ok() || matches!(ended, Err(Ended::Failed(_))) {
            slot.result = ended;
        }
        slot.parts_left = slot.parts_left.saturating_sub(1);
        if slot.parts_left > 0 {
            return None;
        }
        self.free.push(index);
        self.used -= 1;
        place.take()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.used > 0 {
            // The kernel may still use their memory.
            std::mem::forget(std::mem::take(&mut self.slots));
        }
    }
}

fn entry(direction: Direction, part: &FilePart, pieces: &[libc::iovec]) -> squeue::Entry {
    let (fd, count) = (Fd(part.fd), pieces.len() as u32);
    match direction {
        Direction::Read => {
            opcode::Readv::new(fd, pieces.as_ptr(), count).offset(part.file_offset).build()
        }
        Direction::Write => {
            opcode::Writev::new(fd, pieces.as_ptr(), count).offset(part.file_offset).build()
        }
    }
}

fn ended(result: i32, length: u64) -> Result<(), Ended> {
    match result {
        moved if moved >= 0 && i64::from(moved).cast_unsigned() == length => Ok(()),
        error if error < 0 => match -error {
            libc::EAGAIN | libc::EINTR | libc::ECANCELED | libc::EOPNOTSUPP => Err(Ended::TryAgain),
            number => Err(Ended::Failed(io::Error::from_raw_os_error(number).into())),
        },
        _ => Err(Ended::TryAgain),
    }
}
