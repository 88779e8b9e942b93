//! The terminal in a mode in which a guest's console works: keys arrive one by one and are not echoed.
//!
//! Signals from the keyboard stay on, so Ctrl-C ends the host. Whatever happens (an end, a panic, a
//! stop by Ctrl-Z), the terminal goes back to what it was.
#![expect(unsafe_code, reason = "terminal settings")]

use std::io;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::Once;

use crate::stats::lock;

/// The settings to go back to, while they are changed.
static ORIGINAL: Mutex<Option<(RawFd, libc::termios)>> = Mutex::new(None);
static RESTORE_ON_PANIC: Once = Once::new();

/// Changes the terminal until it is dropped.
#[derive(Debug)]
pub struct RawTerminal {
    fd: RawFd,
}

impl RawTerminal {
    /// Changes the terminal behind a descriptor. `None` if it is not a terminal, or one whose
    /// foreground belongs to another job: touching that would stop this process.
    pub fn enter(fd: RawFd) -> Option<Self> {
        if !in_foreground(fd) {
            return None;
        }
        RESTORE_ON_PANIC.call_once(|| {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                print(info);
            }));
        });
        let terminal = Self { fd };
        terminal.resume().ok()?;
        Some(terminal)
    }

    /// Changes the terminal again after [`RawTerminal::suspend`].
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resume(&self) -> io::Result<()> {
        let mut original = lock(&ORIGINAL);
        if original.is_some() {
            return Ok(());
        }
        let settings = get(self.fd)?;
        let mut raw = settings;
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::IEXTEN);
        // Enter sends what a serial terminal sends.
        raw.c_iflag &= !(libc::ICRNL | libc::IXON);
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        set(self.fd, &raw)?;
        *original = Some((self.fd, settings));
        Ok(())
    }

    /// Puts the settings back for a while.
    pub fn suspend(&self) {
        restore();
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the settings back, if they are changed.
pub fn restore() {
    if let Some((fd, settings)) = lock(&ORIGINAL).take() {
        // A terminal that is gone needs no settings.
        let _ = set(fd, &settings);
    }
}

fn in_foreground(fd: RawFd) -> bool {
    // SAFETY: a query that takes any descriptor.
    let foreground = unsafe { libc::tcgetpgrp(fd) };
    // SAFETY: a query without arguments.
    foreground >= 0 && foreground == unsafe { libc::getpgrp() }
}

fn get(fd: RawFd) -> io::Result<libc::termios> {
    // SAFETY: plain data for which zeros are valid.
    let mut settings = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes one `termios`.
    match unsafe { libc::tcgetattr(fd, &raw mut settings) } {
        0 => Ok(settings),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(fd: RawFd, settings: &libc::termios) -> io::Result<()> {
    // SAFETY: the call reads one `termios`.
    match unsafe { libc::tcsetattr(fd, libc::TCSANOW, settings) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_not_a_terminal_is_left_alone() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(RawTerminal::enter(null.as_raw_fd()).is_none());
    }
}
