//! Signals as a descriptor to poll, so that they are handled in one place and in no handler.
#![expect(unsafe_code, reason = "signal masks and signalfd")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// A signal that concerns a running machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Somebody wants an end: SIGINT, SIGTERM, SIGHUP, SIGQUIT.
    End,
    /// Ctrl-Z.
    Stop,
    /// Go on after a stop.
    Continue,
}

const HANDLED: [(i32, Signal); 6] = [
    (libc::SIGINT, Signal::End),
    (libc::SIGTERM, Signal::End),
    (libc::SIGHUP, Signal::End),
    (libc::SIGQUIT, Signal::End),
    (libc::SIGTSTP, Signal::Stop),
    (libc::SIGCONT, Signal::Continue),
];

/// Signals that wait to be read.
#[derive(Debug)]
pub struct Signals {
    file: File,
    mask: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in this thread, and in all threads that it starts from now on.
    ///
    /// # Errors
    /// The operating system has no descriptor left.
    pub fn take() -> io::Result<Self> {
        let mask = mask();
        change_mask(libc::SIG_BLOCK, &mask)?;
        // SAFETY: a new descriptor for a valid set of signals.
        let fd = unsafe { libc::signalfd(-1, &mask, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            change_mask(libc::SIG_UNBLOCK, &mask)?;
            return Err(error);
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(Self { file, mask })
    }

    /// The next signal, if one waits.
    pub fn read(&mut self) -> Option<Signal> {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        self.file.read_exact(&mut record).ok()?;
        // `ssi_signo` is the first field (signalfd(2)).
        let number = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        HANDLED.iter().find(|(known, _)| *known == number).map(|(_, signal)| *signal)
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What arrived meanwhile is for the machine that has ended: read it away.
        while self.read().is_some() {}
        let _ = change_mask(libc::SIG_UNBLOCK, &self.mask);
    }
}

/// Stops this process, as the default action of SIGTSTP does; comes back when it is continued.
pub fn stop_process() {
    // SAFETY: sends a signal to this process; no memory is involved.
    unsafe { libc::raise(libc::SIGSTOP) };
}

fn mask() -> libc::sigset_t {
    // SAFETY: a set of bits, for which zeros are valid.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one set.
    unsafe { libc::sigemptyset(&raw mut set) };
    for (signal, _) in HANDLED {
        // SAFETY: the set is initialized, and the signal exists.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn change_mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the call reads one set and writes nothing.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_to_this_thread_is_read_instead_of_taken() {
        let mut signals = Signals::take().unwrap();
        assert_eq!(signals.read(), None);
        // SAFETY: a blocked signal to the calling thread.
        unsafe { libc::raise(libc::SIGTERM) };
        assert_eq!(signals.read(), Some(Signal::End));
        assert_eq!(signals.read(), None);
    }
}
