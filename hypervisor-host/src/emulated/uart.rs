//! The serial port: a 16550A from `vm-superio` with the terminal behind it.
//!
//! The model prints into a buffer, and the buffer goes to the output after the model's lock is given
//! back: an output that takes nothing (a pager, a full pipe) holds up the VP that prints, but not the
//! supervisor, who asks the model for room and must still see the clock and signals.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::{Output, PortDevice, Request};
use crate::stats::lock;

type Model = Serial<Line, Drained, Vec<u8>>;

/// The interrupt line; KVM injects when the descriptor is written.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Tells the terminal's reader that there is room again.
#[derive(Debug)]
struct Drained(EventFd);

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        // Fails only if the counter overflows; then it is readable already.
        let _ = self.0.write(1);
    }
}

/// The device on the bus.
pub struct Uart {
    model: Arc<Mutex<Model>>,
    output: Output,
}

/// The terminal's side: bytes that somebody typed go in here.
pub struct UartInput {
    model: Arc<Mutex<Model>>,
    drained: EventFd,
}

/// A serial port that raises `interrupt` and prints to `output`.
///
/// # Errors
/// The operating system has no file descriptor left.
pub fn new(interrupt: EventFd, output: Output) -> io::Result<(Uart, UartInput)> {
    let drained = EventFd::new(libc::EFD_NONBLOCK)?;
    let events = Drained(drained.try_clone()?);
    let model = Arc::new(Mutex::new(Serial::with_events(Line(interrupt), events, Vec::new())));
    Ok((Uart { model: model.clone(), output }, UartInput { model, drained }))
}

impl PortDevice for Uart {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let mut model = lock(&self.model);
        for (register, byte) in registers(offset).zip(data) {
            *byte = model.read(register);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        let printed = self.write_registers(offset, data);
        if !printed.is_empty() {
            // A terminal that is gone must not end the machine.
            let _ = self.output.write_all(&printed);
        }
        None
    }
}

impl Uart {
    /// Gives what the model prints: at most the bytes written.
    fn write_registers(&mut self, offset: u16, data: &[u8]) -> Vec<u8> {
        let mut model = lock(&self.model);
        for (register, &byte) in registers(offset).zip(data) {
            // Fails only if the interrupt's counter overflows; it is pending then already.
            let _ = model.write(register, byte);
        }
        std::mem::take(model.writer_mut())
    }
}

/// Registers of a UART from an offset on.
fn registers(offset: u16) -> impl Iterator<Item = u8> {
    (offset..8).map(|register| register as u8)
}

impl UartInput {
    /// How many bytes fit now.
    pub fn room(&self) -> usize {
        lock(&self.model).fifo_capacity()
    }

    /// Hands typed bytes to the guest; gives back how many it took.
    pub fn push(&self, bytes: &[u8]) -> usize {
        lock(&self.model).enqueue_raw_bytes(bytes).unwrap_or(0)
    }

    /// Becomes readable when the guest has read everything.
    pub fn drained(&self) -> &EventFd {
        &self.drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulated::test_output;
    use std::sync::mpsc;
    use std::time::Duration;

    fn uart() -> (Uart, UartInput, EventFd, Arc<Mutex<Vec<u8>>>) {
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let (output, text) = test_output::buffer();
        let (uart, input) = new(interrupt.try_clone().unwrap(), output).unwrap();
        (uart, input, interrupt, text)
    }

    #[test]
    fn written_bytes_reach_the_output() {
        let (mut uart, _, _, text) = uart();
        for byte in b"hello" {
            assert_eq!(uart.write(0, &[*byte]), None);
        }
        assert_eq!(*lock(&text), b"hello");
    }

    #[test]
    fn typed_bytes_interrupt_a_guest_that_listens() {
        let (mut uart, input, interrupt, _) = uart();
        uart.write(1, &[1]);
        assert_eq!(input.push(b"ab"), 2);
        assert!(interrupt.read().is_ok());
        let mut byte = [0];
        uart.read(0, &mut byte);
        assert_eq!(byte, *b"a");
        assert!(input.drained().read().is_err(), "one byte is still there");
        uart.read(0, &mut byte);
        assert!(input.drained().read().is_ok());
    }

    #[test]
    fn input_stops_when_the_guest_does_not_read() {
        let (_, input, _, _) = uart();
        let room = input.room();
        assert_eq!(input.push(&vec![b'x'; room + 1]), room);
        assert_eq!((input.room(), input.push(b"y")), (0, 0));
    }

    #[test]
    fn an_output_that_takes_nothing_holds_up_the_writer_only() {
        /// Tells that a write has begun, and ends it when it is told to.
        struct Stuck(mpsc::Sender<()>, mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(()).unwrap();
                self.1.recv().unwrap();
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let ((begun, begins), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let output = Output::new(Stuck(begun, goes_on));
        let (mut uart, input) = new(EventFd::new(libc::EFD_NONBLOCK).unwrap(), output).unwrap();
        let writer = std::thread::spawn(move || uart.write(0, b"x"));
        begins.recv().unwrap();
        let (answer, answered) = mpsc::channel();
        std::thread::spawn(move || answer.send((input.room() > 0, input.push(b"y"))));
        assert_eq!(answered.recv_timeout(Duration::from_secs(10)), Ok((true, 1)));
        go_on.send(()).unwrap();
        assert_eq!(writer.join().unwrap(), None);
    }

    #[test]
    fn wide_accesses_stay_within_the_eight_registers() {
        let (mut uart, _, _, _) = uart();
        uart.write(6, &[1, 2, 3, 4]);
        let mut word = [0xFF; 4];
        uart.read(7, &mut word);
        assert_eq!(word, [2, 0xFF, 0xFF, 0xFF]);
    }
}
