//! Descriptors (*Host Communication*, *Descriptor Lists and Data Buffers*).
//!
//! Both lists are rings of [`Descriptor`]s. The next one follows [`BusMode::DSL_MASK`](super::csr::BusMode::DSL_MASK)
//! longwords behind this, or is where its second address says ([`CHAINED`]), or is the list's base ([`END_OF_RING`], which
//! goes before the former two). A frame lies in one descriptor or several: first and second buffer of each, in their
//! order. Who owns a descriptor alone may write to it.

use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A descriptor. The first longword is RDES0 or TDES0, and so on.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Descriptor {
    /// [`OWN`], and what became of it: `RX_*`, `TX_*` of the first table.
    pub status: U32,
    /// Sizes, and what is asked: [`END_OF_RING`], [`CHAINED`], `TX_*` of the second table.
    pub control: U32,
    /// Address of the first buffer.
    pub buffer1: U32,
    /// Address of the second buffer, or of the next descriptor.
    pub buffer2: U32,
}

const _: () = assert!(size_of::<Descriptor>() == 16);

/// RDES0 and TDES0: the chip owns it (1), or the driver.
pub const OWN: u32 = 1 << 31;

/// RDES1 and TDES1: bytes of the first buffer.
pub const BUFFER1_MASK: u32 = 0x7FF;
/// RDES1 and TDES1: bytes of the second buffer, from this bit on.
pub const BUFFER2_SHIFT: u32 = 11;
/// RDES1 and TDES1: bytes of the second buffer.
pub const BUFFER2_MASK: u32 = 0x7FF << BUFFER2_SHIFT;
/// RDES1 (RCH) and TDES1 (TCH): the second address is that of the next descriptor.
pub const CHAINED: u32 = 1 << 24;
/// RDES1 (RER) and TDES1 (TER): the next descriptor is the list's first.
pub const END_OF_RING: u32 = 1 << 25;

// RDES0. Valid with `RX_LS`, except for `RX_FS`.

/// RDES0, OF: the chip's memory overflowed.
pub const RX_OF: u32 = 1 << 0;
/// RDES0, CE: the check sequence is wrong.
pub const RX_CE: u32 = 1 << 1;
/// RDES0, DB: dribbling bit.
pub const RX_DB: u32 = 1 << 2;
/// RDES0, RE: the transceiver reported an error.
pub const RX_RE: u32 = 1 << 3;
/// RDES0, RW: the receive watchdog cut the frame off; its length is wrong.
pub const RX_RW: u32 = 1 << 4;
/// RDES0, FT: the frame has a type, not a length (it is greater than 1,500).
pub const RX_FT: u32 = 1 << 5;
/// RDES0, CS: late collision.
pub const RX_CS: u32 = 1 << 6;
/// RDES0, TL: longer than [`MAX_FRAME_BYTES`](super::MAX_FRAME_BYTES). An indication; nothing is cut.
pub const RX_TL: u32 = 1 << 7;
/// RDES0, LS: the frame's last descriptor.
pub const RX_LS: u32 = 1 << 8;
/// RDES0, FS: the frame's first descriptor.
pub const RX_FS: u32 = 1 << 9;
/// RDES0, MF: to a multicast address.
pub const RX_MF: u32 = 1 << 10;
/// RDES0, RF: shorter than a frame may be.
pub const RX_RF: u32 = 1 << 11;
/// RDES0, DT: how the frame came: [`RX_DT_SERIAL`] and its like.
pub const RX_DT_MASK: u32 = 0x3 << 12;
/// RDES0, DT: from the network.
pub const RX_DT_SERIAL: u32 = 0 << 12;
/// RDES0, DT: by internal loopback.
pub const RX_DT_INTERNAL: u32 = 1 << 12;
/// RDES0, DT: by external loopback.
pub const RX_DT_EXTERNAL: u32 = 2 << 12;
/// RDES0, DE: the driver owned the next descriptor before the frame's end; the rest of it is lost.
pub const RX_DE: u32 = 1 << 14;
/// RDES0, ES: any of CE, CS, TL, RF, DE (Linux, `tulip.h`, `RxDescErrorSummary`).
pub const RX_ES: u32 = 1 << 15;
/// RDES0, FL: bytes of the frame, its check sequence included, from this bit on. Not valid with [`RX_DE`].
pub const RX_FL_SHIFT: u32 = 16;
/// RDES0, FL.
pub const RX_FL_MASK: u32 = 0x3FFF << RX_FL_SHIFT;
/// RDES0, FF: the filter would not have let it pass. Only with [`Mode::RA`](super::csr::Mode::RA).
pub const RX_FF: u32 = 1 << 30;

// TDES0. Valid in the frame's last descriptor.

/// TDES0, DE: deferred.
pub const TX_DE: u32 = 1 << 0;
/// TDES0, UF: the frame's data came too late.
pub const TX_UF: u32 = 1 << 1;
/// TDES0, LF: no link.
pub const TX_LF: u32 = 1 << 2;
/// TDES0, CC: collisions, from this bit on, four bits.
pub const TX_CC_SHIFT: u32 = 3;
/// TDES0, HF: no heartbeat.
pub const TX_HF: u32 = 1 << 7;
/// TDES0, EC: too many collisions.
pub const TX_EC: u32 = 1 << 8;
/// TDES0, LC: late collision.
pub const TX_LC: u32 = 1 << 9;
/// TDES0, NC: no carrier.
pub const TX_NC: u32 = 1 << 10;
/// TDES0, LO: loss of carrier.
pub const TX_LO: u32 = 1 << 11;
/// TDES0, TO: the frame was longer than the transmit watchdog lets pass.
pub const TX_TO: u32 = 1 << 14;
/// TDES0, ES: any of UF, EC, LC, NC, LO, TO.
pub const TX_ES: u32 = 1 << 15;
/// TDES0 of a setup frame that was taken: all ones but [`OWN`].
pub const TX_SETUP_DONE: u32 = 0x7FFF_FFFF;

// TDES1.

/// TDES1, FT0: the setup frame's low bit of [`setup::FilterType`](super::setup::FilterType).
pub const TX_FT0: u32 = 1 << 22;
/// TDES1, DPD: a short frame is not padded. Where it is, a check sequence is added whatever [`TX_AC`] says.
pub const TX_DPD: u32 = 1 << 23;
/// TDES1, AC: no check sequence is added; the frame has one.
pub const TX_AC: u32 = 1 << 26;
/// TDES1, SET: a setup frame.
pub const TX_SET: u32 = 1 << 27;
/// TDES1, FT1: the setup frame's high bit of [`setup::FilterType`](super::setup::FilterType).
pub const TX_FT1: u32 = 1 << 28;
/// TDES1, FS: the frame's first descriptor. Neither this nor LS: of a setup frame.
pub const TX_FS: u32 = 1 << 29;
/// TDES1, LS: the frame's last descriptor.
pub const TX_LS: u32 = 1 << 30;
/// TDES1, IC: set [`Status::TI`](super::csr::Status::TI) when the frame was sent. Valid with [`TX_LS`] and [`TX_SET`].
pub const TX_IC: u32 = 1 << 31;
