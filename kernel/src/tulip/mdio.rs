//! Registers of a transceiver on MII, bit by bit through CSR9 (IEEE 802.3, clause 22.2.4.5).
//!
//! The transceiver latches what the driver sends at a rise of the clock, and sends after a rise; so a bit is read while the clock is low
//! again, before the next rise. Accesses to ports are not posted, and slower than the clock may be.

use hv_abi::tulip::mii::{BMSR, MII_MDC, MII_MDI, MII_MDO, MII_READ};

use super::csrs::Csrs;
use crate::pci::Registers32;

/// Ones in front of a frame.
const PREAMBLE_BITS: u32 = 32;
/// Start of frame, and the operations.
const START: u32 = 0b01;
const READ: u32 = 0b10;
const WRITE: u32 = 0b01;
/// What a write has where a read turns the line around.
const TURNAROUND: u32 = 0b10;

fn send<R: Registers32>(csrs: &Csrs<R>, bits: impl Iterator<Item = bool>) {
    for bit in bits {
        let data = if bit { MII_MDO } else { 0 };
        csrs.write(9, data);
        csrs.write(9, data | MII_MDC);
    }
}

fn bits_of(value: u32, count: u32) -> impl Iterator<Item = bool> {
    (0..count).rev().map(move |bit| value >> bit & 1 != 0)
}

fn command<R: Registers32>(csrs: &Csrs<R>, operation: u32, transceiver: u8, register: u8) {
    send(csrs, core::iter::repeat_n(true, PREAMBLE_BITS as usize));
    let place = u32::from(transceiver & 0x1F) << 5 | u32::from(register & 0x1F);
    send(csrs, bits_of(START << 12 | operation << 10 | place, 14));
}

/// A bit from the transceiver.
fn receive<R: Registers32>(csrs: &Csrs<R>) -> bool {
    csrs.write(9, MII_READ);
    let bit = csrs.read(9) & MII_MDI != 0;
    csrs.write(9, MII_READ | MII_MDC);
    bit
}

/// Reads a register. Without a transceiver at that address it reads as ones, in some chips as zero.
pub(super) fn read<R: Registers32>(csrs: &Csrs<R>, transceiver: u8, register: u8) -> u16 {
    command(csrs, READ, transceiver, register);
    // The line turns around.
    receive(csrs);
    receive(csrs);
    (0..16).fold(0, |value, _| value << 1 | u16::from(receive(csrs)))
}

/// Writes a register.
pub(super) fn write<R: Registers32>(csrs: &Csrs<R>, transceiver: u8, register: u8, value: u16) {
    command(csrs, WRITE, transceiver, register);
    send(csrs, bits_of(TURNAROUND << 16 | u32::from(value), 18));
    // Lets go of the line.
    csrs.write(9, MII_READ);
}

/// The address of the first transceiver. Most have 1; 0 may mean all.
pub(super) fn find<R: Registers32>(csrs: &Csrs<R>) -> Option<u8> {
    (1..32).chain([0]).find(|&transceiver| !matches!(read(csrs, transceiver, BMSR), 0 | u16::MAX))
}
