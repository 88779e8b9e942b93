//! What the guest reads.

use std::time::Instant;

use hv_abi::tulip::csr::{Status, general_purpose, missed, receive_state, transmit_state};

use super::{Registers, State};

/// CSR10: bits above the boot ROM's address.
const BOOT_ROM_ONES: u32 = 0xFFFC_0000;

impl Registers {
    /// Reads CSR `number`. Some change by that.
    pub(in super::super) fn read(&mut self, number: u8, now: Instant) -> u32 {
        match number {
            0 => self.bus_mode,
            3 => self.receive.base,
            4 => self.transmit.base,
            5 => self.status(),
            6 => self.mode.bits(),
            7 => Status::MASK_RESET | self.mask.bits(),
            8 => missed::RESET | std::mem::take(&mut self.missed),
            9 => self.serial.read(),
            10 => BOOT_ROM_ONES | self.boot_rom,
            11 => self.timer.read(now),
            12 => self.read_pins(),
            15 => self.watchdog,
            // Poll demands and what is reserved.
            _ => u32::MAX,
        }
    }

    fn status(&self) -> u32 {
        let receive = match self.receive.state {
            State::Stopped => receive_state::STOPPED,
            State::Running => receive_state::WAITING,
            State::Suspended => receive_state::SUSPENDED,
        };
        let transmit = match self.transmit.state {
            State::Stopped => transmit_state::STOPPED,
            State::Running if self.transmit.busy => transmit_state::READING,
            State::Running => transmit_state::FETCHING,
            State::Suspended => transmit_state::SUSPENDED,
        };
        Status::RESET
            | self.error_bits()
            | transmit << Status::TS_SHIFT
            | receive << Status::RS_SHIFT
            | (self.events | self.summaries()).bits()
    }

    /// Pins that are inputs are high: nothing is connected to them.
    fn read_pins(&self) -> u32 {
        let (outputs, levels) = self.pins;
        general_purpose::ONES | levels & outputs | general_purpose::PINS_MASK & !outputs
    }
}
