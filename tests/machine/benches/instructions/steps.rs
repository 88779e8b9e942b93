//! Counting what the first thread of a child process executes between marks, one step at a time.
#![expect(unsafe_code, reason = "forks and traces a child")]

use std::ffi::{c_int, c_long, c_void};

/// What a child stops itself with.
const SIGNAL: c_int = libc::SIGUSR1;

/// Where counting begins or ends, in turn.
pub(crate) struct Mark;

impl Mark {
    /// Stops this process until the one that traces it lets it go on.
    pub(crate) fn set() {
        // SAFETY: the process is traced, and the signal is never delivered.
        unsafe { libc::raise(SIGNAL) };
    }
}

/// Instructions between each pair of marks.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<u64>);

impl Steps {
    /// Runs `work` in a child. Calls of the functions that begin at `left_out` count as one instruction. `None` where tracing is not allowed.
    ///
    /// This process must have no other thread.
    pub(crate) fn of(work: impl FnOnce(), left_out: &[usize]) -> Option<Self> {
        // SAFETY: there is no other thread whose locks the child could miss.
        let child = unsafe { libc::fork() };
        if child == 0 {
            run(work);
        }
        assert!(child > 0, "fork failed");
        let mut tracer = Tracer { child, left_out, away: None, last: 0 };
        tracer.follow()
    }

    /// All of them, without what the marks take themselves: the first pair has nothing between.
    pub(crate) fn total(&self) -> u64 {
        let Self(sections) = self;
        let marks = sections.first().copied().unwrap_or(0);
        sections.iter().map(|section| section.saturating_sub(marks)).sum()
    }
}

fn run(work: impl FnOnce()) -> ! {
    // SAFETY: asks to be traced by the parent.
    if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(1) };
    }
    Mark::set();
    Mark::set();
    work();
    // SAFETY: ends the child at once, whatever its other threads do.
    unsafe { libc::_exit(0) };
}

/// Of the functions that are left out, the one that the child is in: where it comes back to, and its stack then.
type Away = Option<(u64, u64)>;

struct Tracer<'a> {
    child: libc::pid_t,
    left_out: &'a [usize],
    away: Away,
    /// The last instruction's address.
    last: u64,
}

impl Tracer<'_> {
    fn follow(&mut self) -> Option<Steps> {
        let (mut steps, mut counting) = (Steps::default(), None);
        let mut status = self.wait();
        if libc::WIFEXITED(status) {
            return None;
        }
        while libc::WIFSTOPPED(status) {
            counting = match (libc::WSTOPSIG(status), counting) {
                (SIGNAL, None) => Some(0),
                (SIGNAL, Some(count)) => {
                    steps.0.push(count);
                    None
                }
                (libc::SIGTRAP, Some(count)) => Some(count + u64::from(self.is_another())),
                (signal, _) => self.give_up(signal),
            };
            status = self.go_on(counting.is_some());
        }
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "died: {status:#x}");
        Some(steps)
    }

    /// Whether the child is at an instruction that counts and was not there before.
    fn is_another(&mut self) -> bool {
        let registers = self.registers();
        let (at, stack) = (registers.rip, registers.rsp);
        let repeats = std::mem::replace(&mut self.last, at) == at;
        match self.away {
            Some((back, least)) if at == back && stack > least => self.away = None,
            Some(_) => return false,
            None if self.left_out.contains(&(at as usize)) => {
                self.away = Some((self.word(stack), stack));
                return false;
            }
            None => {}
        }
        !repeats
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: numbers, for which zeros will do.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        let to = (&raw mut registers).cast::<c_void>();
        // SAFETY: the child is ours and stopped; the registers go into a structure of that kind.
        let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.child, 0, to) };
        assert_eq!(result, 0, "no registers");
        registers
    }

    /// A word of the child's memory.
    fn word(&self, address: u64) -> u64 {
        // SAFETY: the child is ours and stopped; an address that is not mapped is an error.
        let word: c_long = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, self.child, address, 0) };
        word as u64
    }

    fn go_on(&self, step: bool) -> c_int {
        let request = if step { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_CONT };
        // SAFETY: the child is ours and stopped; it never sees the signal that stopped it.
        let result = unsafe { libc::ptrace(request, self.child, 0, 0) };
        assert_eq!(result, 0, "the child does not go on");
        self.wait()
    }

    fn wait(&self) -> c_int {
        let mut status = 0;
        // SAFETY: `status` is ours to write.
        let waited = unsafe { libc::waitpid(self.child, &raw mut status, 0) };
        assert_eq!(waited, self.child, "waitpid failed");
        status
    }

    /// A fault would come again at each step.
    fn give_up(&self, signal: c_int) -> ! {
        // SAFETY: the child is ours.
        unsafe { libc::kill(self.child, libc::SIGKILL) };
        panic!("the child got signal {signal}");
    }
}
