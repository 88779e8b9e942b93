//! The serial ROM and the transceiver.

use std::vec::Vec;

use hv_abi::tulip::mii::{
    ANAR, ANLPAR, BMCR, BMCR_AUTONEGOTIATE, BMSR, BMSR_LINK, MII_MDC, MII_MDI, MII_MDO, MII_READ,
};
use hv_abi::tulip::srom::{SROM_CLK, SROM_CS, SROM_DI, SROM_DO, SROM_SR};

use super::State;

/// Words of a ROM whose last word is the checksum by another program (Python, `zlib.crc32(content) & 0xFFFF`): a card at
/// 02:15:5D:00:00:01, with a leaf at 30: autosense, no outputs, a transceiver on MII.
pub(in super::super) fn rom() -> [u8; 128] {
    let mut rom = [0; 128];
    rom[..4].copy_from_slice(&[0x11, 0x10, 0x09, 0x00]);
    (rom[18], rom[19]) = (4, 1);
    rom[20..26].copy_from_slice(&[2, 0x15, 0x5D, 0, 0, 1]);
    rom[27] = 30;
    let leaf = [0, 8, 0, 1, 0x8C, 1, 0, 0, 0, 0, 0x78, 0xE1, 1, 0, 0x50, 0, 0x18];
    rom[30..47].copy_from_slice(&leaf);
    rom[126..].copy_from_slice(&ROM_CHECKSUM.to_le_bytes());
    rom
}

const ROM_CHECKSUM: u16 = 0x7F5B;

/// A ROM with this content.
pub(in super::super) fn srom(bytes: &[u8]) -> Srom {
    Srom::new(bytes)
}

/// A ROM of the family 93C46, with as many bits of address as it has words for.
pub(in super::super) struct Srom {
    words: Vec<u16>,
    lines: u32,
    /// Bits since it was selected, from the start bit on.
    bits: u32,
    command: u32,
    out: u32,
    outputs_left: u32,
}

impl Srom {
    pub(in super::super) fn new(bytes: &[u8]) -> Self {
        let words = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word)).collect();
        Self { words, lines: 0, bits: 0, command: 0, out: 1, outputs_left: 0 }
    }

    fn lines(&mut self, new: u32) {
        let old = core::mem::replace(&mut self.lines, new);
        if new & SROM_CS == 0 || old & SROM_CS == 0 {
            (self.bits, self.command, self.out, self.outputs_left) = (0, 0, 1, 0);
        }
        let rises = new & SROM_CLK != 0 && old & SROM_CLK == 0;
        if new & SROM_CS == 0 || !rises {
            return;
        }
        let data = u32::from(new & SROM_DI != 0);
        let address_bits = self.words.len().ilog2();
        if self.outputs_left > 0 {
            self.outputs_left -= 1;
            let place = self.command as usize & (self.words.len() - 1);
            self.out = u32::from(self.words[place]) >> self.outputs_left & 1;
        } else if self.bits > 0 || data == 1 {
            self.bits += 1;
            self.command = self.command << 1 | data;
            if self.bits == 3 + address_bits && self.command >> address_bits == 0b110 {
                (self.out, self.outputs_left) = (0, 16);
            }
        }
    }
}

/// The transceiver.
pub(in super::super) struct Phy {
    /// Its address; `None` if there is none.
    pub(in super::super) address: Option<u8>,
    pub(in super::super) registers: [u16; 32],
    /// The link was lost since the status was read last.
    lost: bool,
    clock: bool,
    ones: u32,
    bits: u32,
    word: u32,
    out: Option<u32>,
}

impl Default for Phy {
    fn default() -> Self {
        let mut registers = [0; 32];
        registers[usize::from(BMCR)] = BMCR_AUTONEGOTIATE;
        // 100BASE-TX and 10BASE-T, negotiated, a link.
        registers[usize::from(BMSR)] = 0x782D;
        registers[usize::from(ANAR)] = 0x01E1;
        registers[usize::from(ANLPAR)] = 0x41E1;
        Self {
            address: Some(3),
            registers,
            lost: false,
            clock: false,
            ones: 0,
            bits: 0,
            word: 0,
            out: None,
        }
    }
}

impl Phy {
    /// Plugs the cable in or out.
    pub(in super::super) fn set_link(&mut self, up: bool) {
        let status = &mut self.registers[usize::from(BMSR)];
        *status = if up { *status | BMSR_LINK } else { *status & !BMSR_LINK };
        self.lost |= !up;
    }

    fn lines(&mut self, new: u32) {
        let rises = new & MII_MDC != 0 && !self.clock;
        self.clock = new & MII_MDC != 0;
        if !rises {
            return;
        }
        let bit = if new & MII_READ != 0 { 1 } else { u32::from(new & MII_MDO != 0) };
        if self.bits == 0 {
            // In front of a frame; it begins with a zero after 32 ones.
            self.out = None;
            if bit == 1 {
                self.ones += 1;
                return;
            }
            if self.ones < 32 {
                self.ones = 0;
                return;
            }
        }
        self.bits += 1;
        self.word = self.word << 1 | bit;
        match self.bits {
            15.. if self.is_read() => self.send(),
            32 => self.finish_write(),
            _ => {}
        }
    }

    fn head(&self) -> u32 {
        self.word >> (self.bits - 14)
    }

    fn is_read(&self) -> bool {
        self.head() >> 10 == 0b0110
    }

    fn is_addressed(&self) -> bool {
        self.address.map(u32::from) == Some(self.head() >> 5 & 0x1F)
    }

    /// After the rises 15 to 31: a zero for the turnaround, then the data.
    fn send(&mut self) {
        if self.is_addressed() {
            let register = (self.head() & 0x1F) as usize;
            let mut value = self.registers[register];
            if register == usize::from(BMSR) && self.lost {
                value &= !BMSR_LINK;
            }
            // Rise 16 brings the highest bit, rise 31 the lowest.
            let place = 31_u32.saturating_sub(self.bits);
            self.out = Some(u32::from(value) >> place & 1);
            if self.bits == 31 && register == usize::from(BMSR) {
                self.lost = false;
            }
        }
        if self.bits == 32 {
            self.end();
        }
    }

    fn finish_write(&mut self) {
        if self.head() >> 10 == 0b0101 && self.is_addressed() {
            self.registers[(self.head() & 0x1F) as usize] = self.word as u16;
        }
        self.end();
    }

    fn end(&mut self) {
        (self.bits, self.ones, self.word, self.out) = (0, 0, 0, None);
    }
}

impl State {
    pub(super) fn serial_lines(&mut self, value: u32) {
        self.csr[9] = value;
        if value & SROM_SR != 0 {
            if let Some(srom) = &mut self.srom {
                srom.lines(value);
            }
        } else {
            self.phy.lines(value);
        }
    }

    pub(super) fn serial_data(&self) -> u32 {
        let srom = self.srom.as_ref().map_or(1, |srom| srom.out);
        let phy = self.phy.out.unwrap_or(1);
        let data = (if srom == 1 { SROM_DO } else { 0 }) | (if phy == 1 { MII_MDI } else { 0 });
        self.csr[9] & !(SROM_DO | MII_MDI) | data
    }
}
