//! The main thread while a machine runs: waits for its end, the clock, signals and typed bytes.
#![expect(unsafe_code, reason = "poll")]

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use crate::emulated::uart::UartInput;
use crate::hyperv::crash::Crashes;
use crate::outcome::{Ending, Outcome, Reason};
use crate::signals::{Signal, Signals, stop_process};
use crate::terminal::RawTerminal;

/// How long a guest that reported its crash may go on.
pub const CRASH_PATIENCE: Duration = Duration::from_secs(10);

/// Waits until the machine has an ending, and gives it one if the clock or a signal says so.
///
/// # Errors
/// The operating system can't wait.
pub fn supervise(
    ending: &Ending,
    uart: &UartInput,
    signals: &mut Signals,
    terminal: Option<&RawTerminal>,
    timeout: Option<Duration>,
    crashes: &Crashes,
) -> io::Result<()> {
    let timeout = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut crash_deadline = None;
    let mut keyboard = Keyboard { open: reads_input(terminal) };
    while ending.get().is_none() {
        let wants_input = keyboard.open && uart.room() != 0;
        let mut sources = [
            source(ending.event().as_raw_fd()),
            source(signals.as_raw_fd()),
            source(uart.drained().as_raw_fd()),
            source(if wants_input { libc::STDIN_FILENO } else { -1 }),
            source(if crash_deadline.is_none() { crashes.event().as_raw_fd() } else { -1 }),
        ];
        wait(&mut sources, timeout.into_iter().chain(crash_deadline).min())?;
        let [_, signal, drained, input, crash] = sources.map(|source| source.revents != 0);
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|it| Instant::now() >= it);
        if is_over(timeout) {
            ending.set(Outcome::timeout());
        }
        if is_over(crash_deadline) {
            ending.set(hanging_crash());
        }
        if crash {
            // The guest may end by itself, with a code of its own; but it need not.
            crash_deadline = Some(Instant::now() + CRASH_PATIENCE);
        }
        if signal {
            handle_signals(signals, ending, terminal);
        }
        if drained {
            // Only to make it quiet again; the room is asked for above.
            let _ = uart.drained().read();
        }
        if input {
            keyboard.feed(uart);
        }
    }
    Ok(())
}

fn hanging_crash() -> Outcome {
    let seconds = CRASH_PATIENCE.as_secs();
    Outcome::died(
        Reason::GuestCrash,
        format!("the guest reported a crash and did not end within {seconds} seconds"),
    )
}

/// A terminal that belongs to another job must not be read.
fn reads_input(terminal: Option<&RawTerminal>) -> bool {
    use std::io::IsTerminal;
    terminal.is_some() || !io::stdin().is_terminal()
}

fn handle_signals(signals: &mut Signals, ending: &Ending, terminal: Option<&RawTerminal>) {
    while let Some(signal) = signals.read() {
        match signal {
            Signal::End => ending.set(Outcome::interrupted()),
            Signal::Stop => {
                if let Some(terminal) = terminal {
                    terminal.suspend();
                }
                stop_process();
            }
            Signal::Continue => {
                if let Some(terminal) = terminal {
                    // A terminal that is gone will be noticed by its reader.
                    let _ = terminal.resume();
                }
            }
        }
    }
}

/// Standard input.
struct Keyboard {
    open: bool,
}

impl Keyboard {
    /// Takes as many bytes as the serial port has room for.
    fn feed(&mut self, uart: &UartInput) {
        let mut bytes = [0; 64];
        let room = uart.room().min(bytes.len());
        match raw_stdin().read(&mut bytes[..room]) {
            Ok(0) => self.open = false,
            Ok(count) => {
                uart.push(&bytes[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.open = false,
        }
    }
}

/// Standard input without a buffer, so that nothing is taken that the guest has no room for.
fn raw_stdin() -> impl Read {
    struct Stdin;
    impl Read for Stdin {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            // SAFETY: the call writes at most the given number of bytes into the buffer.
            let count =
                unsafe { libc::read(libc::STDIN_FILENO, bytes.as_mut_ptr().cast(), bytes.len()) };
            usize::try_from(count).map_err(|_| io::Error::last_os_error())
        }
    }
    Stdin
}

fn source(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

fn wait(sources: &mut [libc::pollfd], deadline: Option<Instant>) -> io::Result<()> {
    let timeout_ms = match deadline {
        None => -1,
        // Rounded up, or the last millisecond would be spent asking.
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            i32::try_from(left + 1).unwrap_or(i32::MAX)
        }
    };
    let count = sources.len() as libc::nfds_t;
    // SAFETY: the kernel writes `revents` of so many elements.
    match unsafe { libc::poll(sources.as_mut_ptr(), count, timeout_ms) } {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulated::test_output;
    use crate::emulated::uart;
    use vmm_sys_util::eventfd::EventFd;

    #[test]
    fn a_machine_that_never_ends_is_ended_by_the_clock() {
        let (output, _) = test_output::buffer();
        let (_uart, input) = uart::new(EventFd::new(0).unwrap(), output).unwrap();
        let ending = Ending::new().unwrap();
        let mut signals = Signals::take().unwrap();
        let timeout = Some(Duration::from_millis(20));
        let crashes = Crashes::new().unwrap();
        supervise(&ending, &input, &mut signals, None, timeout, &crashes).unwrap();
        assert_eq!(ending.get().unwrap().reason, Reason::Timeout);
        assert_eq!(ending.get().unwrap().code, 124);
    }
}
