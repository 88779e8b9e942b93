//! The transceiver: one for 10BASE-T and 100BASE-TX (IEEE 802.3, clause 22.2.4), whose partner can do all that it can.
//! It names itself National's DP83840A (its data sheet, *PHY Identifier Register*), which was on many boards with this chip.

use hv_abi::tulip::mii::{
    AN_10_FULL, AN_10_HALF, AN_100_FULL, AN_100_HALF, AN_802_3, AN_ACKNOWLEDGE, ANAR, ANER, ANLPAR,
    BMCR, BMCR_AUTONEGOTIATE, BMCR_FULL_DUPLEX, BMCR_RESET, BMCR_RESTART, BMCR_SPEED_100, BMSR,
    BMSR_CAN_NEGOTIATE, BMSR_EXTENDED, BMSR_LINK, BMSR_MEDIA, BMSR_NEGOTIATED, PHYID1, PHYID2,
};

const CONTROL: u16 = BMCR_AUTONEGOTIATE | BMCR_SPEED_100 | BMCR_FULL_DUPLEX;
const ALL_MEDIA: u16 = AN_100_FULL | AN_100_HALF | AN_10_FULL | AN_10_HALF | AN_802_3;
const IDENTIFIER: [u16; 2] = [0x2000, 0x5C01];
/// Expansion register: the partner can negotiate.
const PARTNER_NEGOTIATES: u16 = 1;
/// Control: what takes itself back, and the reserved bits.
const NOT_KEPT: u16 = BMCR_RESET | BMCR_RESTART | 0x7F;

/// The transceiver's registers.
pub(super) struct Phy {
    control: u16,
    advertisement: u16,
    /// The link was lost since the status was read.
    lost: bool,
}

impl Default for Phy {
    fn default() -> Self {
        Self { control: CONTROL, advertisement: ALL_MEDIA, lost: false }
    }
}

impl Phy {
    /// A register; `link`: the cable is in, and somebody at its other end.
    pub(super) fn read(&mut self, register: u8, link: bool) -> u16 {
        match register {
            BMCR => self.control,
            BMSR => self.status(link),
            PHYID1 => IDENTIFIER[0],
            PHYID2 => IDENTIFIER[1],
            ANAR => self.advertisement,
            ANLPAR if self.negotiated(link) => ALL_MEDIA | AN_ACKNOWLEDGE,
            ANER if self.negotiated(link) => PARTNER_NEGOTIATES,
            _ => 0,
        }
    }

    fn status(&mut self, link: bool) -> u16 {
        let mut status = BMSR_MEDIA | BMSR_CAN_NEGOTIATE | BMSR_EXTENDED;
        if self.negotiated(link) {
            status |= BMSR_NEGOTIATED;
        }
        if link && !self.lost {
            status |= BMSR_LINK;
        }
        self.lost = false;
        status
    }

    fn negotiated(&self, link: bool) -> bool {
        link && self.control & BMCR_AUTONEGOTIATE != 0
    }

    /// Takes a register.
    pub(super) fn write(&mut self, register: u8, value: u16) {
        match register {
            BMCR if value & BMCR_RESET != 0 => *self = Self::default(),
            BMCR => self.control = value & !NOT_KEPT,
            ANAR => self.advertisement = value,
            _ => {}
        }
    }

    /// The link is lost, if only for a moment.
    pub(super) fn lose_link(&mut self) {
        self.lost = true;
    }
}
