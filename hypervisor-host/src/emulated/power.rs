//! The ways in which a PC is switched off or reset: ACPI registers, the keyboard controller and the
//! reset control register at 0xCF9.

use super::{PortDevice, Request, little_endian};
use crate::layout::{ACPI_RESET_PORT, ACPI_RESET_VALUE, ACPI_S5_SLEEP_TYPE};
use crate::layout::{ACPI_SLEEP_CONTROL_PORT, ACPI_SLEEP_STATUS_PORT};
use crate::outcome::{Outcome, Reason};

fn reset() -> Option<Request> {
    Some(Request::End(Outcome::guest(Reason::Reset, 0)))
}

/// Sleep control, sleep status and reset of hardware-reduced ACPI (ACPI 6.5 §4.8.3.7, §4.8.3.6).
pub struct AcpiPower;

impl AcpiPower {
    /// The first port.
    pub const FIRST: u16 = ACPI_SLEEP_CONTROL_PORT;
    /// How many.
    pub const COUNT: u16 = 3;
    /// `SLP_EN` of the sleep control register; `SLP_TYP` lies in bits 4:2.
    const SLEEP_ENABLE: u8 = 1 << 5;
}

const _: () = assert!(ACPI_SLEEP_STATUS_PORT == AcpiPower::FIRST + 1);
const _: () = assert!(ACPI_RESET_PORT == AcpiPower::FIRST + 2);

impl PortDevice for AcpiPower {
    fn read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        let value = little_endian(data) as u8;
        match Self::FIRST + offset {
            ACPI_SLEEP_CONTROL_PORT if value & Self::SLEEP_ENABLE != 0 => {
                let soft_off = value >> 2 & 7 == ACPI_S5_SLEEP_TYPE;
                soft_off.then(|| Request::End(Outcome::guest(Reason::PowerOff, 0)))
            }
            ACPI_RESET_PORT if value == ACPI_RESET_VALUE => reset(),
            _ => None,
        }
    }
}

/// Port 0x64 of a keyboard controller: no keyboard, but its reset line works.
pub struct KeyboardController;

impl KeyboardController {
    /// The command and status port.
    pub const PORT: u16 = 0x64;
    /// Pulse output line 0, which resets the processor.
    const PULSE_RESET: u8 = 0xFE;
}

impl PortDevice for KeyboardController {
    /// Both buffers empty, so that nobody waits for them.
    fn read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _: u16, data: &[u8]) -> Option<Request> {
        (data.first() == Some(&Self::PULSE_RESET)).then(reset).flatten()
    }
}

/// The reset control register of PC chipsets.
pub struct ResetControl(u8);

impl ResetControl {
    /// Its port. (Wider accesses are those of PCI configuration, [`super::pci::ports`].)
    pub const PORT: u16 = 0xCF9;
    /// Bit 2: reset when it goes from 0 to 1.
    const RESET_CPU: u8 = 1 << 2;

    /// As after power-on.
    pub fn new() -> Self {
        Self(0)
    }
}

impl Default for ResetControl {
    fn default() -> Self {
        Self::new()
    }
}

impl PortDevice for ResetControl {
    fn read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(self.0);
    }

    fn write(&mut self, _: u16, data: &[u8]) -> Option<Request> {
        self.0 = little_endian(data) as u8;
        (self.0 & Self::RESET_CPU != 0).then(reset).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(request: Option<Request>) -> Option<Reason> {
        match request {
            Some(Request::End(outcome)) => Some(outcome.reason),
            _ => None,
        }
    }

    #[test]
    fn soft_off_needs_both_the_type_and_the_enable_bit() {
        let off = ACPI_S5_SLEEP_TYPE << 2 | 1 << 5;
        assert_eq!(reason(AcpiPower.write(0, &[off])), Some(Reason::PowerOff));
        assert_eq!(AcpiPower.write(0, &[ACPI_S5_SLEEP_TYPE << 2]), None);
        assert_eq!(AcpiPower.write(0, &[1 << 5 | 1 << 2]), None);
        assert_eq!(AcpiPower.write(1, &[off]), None);
    }

    #[test]
    fn each_reset_register_resets_with_its_own_value() {
        assert_eq!(reason(AcpiPower.write(2, &[ACPI_RESET_VALUE])), Some(Reason::Reset));
        assert_eq!(AcpiPower.write(2, &[0]), None);
        assert_eq!(reason(KeyboardController.write(0, &[0xFE])), Some(Reason::Reset));
        assert_eq!(KeyboardController.write(0, &[0xD1]), None);
        let mut control = ResetControl::new();
        assert_eq!(control.write(0, &[2]), None);
        assert_eq!(reason(control.write(0, &[6])), Some(Reason::Reset));
    }
}
