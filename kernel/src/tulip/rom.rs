//! The serial ROM, bit by bit through CSR9.
//!
//! The ROM latches a bit at each rise of its clock. How many bits an address has is found out: with the last of them the ROM gives a zero.

use hv_abi::tulip::FCS_BYTES;
use hv_abi::tulip::srom::{
    SROM_ADDRESS, SROM_BYTES, SROM_CHECKSUM, SROM_CLK, SROM_CS, SROM_DI, SROM_DO, SROM_READ,
    SROM_SR, SROM_WORDS,
};

use super::csrs::Csrs;
use crate::pci::Registers32;

/// CSR9, RD: the driver reads from what is selected.
const RD: u32 = hv_abi::tulip::csr::rom::RD;
/// Bits of an address, at most: parts of the family have 6 to 11.
const MOST_ADDRESS_BITS: u32 = 12;
/// The same, at least: as many words as are read.
const LEAST_ADDRESS_BITS: u32 = SROM_WORDS.ilog2();

/// What a serial ROM holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rom(pub(super) [u8; SROM_BYTES]);

impl Rom {
    /// Whether the checksum is right.
    pub(super) fn is_whole(&self) -> bool {
        let [content @ .., low, high] = &self.0;
        debug_assert_eq!(content.len(), SROM_CHECKSUM);
        !crc32(content) & 0xFFFF == u32::from(u16::from_le_bytes([*low, *high]))
    }

    /// The station address; `None` if there is none that a card can have. Older ROMs begin with it, and repeat it (Linux,
    /// `tulip_core.c`, `tulip_init_one`).
    pub(super) fn station_address(&self) -> Option<[u8; 6]> {
        let is_old = self.0[..8] == self.0[16..24];
        let offset = if is_old { 0 } else { SROM_ADDRESS };
        let address = *self.0.get(offset..)?.first_chunk::<6>()?;
        (address != [0; 6] && address[0] & 1 == 0).then_some(address)
    }
}

/// Ethernet's check sequence, not inverted at the end (IEEE 802.3 §3.2.9).
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    const _: () = assert!(size_of::<u32>() == FCS_BYTES);
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 }
        })
    })
}

/// Reads all of the ROM; `None` if there is none.
pub(super) fn read<R: Registers32>(csrs: &Csrs<R>) -> Option<Rom> {
    let lines = Lines(csrs);
    let address_bits = lines.address_bits()?;
    let mut bytes = [0; SROM_BYTES];
    for (word, place) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(0..) {
        *word = lines.word(place, address_bits).to_le_bytes();
    }
    Some(Rom(bytes))
}

/// The four lines to the ROM.
struct Lines<'a, R>(&'a Csrs<R>);

impl<R: Registers32> Lines<'_, R> {
    fn set(&self, lines: u32) {
        self.0.write(9, SROM_SR | RD | lines);
    }

    fn reads_one(&self) -> bool {
        self.0.read(9) & SROM_DO != 0
    }

    /// Puts a bit on the line, and the clock up.
    fn send(&self, bit: bool) {
        let data = if bit { SROM_DI } else { 0 };
        self.set(SROM_CS | data);
        self.set(SROM_CS | data | SROM_CLK);
    }

    fn send_all(&self, value: u32, bits: u32) {
        (0..bits).rev().for_each(|bit| self.send(value >> bit & 1 != 0));
    }

    /// Selects the ROM, and says that it is to be read: a zero, the start bit, the command.
    fn begin(&self) {
        self.set(0);
        self.set(SROM_CS);
        self.send_all(1 << 2 | u32::from(SROM_READ), 4);
    }

    fn end(&self) {
        self.set(SROM_CS);
        self.set(0);
    }

    /// Sends an address of zeros until there is an answer.
    fn address_bits(&self) -> Option<u32> {
        self.begin();
        // Nobody drives the line yet: it reads as one.
        let silent = self.reads_one();
        let bits = (1..=MOST_ADDRESS_BITS).find(|_| {
            self.send(false);
            !self.reads_one()
        });
        self.end();
        bits.filter(|bits| silent && *bits >= LEAST_ADDRESS_BITS)
    }

    fn word(&self, address: u32, address_bits: u32) -> u16 {
        self.begin();
        self.send_all(address, address_bits);
        let word = (0..16).fold(0, |word, _| {
            self.set(SROM_CS);
            self.set(SROM_CS | SROM_CLK);
            word << 1 | u16::from(self.reads_one())
        });
        self.end();
        word
    }
}
