//! Devices that the host emulates, and the bus of I/O ports they sit on.
//!
//! A device answers by filling a buffer; what only the machine can do (end, take a snapshot) it asks
//! for by a [`Request`].

pub mod acpi_pm;
pub mod cmos;
pub mod enl_ports;
pub mod exit;
pub mod ide;
pub mod pci;
pub mod power;
pub mod testdev;
pub mod tulip;
pub mod uart;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use hv_abi::host::Mark;

use self::pci::PciBus;
use crate::outcome::Outcome;
use crate::stats::lock;

/// What a device asks of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// End it.
    End(Outcome),
    /// Take a snapshot of all counters.
    Mark(Mark),
}

/// A device on the port bus. Offsets count from the first port of its range.
pub trait PortDevice: Send {
    /// Fills `data`, which is all ones, with what the guest reads.
    fn read(&mut self, offset: u16, data: &mut [u8]);
    /// Takes what the guest writes.
    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request>;
}

/// No device has this port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclaimed;

struct Slot {
    first: u16,
    last: u16,
    device: Mutex<Box<dyn PortDevice>>,
}

/// All devices with I/O ports.
#[derive(Default)]
pub struct PortBus {
    slots: Vec<Slot>,
    pci: Option<Arc<PciBus>>,
}

impl PortBus {
    /// Puts a device at `count` ports from `first` on. Ranges that come first win where they overlap.
    pub fn add(&mut self, first: u16, count: u16, device: impl PortDevice + 'static) {
        let last = first.saturating_add(count.saturating_sub(1));
        self.slots.push(Slot { first, last, device: Mutex::new(Box::new(device)) });
    }

    /// Has the functions of a PCI bus answer where no device does.
    pub fn set_pci(&mut self, bus: Arc<PciBus>) {
        self.pci = Some(bus);
    }

    /// A read. Ports without a device read as all ones.
    ///
    /// # Errors
    /// [`Unclaimed`] if no device has the port; `data` is filled all the same.
    pub fn read(&self, port: u16, data: &mut [u8]) -> Result<(), Unclaimed> {
        data.fill(0xFF);
        match (self.slot(port), &self.pci) {
            (Some(slot), _) => lock(&slot.device).read(port - slot.first, data),
            (None, Some(pci)) if pci.read_port(port, data) => {}
            (None, _) => return Err(Unclaimed),
        }
        Ok(())
    }

    /// A write.
    ///
    /// # Errors
    /// [`Unclaimed`] if no device has the port.
    pub fn write(&self, port: u16, data: &[u8]) -> Result<Option<Request>, Unclaimed> {
        match (self.slot(port), &self.pci) {
            (Some(slot), _) => Ok(lock(&slot.device).write(port - slot.first, data)),
            (None, Some(pci)) if pci.write_port(port, data) => Ok(None),
            (None, _) => Err(Unclaimed),
        }
    }

    /// The PCI bus, if this port is for one of its functions or nobody.
    pub fn pci_at(&self, port: u16) -> Option<&PciBus> {
        self.pci.as_deref().filter(|_| self.slot(port).is_none())
    }

    fn slot(&self, port: u16) -> Option<&Slot> {
        self.slots.iter().find(|slot| (slot.first..=slot.last).contains(&port))
    }
}

/// Where guests' text goes: standard output, or a buffer in tests. Clones share it.
#[derive(Clone)]
pub struct Output(Arc<Mutex<dyn Write + Send>>);

impl Output {
    /// Text goes to `writer`.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Text goes to standard output, without a second buffer in between.
    pub fn stdout() -> Self {
        Self::new(StdoutFile)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        lock(&self.0).flush()
    }
}

/// Standard output without the line buffer of [`std::io::Stdout`]: a prompt has no line end.
struct StdoutFile;

impl Write for StdoutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stdout = io::stdout().lock();
        let count = stdout.write(bytes)?;
        stdout.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// The first four bytes of a write as a little-endian number; missing bytes are zero.
pub(crate) fn little_endian(data: &[u8]) -> u32 {
    data.iter().take(4).rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

#[cfg(test)]
pub(crate) mod test_output {
    use super::*;

    /// An [`Output`] into a buffer, and the buffer.
    pub(crate) fn buffer() -> (Output, Arc<Mutex<Vec<u8>>>) {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        (Output::new(Shared(bytes.clone())), bytes)
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(Vec<(u16, Vec<u8>)>);

    impl PortDevice for Echo {
        fn read(&mut self, offset: u16, data: &mut [u8]) {
            data[0] = offset as u8;
        }

        fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
            self.0.push((offset, data.to_vec()));
            Some(Request::Mark(Mark(self.0.len() as u32)))
        }
    }

    fn bus() -> PortBus {
        let mut bus = PortBus::default();
        bus.add(0x10, 4, Echo(Vec::new()));
        bus.add(0xFFFF, 1, Echo(Vec::new()));
        bus
    }

    #[test]
    fn a_device_sees_offsets_within_its_range_only() {
        let bus = bus();
        let mut byte = [0];
        assert_eq!(bus.read(0x13, &mut byte), Ok(()));
        assert_eq!(byte, [3]);
        assert_eq!(bus.read(0xFFFF, &mut byte), Ok(()));
        assert_eq!(byte, [0]);
        assert_eq!(bus.write(0x10, &[1]), Ok(Some(Request::Mark(Mark(1)))));
    }

    #[test]
    fn ports_without_a_device_read_as_ones_and_swallow_writes() {
        let bus = bus();
        let mut word = [0; 4];
        assert_eq!(bus.read(0x14, &mut word), Err(Unclaimed));
        assert_eq!(word, [0xFF; 4]);
        assert_eq!(bus.read(0x0F, &mut word), Err(Unclaimed));
        assert_eq!(bus.write(0x14, &[1]), Err(Unclaimed));
    }

    #[test]
    fn bytes_that_a_device_leaves_alone_read_as_ones() {
        let mut word = [0; 4];
        assert_eq!(bus().read(0x11, &mut word), Ok(()));
        assert_eq!(word, [1, 0xFF, 0xFF, 0xFF]);
    }

    #[test]
    fn short_writes_are_extended_with_zeros() {
        assert_eq!(little_endian(&[]), 0);
        assert_eq!(little_endian(&[0x12]), 0x12);
        assert_eq!(little_endian(&[0x78, 0x56, 0x34, 0x12, 0xFF]), 0x1234_5678);
    }
}
