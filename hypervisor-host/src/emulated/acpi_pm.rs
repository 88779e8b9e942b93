//! The power management registers of a PC with full ACPI hardware (ACPI 6.5 §4.8.3), at the PIIX4's offsets (82371AB data sheet,
//! §7.2): what machines with PCI have besides the ports of hardware-reduced ACPI.
//!
//! No fixed event ever happens, so the status register reads as zeros and the ACPI interrupt is never raised. The timer runs.

use std::time::Instant;

use super::{PortDevice, Request};
use crate::layout::{ACPI_PM_PORT, ACPI_S5_SLEEP_TYPE};
use crate::outcome::{Outcome, Reason};

/// The registers.
pub struct AcpiPm {
    began: Instant,
    /// `PM1_EN`.
    enable: u16,
    /// `PM1_CNT`.
    control: u16,
}

/// Offset of `PM1_EN`, behind `PM1_STS` (§4.8.3.1: the second half of the event block).
const ENABLE: usize = 2;
/// Offset of `PM1_CNT`.
const CONTROL: usize = (AcpiPm::CONTROL_PORT - AcpiPm::FIRST) as usize;
/// Offset of `PM_TMR`.
const TIMER: usize = (AcpiPm::TIMER_PORT - AcpiPm::FIRST) as usize;
/// Bytes of all registers.
const BYTES: usize = AcpiPm::COUNT as usize;

/// `SCI_EN`: events are told by ACPI's interrupt. There is no other mode.
const SCI_ENABLE: u16 = 1 << 0;
/// `SLP_TYP`, three bits from here on.
const SLEEP_TYPE_SHIFT: u32 = 10;
/// `SLP_EN`; reads as zero.
const SLEEP_ENABLE: u16 = 1 << 13;
/// Bits of `PM1_CNT` that stay as they are written: `BM_RLD` and `SLP_TYP`.
const CONTROL_KEPT: u16 = 1 << 1 | 7 << SLEEP_TYPE_SHIFT;
/// Hertz of the timer (§4.8.3.3).
const TIMER_HZ: u128 = 3_579_545;
/// The timer has 24 bits.
const TIMER_MASK: u32 = 0x00FF_FFFF;

impl AcpiPm {
    /// The first port: `PM1_STS`.
    pub const FIRST: u16 = ACPI_PM_PORT;
    /// How many.
    pub const COUNT: u16 = 12;
    /// `PM1_CNT`.
    pub const CONTROL_PORT: u16 = ACPI_PM_PORT + 4;
    /// `PM_TMR`.
    pub const TIMER_PORT: u16 = ACPI_PM_PORT + 8;

    /// As after power-on.
    pub fn new() -> Self {
        Self { began: Instant::now(), enable: 0, control: 0 }
    }

    fn image(&self) -> [u8; BYTES] {
        let timer = timer(self.began.elapsed().as_nanos());
        let mut image = [0; BYTES];
        put(&mut image, ENABLE, &self.enable.to_le_bytes());
        put(&mut image, CONTROL, &(self.control | SCI_ENABLE).to_le_bytes());
        put(&mut image, TIMER, &timer.to_le_bytes());
        image
    }
}

impl Default for AcpiPm {
    fn default() -> Self {
        Self::new()
    }
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    for (byte, value) in image.iter_mut().skip(offset).zip(bytes) {
        *byte = *value;
    }
}

fn timer(nanoseconds: u128) -> u32 {
    (nanoseconds.wrapping_mul(TIMER_HZ) / 1_000_000_000) as u32 & TIMER_MASK
}

/// A 16-bit register at `at` after a write of `data` at `offset`.
fn written(old: u16, at: usize, offset: usize, data: &[u8]) -> u16 {
    let mut bytes = old.to_le_bytes();
    for (index, byte) in (at..).zip(&mut bytes) {
        if let Some(value) = index.checked_sub(offset).and_then(|index| data.get(index)) {
            *byte = *value;
        }
    }
    u16::from_le_bytes(bytes)
}

impl PortDevice for AcpiPm {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let image = self.image();
        for (byte, value) in data.iter_mut().zip(image.iter().skip(offset.into())) {
            *byte = *value;
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        self.enable = written(self.enable, ENABLE, offset.into(), data);
        let control = written(self.control, CONTROL, offset.into(), data);
        self.control = control & CONTROL_KEPT;
        let kind = control >> SLEEP_TYPE_SHIFT & 7;
        let soft_off = control & SLEEP_ENABLE != 0 && kind == u16::from(ACPI_S5_SLEEP_TYPE);
        soft_off.then(|| Request::End(Outcome::guest(Reason::PowerOff, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const N: usize>(pm: &mut AcpiPm, offset: u16) -> [u8; N] {
        let mut data = [0xFF; N];
        pm.read(offset, &mut data);
        data
    }

    fn is_off(request: Option<Request>) -> bool {
        matches!(request, Some(Request::End(outcome)) if outcome.reason == Reason::PowerOff)
    }

    #[test]
    fn the_timer_has_24_bits_and_its_own_frequency() {
        assert_eq!(timer(0), 0);
        assert_eq!(timer(1_000_000_000), 3_579_545);
        // 2^24 / 3.579545 MHz is a little less than 4.687 s.
        assert_eq!(timer(4_686_000_000) >> 20, 0xF);
        assert_eq!(timer(4_687_000_000) >> 20, 0);
    }

    #[test]
    fn soft_off_needs_the_type_and_the_enable_bit_in_whatever_width() {
        let off = (u16::from(ACPI_S5_SLEEP_TYPE) << 10 | 1 << 13).to_le_bytes();
        assert!(is_off(AcpiPm::new().write(4, &off)));
        assert!(is_off(AcpiPm::new().write(5, &off[1..])));
        assert!(is_off(AcpiPm::new().write(2, &[0, 0, off[0], off[1]])));
        assert!(!is_off(AcpiPm::new().write(4, &[0, 1 << 5])));
        assert!(!is_off(AcpiPm::new().write(4, &[0, off[1] & !(1 << 5)])));
        assert!(!is_off(AcpiPm::new().write(0, &off)));
    }

    #[test]
    fn the_machine_is_always_in_acpi_mode_and_keeps_the_type() {
        let mut pm = AcpiPm::new();
        assert_eq!(read(&mut pm, 4), [1, 0]);
        assert_eq!(pm.write(4, &[0, 5 << 2]), None);
        assert_eq!(read(&mut pm, 4), [1, 5 << 2]);
        assert_eq!(pm.write(2, &[0x21, 0x01]), None);
        assert_eq!(read(&mut pm, 0), [0, 0, 0x21, 0x01]);
    }

    #[test]
    fn what_lies_behind_the_registers_reads_as_ones() {
        let mut pm = AcpiPm::new();
        let [.., third, fourth] = read::<4>(&mut pm, 10);
        assert_eq!([third, fourth], [0xFF, 0xFF]);
        assert_eq!(pm.write(11, &[0xFF; 8]), None);
    }
}
