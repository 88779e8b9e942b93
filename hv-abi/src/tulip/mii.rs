//! The transceiver behind the chip: how CSR9 reaches it, and its registers.
//!
//! A management frame (IEEE 802.3, clause 22.2.4.5) goes in bits at each rise of the clock: 32 ones, `01`, `10` to read or
//! `01` to write, five bits of transceiver, five of register, two of turnaround, 16 of data, highest first. For a read the
//! driver lets go of the line with the turnaround: the transceiver gives a zero after its first rise, the data after those
//! that follow.

/// CSR9, MDC: clock.
pub const MII_MDC: u32 = 1 << 16;
/// CSR9, MDO: data to the transceiver.
pub const MII_MDO: u32 = 1 << 17;
/// CSR9, MII: the driver lets go of the line and reads.
pub const MII_READ: u32 = 1 << 18;
/// CSR9, MDI: data from the transceiver.
pub const MII_MDI: u32 = 1 << 19;

/// Register 0, control.
pub const BMCR: u8 = 0;
/// Register 1, status.
pub const BMSR: u8 = 1;
/// Register 2, identifier, high half.
pub const PHYID1: u8 = 2;
/// Register 3, identifier, low half.
pub const PHYID2: u8 = 3;
/// Register 4, what is advertised.
pub const ANAR: u8 = 4;
/// Register 5, what the partner advertises.
pub const ANLPAR: u8 = 5;
/// Register 6, expansion.
pub const ANER: u8 = 6;

/// [`BMCR`]: reset; takes itself back.
pub const BMCR_RESET: u16 = 1 << 15;
/// [`BMCR`]: loopback.
pub const BMCR_LOOPBACK: u16 = 1 << 14;
/// [`BMCR`]: 100 Mb/s, without negotiation.
pub const BMCR_SPEED_100: u16 = 1 << 13;
/// [`BMCR`]: negotiate.
pub const BMCR_AUTONEGOTIATE: u16 = 1 << 12;
/// [`BMCR`]: power down.
pub const BMCR_POWER_DOWN: u16 = 1 << 11;
/// [`BMCR`]: let go of MII.
pub const BMCR_ISOLATE: u16 = 1 << 10;
/// [`BMCR`]: negotiate anew; takes itself back.
pub const BMCR_RESTART: u16 = 1 << 9;
/// [`BMCR`]: full duplex, without negotiation.
pub const BMCR_FULL_DUPLEX: u16 = 1 << 8;

/// [`BMSR`]: 100BASE-TX and 10BASE-T, full and half duplex: the bits 14 to 11.
pub const BMSR_MEDIA: u16 = 0x7800;
/// [`BMSR`]: negotiation is complete.
pub const BMSR_NEGOTIATED: u16 = 1 << 5;
/// [`BMSR`]: it can negotiate.
pub const BMSR_CAN_NEGOTIATE: u16 = 1 << 3;
/// [`BMSR`]: there is a link; a loss shows once, whatever came after.
pub const BMSR_LINK: u16 = 1 << 2;
/// [`BMSR`]: there are registers beyond the first two.
pub const BMSR_EXTENDED: u16 = 1 << 0;

/// [`ANAR`], [`ANLPAR`]: 100BASE-TX, full duplex.
pub const AN_100_FULL: u16 = 1 << 8;
/// [`ANAR`], [`ANLPAR`]: 100BASE-TX.
pub const AN_100_HALF: u16 = 1 << 7;
/// [`ANAR`], [`ANLPAR`]: 10BASE-T, full duplex.
pub const AN_10_FULL: u16 = 1 << 6;
/// [`ANAR`], [`ANLPAR`]: 10BASE-T.
pub const AN_10_HALF: u16 = 1 << 5;
/// [`ANAR`], [`ANLPAR`]: it is IEEE 802.3's negotiation.
pub const AN_802_3: u16 = 1 << 0;
/// [`ANLPAR`]: the partner has understood.
pub const AN_ACKNOWLEDGE: u16 = 1 << 14;
