//! Work whose costs the host counts: the guest puts marks around it by our host's port.
//!
//! As good as Linux can do it: many reads at a time by the kernel's asynchronous I/O, many packets with one call.

#![expect(unsafe_code, reason = "an I/O port; system calls that libc has no functions for")]

use std::arch::asm;
use std::arch::x86_64::__cpuid;
use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hv_abi::host::{
    ENL_CPUID_BASE, ENL_CPUID_FEATURES, ENL_PORT_COUNT, ENL_PORT_MARK, ENL_SIGNATURE, HostFeatures,
    Mark,
};

use super::disk::{Aligned, BLOCK};
use super::pattern::mix;

/// Bytes of a packet's payload, with which it has 1,500 bytes in all.
const PAYLOAD: usize = 1472;
/// Packets of one call.
const PACKETS_AT_ONCE: usize = 64;

/// Says that this moment is a mark.
pub struct Marker {
    port: u16,
}

impl Marker {
    /// # Errors
    ///
    /// This is not a guest of our host, or may not use I/O ports.
    pub fn find() -> Result<Self> {
        let leaf = __cpuid(ENL_CPUID_BASE);
        let signature = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
        if signature.as_flattened() != ENL_SIGNATURE {
            bail!("this is not a guest of our host");
        }
        let features = __cpuid(ENL_CPUID_FEATURES);
        if !HostFeatures::from_bits_truncate(features.eax).contains(HostFeatures::MARK) {
            bail!("the host takes no marks");
        }
        let base = u16::try_from(features.ebx).context("the host's ports")?;
        // SAFETY: changes nothing but which ports this thread may use.
        let denied = unsafe { libc::ioperm(base.into(), ENL_PORT_COUNT.into(), 1) };
        if denied != 0 {
            bail!("no use of I/O ports: {}", std::io::Error::last_os_error());
        }
        Ok(Self { port: base + ENL_PORT_MARK })
    }

    /// Puts marks around `body`; the time that it took in units of 100 ns.
    ///
    /// # Errors
    ///
    /// Those of `body`.
    pub fn around(&self, body: impl FnOnce() -> Result<()>) -> Result<u128> {
        self.mark(Mark::MEASURE_BEGIN);
        let begun = Instant::now();
        body()?;
        let elapsed = begun.elapsed();
        self.mark(Mark::MEASURE_END);
        Ok(elapsed.as_nanos() / 100)
    }

    fn mark(&self, mark: Mark) {
        // SAFETY: `find` made sure that the port is our host's; it takes a snapshot of its counters and changes nothing here.
        unsafe {
            asm!("out dx, eax", in("dx") self.port, in("eax") mark.0, options(nomem, nostack, preserves_flags));
        }
    }
}

/// What is done with blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// Read them.
    Read,
    /// Write them.
    Write,
}

/// `operations` reads or writes of blocks at random places of a device, `depth` of them at a time; the time in units of 100 ns.
///
/// # Errors
///
/// The device can't be used, or there are no marks.
pub fn blocks(device: &Path, work: Work, depth: u32, operations: u64) -> Result<u128> {
    let marker = Marker::find()?;
    let mut options = OpenOptions::new();
    options.read(true).write(work == Work::Write).custom_flags(libc::O_DIRECT);
    let file = options.open(device).with_context(|| format!("cannot open {}", device.display()))?;
    let places = std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0))? / BLOCK as u64;
    if places == 0 {
        bail!("{} has no blocks", device.display());
    }
    let place = |operation: u64| mix(operation) % places * BLOCK as u64;
    if depth <= 1 {
        let mut buffer = Aligned::new(BLOCK);
        return marker.around(|| {
            for operation in 0..operations {
                match work {
                    Work::Read => file.read_exact_at(&mut buffer.0, place(operation))?,
                    Work::Write => file.write_all_at(&buffer.0, place(operation))?,
                }
            }
            Ok(())
        });
    }
    let mut queue = Queue::new(depth)?;
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
    requests: Vec<Request>,
    buffers: Vec<Aligned>,
    events: Vec<Event>,
}

impl Queue {
    fn new(depth: u32) -> Result<Self> {
        let mut context = 0_u64;
        // SAFETY: the kernel writes the context's number, and nothing else.
        let done = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        if done != 0 {
            bail!("no asynchronous I/O: {}", std::io::Error::last_os_error());
        }
        let count = depth as usize;
        Ok(Self {
            context,
            requests: (0..depth).map(|_| Request::default()).collect(),
            buffers: (0..depth).map(|_| Aligned::new(BLOCK)).collect(),
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
                    bytes: BLOCK as u64,
                    offset: place(begun) as i64,
                    ..Request::default()
                };
                begun += 1;
            }
            self.submit(&slots)?;
            for event in self.take()? {
                if event.result != BLOCK as i64 {
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

/// `packets` packets of 1,500 bytes to `address`, as fast as they go; the time in units of 100 ns.
///
/// # Errors
///
/// There is no way to the address, or there are no marks.
pub fn packets(address: &str, packets: u64) -> Result<u128> {
    let marker = Marker::find()?;
    let socket = UdpSocket::bind("0.0.0.0:0").context("no socket")?;
    socket.connect(address).with_context(|| format!("no way to {address}"))?;
    send(&socket, 64)?;
    marker.around(|| send(&socket, packets))
}

fn send(socket: &UdpSocket, packets: u64) -> Result<()> {
    let payload = [0x55_u8; PAYLOAD];
    let mut piece = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: PAYLOAD };
    // SAFETY: all zero is an empty message.
    let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
    let mut messages = [empty; PACKETS_AT_ONCE];
    for message in &mut messages {
        message.msg_hdr.msg_iov = &raw mut piece;
        message.msg_hdr.msg_iovlen = 1;
    }
    let mut left = packets;
    while left > 0 {
        let count = left.min(PACKETS_AT_ONCE as u64) as u32;
        // SAFETY: so many messages, all of one piece, which is only read.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        let sent = u64::try_from(sent).ok().filter(|&sent| sent > 0);
        left -= sent
            .with_context(|| format!("cannot send: {}", std::io::Error::last_os_error()))?
            .min(left);
    }
    Ok(())
}
