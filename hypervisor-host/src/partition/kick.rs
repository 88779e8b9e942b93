//! Brings a VP thread back from the guest, without ever losing a kick.
//!
//! A signal that arrives just before `KVM_RUN` would interrupt nothing. So its handler also sets
//! `immediate_exit` in the VP's `kvm_run` page, and the thread clears that *before* it looks at what
//! others want of it: whatever is asked for later finds `immediate_exit` set, or the guest running.
//!
//! One signal is enough until the thread looks around. More would be queued, and a guest that asks for many while
//! the thread has no processor would use up what all machines of a user may queue (`RLIMIT_SIGPENDING`).
#![expect(unsafe_code, reason = "signals, and a byte of the kvm_run page")]

use std::cell::Cell;
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
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
pub struct VpKicks(Box<[Slot]>);

#[derive(Debug, Default)]
struct Slot {
    /// Its number in the operating system, or 0.
    thread: AtomicI32,
    /// It was kicked, and has not looked around since.
    kicked: AtomicBool,
}

impl VpKicks {
    /// For so many VPs, none of which has a thread yet.
    pub fn new(vps: u32) -> Self {
        Self((0..vps).map(|_| Slot::default()).collect())
    }

    /// Makes the calling thread the one of VP `vp`, until the guard goes.
    pub fn enter<'a>(&'a self, vp: u32, vcpu: &mut VcpuFd) -> KickGuard<'a> {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        let slot = self.0.get(vp as usize);
        if let Some(slot) = slot {
            slot.thread.store(thread_id(), Ordering::Release);
        }
        KickGuard(slot)
    }

    /// Brings VP `vp` back from the guest, or keeps it from entering. Without a thread of its own it
    /// will look around by itself when it starts.
    pub fn kick(&self, vp: u32) {
        let Some(slot) = self.0.get(vp as usize) else { return };
        let thread = slot.thread.load(Ordering::Acquire);
        // If it was kicked already, it will see what this kick is for, too: it looks after it has set this back.
        if thread == 0 || slot.kicked.swap(true, Ordering::AcqRel) {
            return;
        }
        let process = std::process::id().cast_signed();
        // SAFETY: sends a signal whose handler we installed to a thread of this process; no
        // memory is involved. A thread that has just ended is an error that doesn't matter.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal_number()) };
        if result != 0 {
            slot.kicked.store(false, Ordering::Release);
        }
    }

    /// How long VP `vp`'s thread has run on a processor, in the guest and out of it.
    pub fn run_time(&self, vp: u32) -> Option<Duration> {
        let thread = self.0.get(vp as usize)?.thread.load(Ordering::Acquire);
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
pub struct KickGuard<'a>(Option<&'a Slot>);

impl KickGuard<'_> {
    /// Before the thread looks at what others want of it: from now on a kick is for the next time.
    pub fn looks(&self) {
        if let Some(slot) = self.0 {
            slot.kicked.swap(false, Ordering::AcqRel);
        }
    }
}

impl Drop for KickGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.thread.store(0, Ordering::Release);
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
        kicks.0[1].thread.store(thread_id(), Ordering::Release);
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
                kicks.0[1].thread.store(thread_id(), Ordering::Release);
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

    /// The signals that wait for the calling thread, which has them blocked.
    fn queued() -> usize {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a set of bits; all zeros is the empty set.
        let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: changes the set given, with a signal that there is.
        unsafe { libc::sigaddset(&raw mut signals, signal_number()) };
        // SAFETY: reads the set given; the old one is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, null_mut()) };
        // SAFETY: reads the set and the time given; what the signal tells is not asked for.
        let wait = || unsafe { libc::sigtimedwait(&raw const signals, null_mut(), &raw const now) };
        std::iter::repeat_with(wait).take_while(|&signal| signal == signal_number()).count()
    }

    #[test]
    fn one_signal_is_queued_until_the_thread_looks_around() {
        install_handler().unwrap();
        std::thread::spawn(|| {
            assert_eq!(queued(), 0);
            let kicks = VpKicks::new(1);
            kicks.0[0].thread.store(thread_id(), Ordering::Release);
            let guard = KickGuard(kicks.0.first());
            for _ in 0..2 {
                (0..1000).for_each(|_| kicks.kick(0));
                assert_eq!(queued(), 1);
                guard.looks();
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_kick_that_finds_no_thread_does_not_count() {
        install_handler().unwrap();
        let kicks = VpKicks::new(1);
        kicks.kick(0);
        // No thread has so large a number.
        kicks.0[0].thread.store(i32::MAX, Ordering::Release);
        kicks.kick(0);
        assert!(!kicks.0[0].kicked.load(Ordering::Acquire));
    }
}
