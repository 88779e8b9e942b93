//! What the guest writes.

use std::time::Instant;

use hv_abi::tulip::csr::{BusMode, Mode, Status, general_purpose, watchdog};

use super::Registers;

/// Bits of CSR0 that are kept. Big-endian buffers and descriptors are refused: BLE and DBO stay zero.
const BUS_MODE: u32 = BusMode::BAR.bits()
    | BusMode::DSL_MASK
    | BusMode::PBL_MASK
    | BusMode::CAL_MASK
    | BusMode::TAP_MASK
    | BusMode::RML.bits()
    | BusMode::RLE.bits()
    | BusMode::WIE.bits();
/// Bits of CSR6 that are ones whatever is written.
const MODE_ONES: u32 = Mode::RESET & !Mode::PR.bits();
/// Bits of CSR6 that are kept.
const MODE: u32 = Mode::SR
    .union(Mode::PB)
    .union(Mode::SB)
    .union(Mode::PR)
    .union(Mode::PM)
    .union(Mode::FD)
    .union(Mode::OM_INTERNAL)
    .union(Mode::OM_EXTERNAL)
    .union(Mode::FC)
    .union(Mode::ST)
    .union(Mode::CA)
    .union(Mode::PS)
    .union(Mode::HBD)
    .union(Mode::SF)
    .union(Mode::TTM)
    .union(Mode::PCS)
    .union(Mode::SCR)
    .union(Mode::RA)
    .union(Mode::SC)
    .bits()
    | Mode::TR_MASK;
/// Bits of CSR7 that are kept.
const MASK: u32 = !Status::MASK_RESET;
/// Bits of CSR10 that are kept.
const BOOT_ROM: u32 = 0x3_FFFF;

/// What a write asks of the device beyond the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Effect {
    Nothing,
    /// Its thread has something to do.
    Wake,
    /// The chip is reset: nothing of what was begun may reach memory any more.
    Reset,
}

impl Registers {
    /// Writes CSR `number`; `link`: the cable is in, and somebody at its other end.
    pub(in super::super) fn write(
        &mut self,
        number: u8,
        value: u32,
        link: bool,
        now: Instant,
    ) -> Effect {
        match number {
            0 => return self.write_bus_mode(value),
            1 => self.transmit.demand(),
            2 => self.receive.demand(),
            3 => self.receive.set_base(value),
            4 => self.transmit.set_base(value),
            5 => self.events -= Status::from_bits_truncate(value),
            6 => self.write_mode(value),
            7 => self.mask = Status::from_bits_retain(value & MASK),
            9 => self.serial.write(value, link),
            10 => self.boot_rom = value & BOOT_ROM,
            11 => self.timer.write(value, self.timer_tick(), now),
            12 => self.write_pins(value),
            15 => self.watchdog = watchdog::RESET | value & watchdog::WRITABLE,
            // Counters and what is reserved.
            _ => {}
        }
        match number {
            1 | 2 | 6 | 11 => Effect::Wake,
            _ => Effect::Nothing,
        }
    }

    /// SWR takes itself back: the reset is over with the write.
    fn write_bus_mode(&mut self, value: u32) -> Effect {
        if value & BusMode::SWR.bits() != 0 {
            self.reset();
            return Effect::Reset;
        }
        self.bus_mode = BusMode::RESET | value & BUS_MODE;
        Effect::Nothing
    }

    fn write_mode(&mut self, value: u32) {
        let filter = self.mode & Mode::FILTER;
        self.mode = Mode::from_bits_retain(value & MODE | MODE_ONES) | filter;
        // After a bus error only a reset helps.
        match self.mode.contains(Mode::SR) {
            true if !self.dead => self.receive.start(),
            true => {}
            false if self.receive.stop() => self.post(Status::RPS),
            false => {}
        }
        match self.mode.contains(Mode::ST) {
            true if !self.dead => self.transmit.start(),
            true => {}
            false if self.transmit.stop() => {
                self.poll_at = None;
                self.post(Status::TPS);
            }
            false => {}
        }
    }

    fn write_pins(&mut self, value: u32) {
        let pins = value & general_purpose::PINS_MASK;
        if value & general_purpose::GPC != 0 {
            self.pins.0 = pins;
        } else {
            self.pins.1 = pins;
        }
    }
}
