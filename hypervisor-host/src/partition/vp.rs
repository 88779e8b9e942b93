//! VP threads: started with a small stack on one processor each, stopped by signals.
#![expect(unsafe_code, reason = "processor affinity and signals")]

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::Killable;

use super::kick;
use super::run_loop::VpRunner;
use super::shared::Shared;
use crate::outcome::Outcome;

/// A VP thread calls into KVM, prints at most a register dump, and that's it.
const STACK_BYTES: usize = 256 << 10;
/// How long threads get to come back from the guest.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Running VP threads.
pub struct VpThreads(Vec<JoinHandle<()>>);

impl VpThreads {
    /// Starts a thread for each VP; the VP's processor stands beside it.
    ///
    /// # Errors
    /// The operating system gives no thread. Those that ran already have stopped then.
    pub fn start(vps: Vec<(VcpuFd, Option<usize>)>, shared: &Arc<Shared>) -> io::Result<Self> {
        kick::install_handler()?;
        let mut threads = Self(Vec::with_capacity(vps.len()));
        for (index, (vcpu, cpu)) in (0..).zip(vps) {
            match spawn(index, vcpu, cpu, shared.clone()) {
                Ok(thread) => threads.0.push(thread),
                Err(error) => {
                    shared.ending.set(Outcome::interrupted());
                    threads.stop();
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }

    /// Waits for all threads to see that the machine has ended, and wakes those that are in the guest.
    /// Gives `false` if a thread did not come back, say because the terminal does not take its output.
    pub fn stop(self) -> bool {
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut pause = Duration::from_micros(100);
        // One that comes before the thread is ready for it has no effect: repeat it.
        while self.0.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() > deadline {
                return false;
            }
            for thread in self.0.iter().filter(|thread| !thread.is_finished()) {
                // Fails only for a thread that has just ended.
                let _ = thread.kill(kick::signal_number());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.0.into_iter().all(|thread| thread.join().is_ok())
    }
}

fn spawn(
    index: u32,
    vcpu: VcpuFd,
    cpu: Option<usize>,
    shared: Arc<Shared>,
) -> io::Result<JoinHandle<()>> {
    let thread = Builder::new().name(format!("vp{index}")).stack_size(STACK_BYTES);
    thread.spawn(move || {
        if let Some(cpu) = cpu {
            // The list was checked against the process's own; if the processor went away since, the VP
            // runs elsewhere.
            let _ = pin_to(cpu);
        }
        shared.instructions.count_this_thread(index);
        if let Some(mut runner) = VpRunner::new(index, vcpu, &shared) {
            runner.run();
        }
    })
}

/// Processors that this process may use, in order.
///
/// # Errors
/// The operating system does not tell.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: the kernel writes at most the given size into a set of that size.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every index asked for is below the size of the set.
    let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(is_set).collect())
}

/// Lets the calling thread run on one processor only.
///
/// # Errors
/// There is no such processor, or this process may not use it.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = empty_set();
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the index is below the size of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads a set of the given size.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: a set of bits; all zeros is the empty set.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_its_processor_only() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin_to(cpu).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_processor_that_no_machine_has_is_refused() {
        assert!(pin_to(1023).is_err());
        assert!(pin_to(usize::MAX).is_err());
    }
}
