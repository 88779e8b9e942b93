//! Brings a VP thread back from the guest, without ever losing a kick.
//!
//! A signal that arrives just before `KVM_RUN` would interrupt nothing. So its handler also sets
//! `immediate_exit` in the VP's `kvm_run` page, and the thread clears that *before* it looks at what
//! others want of it: whatever is asked for later finds `immediate_exit` set, or the guest running.
#![expect(unsafe_code, reason = "signals, and a byte of the kvm_run page")]

use std::cell::Cell;
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    /// `immediate_exit` of the VP that this thread runs.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

/// The signal that interrupts `KVM_RUN`.
pub fn signal_number() -> i32 {
    SIGRTMIN()
}

/// Takes the signal for this process.
///
/// # Errors
/// The operating system refuses.
pub fn install_handler() -> io::Result<()> {
    extern "C" fn leave_guest(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        let immediate_exit = IMMEDIATE_EXIT.get();
        if !immediate_exit.is_null() {
            // SAFETY: set by `VpKicks::enter` on this very thread, which clears it again before it
            // gives up the VP and with it the page.
            unsafe { immediate_exit.write_volatile(1) };
        }
    }
    register_signal_handler(signal_number(), leave_guest).map_err(io::Error::from)
}

/// The threads of a machine's VPs, to be kicked by VP number.
#[derive(Debug)]
pub struct VpKicks(Box<[AtomicI32]>);

impl VpKicks {
    /// For so many VPs, none of which has a thread yet.
    pub fn new(vps: u32) -> Self {
        Self((0..vps).map(|_| AtomicI32::new(0)).collect())
    }

    /// Makes the calling thread the one of VP `vp`, until the guard goes.
    pub fn enter<'a>(&'a self, vp: u32, vcpu: &mut VcpuFd) -> KickGuard<'a> {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        let slot = self.0.get(vp as usize);
        if let Some(slot) = slot {
            slot.store(thread_id(), Ordering::Release);
        }
        KickGuard(slot)
    }

    /// Brings VP `vp` back from the guest, or keeps it from entering. Without a thread of its own it
    /// will look around by itself when it starts.
    pub fn kick(&self, vp: u32) {
        let thread = self.0.get(vp as usize).map_or(0, |slot| slot.load(Ordering::Acquire));
        let process = std::process::id().cast_signed();
        if thread != 0 {
            // SAFETY: sends a signal whose handler we installed to a thread of this process; no
            // memory is involved. A thread that has just ended is an error that doesn't matter.
            unsafe {
                libc::syscall(libc::SYS_tgkill, process, thread, signal_number());
            }
        }
    }

    /// How long VP `vp`'s thread has run on a processor, in the guest and out of it.
    pub fn run_time(&self, vp: u32) -> Option<Duration> {
        let thread = self.0.get(vp as usize)?.load(Ordering::Acquire);
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one structure.
        let result = unsafe { libc::clock_gettime(run_time_clock(thread), &raw mut time) };
        if thread == 0 || result != 0 {
            return None;
        }
        let seconds = u64::try_from(time.tv_sec).ok()?;
        Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?))
    }
}

/// The clock of a thread's run time (clock_getres(2); Linux, `include/linux/posix-timers.h`, a clock of one
/// thread that counts as the scheduler does).
fn run_time_clock(thread: i32) -> libc::clockid_t {
    const THREAD: i32 = 1 << 2;
    const SCHEDULER: i32 = 2;
    !thread << 3 | THREAD | SCHEDULER
}

/// The calling thread is a VP's.
pub struct KickGuard<'a>(Option<&'a AtomicI32>);

impl Drop for KickGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(0, Ordering::Release);
        }
        IMMEDIATE_EXIT.set(null_mut());
    }
}

/// The calling thread's number in the operating system.
pub fn thread_id() -> i32 {
    // SAFETY: asks for a number; no memory is involved.
    unsafe { libc::gettid() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    #[test]
    fn the_run_time_of_a_thread_grows_while_it_runs() {
        let kicks = VpKicks::new(2);
        assert_eq!(kicks.run_time(0), None);
        kicks.0[1].store(thread_id(), Ordering::Release);
        let before = kicks.run_time(1).unwrap();
        while kicks.run_time(1).unwrap() < before + Duration::from_millis(2) {}
        assert_eq!(kicks.run_time(2), None);
    }

    #[test]
    fn a_kick_sets_immediate_exit_in_the_thread_it_is_meant_for() {
        install_handler().unwrap();
        let kicks = Arc::new(VpKicks::new(2));
        let (ready, is_ready) = channel();
        let thread = {
            let kicks = kicks.clone();
            std::thread::spawn(move || {
                let byte = Box::into_raw(Box::new(0_u8));
                IMMEDIATE_EXIT.set(byte);
                kicks.0[1].store(thread_id(), Ordering::Release);
                ready.send(()).unwrap();
                // SAFETY: the byte lives until the end of this closure.
                while unsafe { byte.read_volatile() } == 0 {
                    std::thread::yield_now();
                }
                IMMEDIATE_EXIT.set(null_mut());
                // SAFETY: made from a box above, and nobody has the address any more.
                drop(unsafe { Box::from_raw(byte) });
            })
        };
        is_ready.recv().unwrap();
        kicks.kick(0);
        kicks.kick(7);
        kicks.kick(1);
        thread.join().unwrap();
    }
}
