//! A timer that kicks one VP's thread again and again, so that it looks around although KVM has no reason to
//! return.
#![expect(unsafe_code, reason = "POSIX timers")]

use std::io;
use std::ptr::null_mut;
use std::time::Duration;

use super::kick::{signal_number, thread_id};

/// A timer of the thread that made it.
#[derive(Debug)]
pub struct Alarm(libc::timer_t);

impl Alarm {
    /// A timer that kicks the calling thread.
    ///
    /// # Errors
    /// The operating system has no timer left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a structure of numbers and a pointer, for which zeros are valid.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal_number();
        event.sigev_notify_thread_id = thread_id();
        let mut timer = null_mut();
        // SAFETY: the call reads one structure and writes one number.
        match unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } {
            0 => Ok(Self(timer)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Kicks after `interval`, and whenever it has passed again; zero stops. A kick that comes between two
    /// looks is not lost, but repeated.
    pub fn every(&self, interval: Duration) {
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(interval.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: interval.subsec_nanos().into(),
        };
        let times = libc::itimerspec { it_interval: value, it_value: value };
        // SAFETY: the timer is ours; the call reads one structure.
        unsafe { libc::timer_settime(self.0, 0, &raw const times, null_mut()) };
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, and nobody has its number any more.
        unsafe { libc::timer_delete(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::kick::install_handler;

    #[test]
    fn an_alarm_interrupts_its_own_thread_again_and_again() {
        install_handler().unwrap();
        std::thread::spawn(|| {
            let alarm = Alarm::new().unwrap();
            alarm.every(Duration::from_micros(500));
            for _ in 0..3 {
                // SAFETY: waits for no descriptor; only a signal ends it before the long time is up.
                let result = unsafe { libc::poll(null_mut(), 0, 600_000) };
                assert_eq!(result, -1);
            }
        })
        .join()
        .unwrap();
    }
}
