//! Instructions that VPs retire in guest mode, as the processor counts them.
//!
//! *Theory.* A counter of `PERF_COUNT_HW_INSTRUCTIONS` with `exclude_host` counts while its thread is in a guest, and nothing else
//! of it (perf_event_open(2)). *Practice.* Each VP's thread opens one for itself before it enters the guest. It is *pinned*: it counts all
//! the time or fails, so that a number is never an estimate. Where a machine has no such counter, or does not let this process have
//! it, there is a reason instead of a number.
#![expect(unsafe_code, reason = "the bindings are the bare system call")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::sync::OnceLock;

use perf_event_open_sys::bindings::{
    PERF_COUNT_HW_INSTRUCTIONS, PERF_FLAG_FD_CLOEXEC, PERF_TYPE_HARDWARE, perf_event_attr,
};

/// Said of VPs that never ran.
const NEVER_RAN: &str = "a VP never ran";
/// A pinned counter that the processor has no room for reads as nothing.
const LOST: &str = "something else has taken the processor's counters";

/// The counters of a machine's VPs.
#[derive(Debug, Default)]
pub struct GuestInstructions {
    vps: Box<[OnceLock<Result<File, String>>]>,
}

impl GuestInstructions {
    /// For so many VPs, none of which is counted yet.
    pub fn new(vps: u32) -> Self {
        Self { vps: (0..vps).map(|_| OnceLock::new()).collect() }
    }

    /// Counts what the calling thread does in guest mode from now on as a VP's; only the first thread of a VP is.
    pub fn count_this_thread(&self, vp: u32) {
        if let Some(counter) = self.vps.get(vp as usize) {
            counter.get_or_init(|| open().map_err(|error| reason(&error)));
        }
    }

    /// What a VP has retired so far.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn of(&self, vp: u32) -> Result<u64, String> {
        match self.vps.get(vp as usize).and_then(OnceLock::get) {
            None => Err(NEVER_RAN.into()),
            Some(Err(reason)) => Err(reason.clone()),
            Some(Ok(file)) => read(file),
        }
    }

    /// What all VPs have retired so far.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn all(&self) -> Result<u64, String> {
        (0..).zip(&self.vps).map(|(vp, _)| self.of(vp)).sum()
    }
}

fn open() -> io::Result<File> {
    let mut wanted = perf_event_attr {
        type_: PERF_TYPE_HARDWARE,
        size: size_of::<perf_event_attr>() as u32,
        config: PERF_COUNT_HW_INSTRUCTIONS.into(),
        ..Default::default()
    };
    wanted.set_exclude_host(1);
    wanted.set_pinned(1);
    let (this_thread, any_processor, no_group) = (0, -1, -1);
    let flags = PERF_FLAG_FD_CLOEXEC.into();
    // SAFETY: the kernel reads, and for an error writes, a structure of the size that it names.
    let fd = unsafe {
        perf_event_open_sys::perf_event_open(
            &raw mut wanted,
            this_thread,
            any_processor,
            no_group,
            flags,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Without a read format, a counter reads as its value alone.
fn read(mut counter: impl Read) -> Result<u64, String> {
    let mut bytes = [0; 8];
    match counter.read_exact(&mut bytes) {
        Ok(()) => Ok(u64::from_ne_bytes(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(LOST.into()),
        Err(error) => Err(format!("the counter can't be read: {error}")),
    }
}

/// Why there is no counter (perf_event_open(2), ERRORS).
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "this process may not count what guests do: it takes CAP_PERFMON, or kernel.perf_event_paranoid at 1 or less".into()
        }
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV | libc::ENOSYS) => {
            "this machine has no counter of a guest's instructions".into()
        }
        _ => format!("perf_event_open: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vp_is_counted_or_it_is_said_why_not() {
        let counters = GuestInstructions::new(2);
        assert_eq!(counters.of(0), Err(NEVER_RAN.into()));
        counters.count_this_thread(0);
        match counters.of(0) {
            // This thread is no guest.
            Ok(count) => assert_eq!(count, 0),
            Err(reason) => assert!(!reason.is_empty() && reason != NEVER_RAN, "{reason}"),
        }
        assert!(counters.all().is_err(), "one of two VPs");
        counters.count_this_thread(7);
        assert_eq!(counters.of(7), Err(NEVER_RAN.into()));
    }

    #[test]
    fn a_counter_is_eight_bytes_and_one_that_was_lost_none() {
        assert_eq!(read(&4711_u64.to_ne_bytes()[..]), Ok(4711));
        assert_eq!(read(&[][..]), Err(LOST.into()));
        assert_eq!(read(&[1; 7][..]), Err(LOST.into()));
    }

    #[test]
    fn reasons_say_what_to_do_where_something_can_be_done() {
        let of = |number| reason(&io::Error::from_raw_os_error(number));
        assert!(of(libc::EACCES).contains("perf_event_paranoid"));
        assert_eq!(of(libc::ENOENT), of(libc::EOPNOTSUPP));
        assert!(of(libc::EMFILE).starts_with("perf_event_open: "));
    }
}
