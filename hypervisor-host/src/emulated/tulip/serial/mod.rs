//! What hangs on CSR9, bit by bit: the serial ROM and the transceiver.

mod mdio;
mod microwire;
mod phy;
mod rom;

use hv_abi::tulip::csr::rom as csr9;
use hv_abi::tulip::mii::{MII_MDC, MII_MDI, MII_MDO, MII_READ};
use hv_abi::tulip::srom::{SROM_CLK, SROM_CS, SROM_DI, SROM_DO, SROM_SR};

use self::mdio::Mdio;
use self::microwire::Microwire;
use self::phy::Phy;
pub(super) use self::rom::contents;
use crate::net::mac::MacAddress;

/// CSR9, and what hangs on it.
pub(super) struct Serial {
    written: u32,
    rom: Microwire,
    wire: Mdio,
    phy: Phy,
}

impl Serial {
    /// A card's ROM says that this is its address.
    pub(super) fn new(address: MacAddress) -> Self {
        Self {
            written: csr9::RESET,
            rom: Microwire::new(contents(address)),
            wire: Mdio::default(),
            phy: Phy::default(),
        }
    }

    /// The chip is reset. ROM and transceiver have resets of their own.
    pub(super) fn reset(&mut self) {
        self.written = csr9::RESET;
        self.rom.drive(false, false, false);
        self.wire = Mdio::default();
    }

    /// The register.
    pub(super) fn read(&self) -> u32 {
        let mut value = csr9::ONES | self.written & !(MII_MDI | SROM_DO);
        let out = if self.written & SROM_SR != 0 { self.rom.out() } else { self.bit(SROM_DO) };
        let line = if self.bit(MII_READ) { self.wire.out() } else { self.bit(MII_MDO) };
        if out {
            value |= SROM_DO;
        }
        if line {
            value |= MII_MDI;
        }
        value
    }

    /// A write: lines go up and down.
    pub(super) fn write(&mut self, value: u32, link: bool) {
        self.written = value;
        let selected = self.bit(SROM_SR);
        let line = |bit| selected && value & bit != 0;
        self.rom.drive(line(SROM_CS), line(SROM_CLK), line(SROM_DI));
        // A line that nobody drives is high.
        let data = self.bit(MII_READ) || self.bit(MII_MDO);
        self.wire.drive(self.bit(MII_MDC), data, &mut self.phy, link);
    }

    /// The cable was plugged out, if only for a moment.
    pub(super) fn lose_link(&mut self) {
        self.phy.lose_link();
    }

    fn bit(&self, bit: u32) -> bool {
        self.written & bit != 0
    }
}
