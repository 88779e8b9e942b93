//! The serial port: a 16550A from `vm-superio` with the terminal behind it.

use std::io;
use std::sync::{Arc, Mutex};

use vm_superio::serial::SerialEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::{Output, PortDevice, Request};
use crate::stats::lock;

type Model = Serial<Line, Drained, Output>;

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
pub struct Uart(Arc<Mutex<Model>>);

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
    let model = Arc::new(Mutex::new(Serial::with_events(Line(interrupt), events, output)));
    Ok((Uart(model.clone()), UartInput { model, drained }))
}

impl PortDevice for Uart {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let mut model = lock(&self.0);
        for (register, byte) in registers(offset).zip(data) {
            *byte = model.read(register);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        let mut model = lock(&self.0);
        for (register, &byte) in registers(offset).zip(data) {
            // A terminal that is gone must not end the machine.
            let _ = model.write(register, byte);
        }
        None
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
    fn wide_accesses_stay_within_the_eight_registers() {
        let (mut uart, _, _, _) = uart();
        uart.write(6, &[1, 2, 3, 4]);
        let mut word = [0xFF; 4];
        uart.read(7, &mut word);
        assert_eq!(word, [2, 0xFF, 0xFF, 0xFF]);
    }
}
