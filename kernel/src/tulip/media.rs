//! The medium: a transceiver on MII that negotiates, or whatever the serial ROM says, or the usual.

use hv_abi::tulip::csr::{Mode, general_purpose, timer};
use hv_abi::tulip::mii::{
    AN_10_FULL, AN_10_HALF, AN_100_FULL, AN_100_HALF, AN_802_3, ANAR, ANLPAR, BMCR,
    BMCR_AUTONEGOTIATE, BMCR_FULL_DUPLEX, BMCR_ISOLATE, BMCR_POWER_DOWN, BMCR_RESET, BMCR_RESTART,
    BMCR_SPEED_100, BMSR, BMSR_CAN_NEGOTIATE, BMSR_LINK, BMSR_MEDIA,
};

use super::csrs::Csrs;
use super::leaf::{CODE_100_TX, Leaf, Pins};
use super::mdio;
use super::options::Chip;
use crate::pci::Registers32;

/// How fast a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speed {
    /// 10 Mb/s.
    Mbps10,
    /// 100 Mb/s.
    #[default]
    Mbps100,
}

/// A link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// There is one, or nothing tells.
    pub up: bool,
    /// How fast.
    pub speed: Speed,
    /// Both ways at once.
    pub full_duplex: bool,
}

/// What the chip's port leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// A transceiver with this address on MII.
    Mii(u8),
    /// What the pins of CSR12 choose.
    Pins(Pins),
    /// 100BASE-TX by the chip's own symbol functions, nobody knows how (Linux, `media.c`: 0x03860000).
    Symbols,
}

/// What every port has in CSR6.
const ALWAYS: Mode = Mode::MBO.union(Mode::CA);
const SYMBOLS: Mode = Mode::PS.union(Mode::PCS).union(Mode::SCR);
/// All that can be advertised.
const ALL: u16 = AN_10_HALF | AN_10_FULL | AN_100_HALF | AN_100_FULL;
/// How far the bits of the status register lie above those that are advertised (Linux, `media.c`).
const STATUS_SHIFT: u32 = 6;

impl Media {
    /// Finds out, and sets the pins. `wait` lets 500 µs pass.
    pub(super) fn find<R: Registers32>(
        csrs: &Csrs<R>,
        chip: Chip,
        leaf: &Leaf,
        wait: impl Fn(),
    ) -> Self {
        Self::Symbols.prepare(csrs, chip, leaf, wait);
        if let Some(address) = mdio::find(csrs) {
            let advertise = leaf.mii().map_or(0, |(_, _, advertise)| advertise);
            negotiate(csrs, address, advertise);
            return Self::Mii(address);
        }
        let Some(pins) = leaf.pins().filter(|_| chip == Chip::Dc21140) else {
            return Self::Symbols;
        };
        csrs.write(12, pins.value.into());
        Self::Pins(pins)
    }

    /// Sets the pins after a reset.
    pub(super) fn prepare<R: Registers32>(
        self,
        csrs: &Csrs<R>,
        chip: Chip,
        leaf: &Leaf,
        wait: impl Fn(),
    ) {
        match chip {
            Chip::Dc21140 => prepare_pins(csrs, leaf, wait),
            Chip::Dc21143 => switch_serial_off(csrs),
        }
        if let Self::Pins(pins) = self {
            csrs.write(12, pins.value.into());
        }
    }

    /// Looks at the link.
    pub(super) fn link<R: Registers32>(self, csrs: &Csrs<R>) -> Link {
        match self {
            Self::Mii(address) => mii_link(csrs, address),
            Self::Pins(pins) => {
                let speed = if pins.code == CODE_100_TX { Speed::Mbps100 } else { Speed::Mbps10 };
                let up = pins.link(csrs.read(12) & general_purpose::PINS_MASK).unwrap_or(true);
                Link { up, speed, full_duplex: false }
            }
            Self::Symbols => Link { up: true, ..Link::default() },
        }
    }

    /// The bits of CSR6 for the port and such a link.
    pub(super) fn mode(self, link: Link) -> Mode {
        let mode = match self {
            Self::Mii(_) => Mode::PS | Mode::HBD,
            Self::Pins(pins) => return ALWAYS | pins.mode(),
            Self::Symbols => SYMBOLS,
        };
        let slow = if link.speed == Speed::Mbps10 { Mode::TTM } else { Mode::empty() };
        let duplex = if link.full_duplex { Mode::FD } else { Mode::empty() };
        ALWAYS | mode | slow | duplex
    }

    /// Nanoseconds of a tick of the timer.
    pub(super) fn tick_ns(self, link: Link) -> u64 {
        match (self, link.speed) {
            (Self::Pins(pins), _) if !pins.mode().contains(Mode::PS) => timer::TICK_SERIAL_NS,
            (_, Speed::Mbps100) => timer::TICK_MII_100_NS,
            (_, Speed::Mbps10) => timer::TICK_MII_10_NS,
        }
    }
}

/// Resets the transceiver by the sequences of the serial ROM (Linux, `media.c`, *21140, MII*).
fn prepare_pins<R: Registers32>(csrs: &Csrs<R>, leaf: &Leaf, wait: impl Fn()) {
    if leaf.blocks.is_empty() {
        return;
    }
    csrs.write(12, general_purpose::GPC | u32::from(leaf.outputs));
    let Some((reset, start, _)) = leaf.mii() else { return };
    reset.iter().for_each(|&value| csrs.write(12, value.into()));
    if !reset.is_empty() {
        wait();
    }
    start.iter().for_each(|&value| csrs.write(12, value.into()));
}

/// The 21143's own transceivers off, so that MII is used (Linux, `tulip_core.c`, `tulip_up`).
fn switch_serial_off<R: Registers32>(csrs: &Csrs<R>) {
    csrs.write(13, 0);
    csrs.write(14, 0);
    csrs.write(15, 8);
}

/// Has the transceiver negotiate, unless it does so already with the same words.
fn negotiate<R: Registers32>(csrs: &Csrs<R>, address: u8, advertise: u16) {
    let status = mdio::read(csrs, address, BMSR);
    if status & BMSR_CAN_NEGOTIATE == 0 {
        return;
    }
    let can = (status & BMSR_MEDIA) >> STATUS_SHIFT & ALL;
    let wanted = if advertise & ALL == 0 { can } else { advertise & ALL };
    let old = mdio::read(csrs, address, ANAR);
    let control = mdio::read(csrs, address, BMCR);
    let bad = BMCR_RESET | BMCR_ISOLATE | BMCR_POWER_DOWN;
    let negotiates = control & (BMCR_AUTONEGOTIATE | bad) == BMCR_AUTONEGOTIATE;
    if negotiates && old & ALL != 0 {
        return;
    }
    mdio::write(csrs, address, ANAR, old & !ALL | wanted | AN_802_3);
    mdio::write(csrs, address, BMCR, control & !bad | BMCR_AUTONEGOTIATE | BMCR_RESTART);
}

fn mii_link<R: Registers32>(csrs: &Csrs<R>, address: u8) -> Link {
    // The first look may show a loss that is past.
    let has_link = |status: u16| status & BMSR_LINK != 0 && status != u16::MAX;
    if !has_link(mdio::read(csrs, address, BMSR)) && !has_link(mdio::read(csrs, address, BMSR)) {
        return Link::default();
    }
    let control = mdio::read(csrs, address, BMCR);
    if control & BMCR_AUTONEGOTIATE == 0 {
        let speed = if control & BMCR_SPEED_100 != 0 { Speed::Mbps100 } else { Speed::Mbps10 };
        return Link { up: true, speed, full_duplex: control & BMCR_FULL_DUPLEX != 0 };
    }
    let common = mdio::read(csrs, address, ANAR) & mdio::read(csrs, address, ANLPAR);
    agreed(common)
}

/// The best that both can do (IEEE 802.3, annex 28B.3).
fn agreed(common: u16) -> Link {
    let choices = [
        (AN_100_FULL, Speed::Mbps100, true),
        (AN_100_HALF, Speed::Mbps100, false),
        (AN_10_FULL, Speed::Mbps10, true),
        (AN_10_HALF, Speed::Mbps10, false),
    ];
    let best = choices.into_iter().find(|(bit, ..)| common & bit != 0);
    let (_, speed, full_duplex) = best.unwrap_or((0, Speed::Mbps100, false));
    Link { up: true, speed, full_duplex }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_common_ability_counts() {
        let link = |speed, full_duplex| Link { up: true, speed, full_duplex };
        // QEMU's transceiver: it advertises 0x0501, its partner 0x4181.
        assert_eq!(agreed(0x0501 & 0x4181), link(Speed::Mbps100, true));
        assert_eq!(agreed(0x01E1 & 0x00A1), link(Speed::Mbps100, false));
        assert_eq!(agreed(0x01E1 & 0x0061), link(Speed::Mbps10, true));
        assert_eq!(agreed(0x01E1 & 0x0021), link(Speed::Mbps10, false));
    }

    /// The values of CSR6 that Linux chooses (`media.c`, `tulip_select_media` and `tulip_check_duplex`).
    #[test]
    fn modes_are_linuxs() {
        let link = Link { up: true, ..Link::default() };
        assert_eq!(Media::Mii(1).mode(link).bits(), 0x020E_0000);
        let slow = Link { speed: Speed::Mbps10, full_duplex: true, ..link };
        assert_eq!(Media::Mii(1).mode(slow).bits(), 0x024E_0200);
        assert_eq!(Media::Symbols.mode(link).bits(), 0x0386_0000);
    }
}
