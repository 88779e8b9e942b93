//! Counting the instructions that a function executes: a child process runs it, one step at a time.
//!
//! The numbers are the processor's, not ours: `ptrace` stops the child after each instruction.

/// Instructions from a first stop of the child to its end; `None` where tracing is not allowed.
pub(crate) fn instructions(work: fn()) -> Option<u32> {
    // SAFETY: the child runs `work`, which takes only locks of its own, and async-signal-safe functions.
    let child = unsafe { libc::fork() };
    if child == 0 {
        run_traced(work);
    }
    assert!(child > 0, "fork failed");
    let mut status = wait(child);
    if libc::WIFEXITED(status) {
        return None;
    }
    let mut steps = 0;
    while libc::WIFSTOPPED(status) {
        let signal = libc::WSTOPSIG(status);
        if signal != libc::SIGTRAP && signal != libc::SIGSTOP {
            // A fault would come again at each step.
            // SAFETY: the child is ours.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child got signal {signal} after {steps} steps");
        }
        // SAFETY: the child is ours and stopped.
        let result = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) };
        assert_eq!(result, 0, "single step failed");
        steps += 1;
        status = wait(child);
    }
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "child died: {status:#x}");
    Some(steps)
}

fn run_traced(work: fn()) -> ! {
    // SAFETY: asks to be traced by the parent.
    if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(1) };
    }
    // SAFETY: stops the child until the parent steps it.
    unsafe { libc::raise(libc::SIGSTOP) };
    work();
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(0) };
}

fn wait(child: libc::pid_t) -> libc::c_int {
    let mut status = 0;
    // SAFETY: `status` is ours to write.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "waitpid failed");
    status
}
