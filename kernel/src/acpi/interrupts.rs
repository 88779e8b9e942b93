//! What the MADT says of device interrupts: I/O APICs, and which of their pins ISA's interrupts have (ACPI 6.5 §5.2.12.3, §5.2.12.5).
//!
//! A *GSI* is the number of a pin, counted over all I/O APICs.

use crate::fixed::List;
use crate::phys::le32;

/// Most I/O APICs that are kept; machines have one, or one for each host bridge.
pub const MAX_IO_APICS: usize = 8;
/// Most overrides that are kept: there are 16 ISA interrupts.
pub const MAX_OVERRIDES: usize = 16;

/// An I/O APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoApic {
    /// Where its registers lie in memory.
    pub address: u32,
    /// The GSI of its first pin. How many pins it has, it says itself.
    pub first_gsi: u32,
}

/// When a pin interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signal {
    /// While it is at its active level; else when it gets there.
    pub level: bool,
    /// Its active level is the low one.
    pub active_low: bool,
}

impl Signal {
    /// ISA's: when the line goes up.
    pub const ISA: Self = Self { level: false, active_low: false };
    /// PCI's: while the line is low (PCI 3.0 §2.2.6).
    pub const PCI: Self = Self { level: true, active_low: true };
}

/// An interrupt that is elsewhere than its number says, or signals otherwise than its bus has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Override {
    /// ISA's number.
    pub source: u8,
    /// The pin.
    pub gsi: u32,
    /// Bits 1:0 polarity, 3:2 trigger mode, as the table has them.
    flags: u16,
}

/// What the MADT says of interrupts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interrupts {
    /// I/O APICs, [`MAX_IO_APICS`] at most.
    pub io_apics: List<IoApic, MAX_IO_APICS>,
    /// Overrides, [`MAX_OVERRIDES`] at most, each source once.
    pub overrides: List<Override, MAX_OVERRIDES>,
}

impl Interrupts {
    /// The pin of ISA's interrupt `source`, and when it interrupts; where the table says that it does so as its bus does, that is as
    /// `bus` has it.
    pub fn pin(&self, source: u8, bus: Signal) -> (u32, Signal) {
        let found = self.overrides.iter().find(|it| it.source == source);
        found.map_or((source.into(), bus), |it| (it.gsi, it.signal(bus)))
    }

    /// The I/O APIC that may have a pin, and the pin's number there.
    pub fn io_apic(&self, gsi: u32) -> Option<(IoApic, u32)> {
        let below = self.io_apics.iter().filter(|it| it.first_gsi <= gsi);
        let nearest = below.max_by_key(|it| it.first_gsi)?;
        Some((*nearest, gsi - nearest.first_gsi))
    }

    /// Takes in an I/O APIC's entry.
    pub(super) fn add_io_apic(&mut self, entry: &[u8; 12]) {
        let new = IoApic { address: le32(entry, 4), first_gsi: le32(entry, 8) };
        // One more than there is room for is not used.
        let _ = self.io_apics.push(new);
    }

    /// Takes in an override's entry. Only those of bus 0, which is ISA, mean anything.
    pub(super) fn add_override(&mut self, entry: &[u8; 10]) {
        let [_, _, bus, source, .., low, high] = *entry;
        let new = Override { source, gsi: le32(entry, 4), flags: u16::from_le_bytes([low, high]) };
        if bus == 0 && self.overrides.iter().all(|it| it.source != source) {
            let _ = self.overrides.push(new);
        }
    }
}

impl Override {
    fn signal(self, bus: Signal) -> Signal {
        let choose = |bits: u16, bus: bool| match bits & 0b11 {
            0b01 => false,
            0b11 => true,
            // As the bus has it; the value in between is reserved.
            _ => bus,
        };
        Signal {
            active_low: choose(self.flags, bus.active_low),
            level: choose(self.flags >> 2, bus.level),
        }
    }
}
