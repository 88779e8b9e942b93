//! Control and status registers (*Command and Status Registers*).
//!
//! | CSR | name | reset | what it is |
//! | --- | --- | --- | --- |
//! | 0 | [`BusMode`] | `FE000000` | bus mode, software reset |
//! | 1 | transmit poll demand | `FFFFFFFF` | a write makes a suspended transmit process look again |
//! | 2 | receive poll demand | `FFFFFFFF` | the same for the receive process |
//! | 3, 4 | receive, transmit list base | – | address of the first descriptor, a multiple of four |
//! | 5 | [`Status`] | `FC000000` | status; events are cleared by writing ones |
//! | 6 | [`Mode`] | `32000040` | operation mode: start and stop, filter |
//! | 7 | [`Status`] | `FFFE0000` | which events of CSR5 interrupt |
//! | 8 | [`missed`] | `E0000000` | missed frames; a read clears it |
//! | 9 | [`srom`](super::srom), [`mii`](super::mii) | `FFF483FF` | serial ROM and transceiver, bit by bit |
//! | 10 | boot ROM address | – | not used here |
//! | 11 | [`timer`] | `FFFE0000` | general-purpose timer |
//! | 12 | [`general_purpose`] | `FFFFFEXX` | eight pins |
//! | 13, 14 | – | – | reserved on the 21140A |
//! | 15 | [`watchdog`] | `FFFFFEC8` | watchdogs against endless frames |
//!
//! Reserved bits read as ones where the table says so.

use bitflags::bitflags;

bitflags! {
    /// CSR0, *Bus Mode Register*.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct BusMode: u32 {
        /// SWR: software reset. Everything but configuration space and [`Mode::PS`] starts anew.
        const SWR = 1 << 0;
        /// BAR: how receive and transmit share the bus.
        const BAR = 1 << 1;
        /// BLE: buffers are big-endian.
        const BLE = 1 << 7;
        /// DBO: descriptors are big-endian.
        const DBO = 1 << 20;
        /// RML: memory read multiple on the bus.
        const RML = 1 << 21;
        /// RLE: memory read line on the bus.
        const RLE = 1 << 23;
        /// WIE: memory write and invalidate on the bus.
        const WIE = 1 << 24;
        /// The other bits are numbers: [`DSL_SHIFT`](Self::DSL_SHIFT) and its like.
        const _ = !0;
    }
}

impl BusMode {
    /// After a reset.
    pub const RESET: u32 = 0xFE00_0000;
    /// DSL, descriptor skip length: longwords between two descriptors of a ring.
    pub const DSL_SHIFT: u32 = 2;
    /// Width of DSL.
    pub const DSL_MASK: u32 = 0x1F << Self::DSL_SHIFT;
    /// PBL, programmable burst length, in longwords; 0: no limit.
    pub const PBL_MASK: u32 = 0x3F << 8;
    /// CAL, cache alignment: 0 none, then 8, 16, 32 longwords.
    pub const CAL_MASK: u32 = 0x3 << 14;
    /// TAP, transmit automatic polling: an index of [`TAP_PERIODS_NS`].
    pub const TAP_SHIFT: u32 = 17;
    /// Width of TAP.
    pub const TAP_MASK: u32 = 0x7 << Self::TAP_SHIFT;
}

/// Nanoseconds between looks of a suspended transmit process at its descriptor, by TAP, at 100 Mb/s; 0: it does not look
/// (*Transmit Automatic Polling Intervals*; at 10 Mb/s on the serial port two and a half times as many, see `TAP_*` of
/// Linux 5.18, `de4x5.h`).
pub const TAP_PERIODS_NS: [u32; 8] = [0, 80_000, 320_000, 640_000, 5_120, 10_240, 20_480, 40_960];

bitflags! {
    /// CSR5, *Status Register*, and CSR7, *Interrupt Enable Register*, which has the same events.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Status: u32 {
        /// TI: a frame with [`TX_IC`](super::descriptor::TX_IC) was sent. Normal.
        const TI = 1 << 0;
        /// TPS: the transmit process stopped. Abnormal.
        const TPS = 1 << 1;
        /// TU: the next transmit descriptor is the driver's; the process is suspended. Normal.
        const TU = 1 << 2;
        /// TJT: a frame was too long to be sent; the process is stopped. Abnormal.
        const TJT = 1 << 3;
        /// UNF: a frame's data came too late. Abnormal.
        const UNF = 1 << 5;
        /// RI: a frame was received. Normal.
        const RI = 1 << 6;
        /// RU: the next receive descriptor is the driver's; the process is suspended. Abnormal.
        const RU = 1 << 7;
        /// RPS: the receive process stopped. Abnormal.
        const RPS = 1 << 8;
        /// RWT: a frame longer than 2,048 bytes was cut off. Abnormal.
        const RWT = 1 << 9;
        /// ETI: a frame is in the chip's transmit memory; TI takes it back. Abnormal.
        const ETI = 1 << 10;
        /// GTE: the general-purpose timer has run out. Normal.
        const GTE = 1 << 11;
        /// FBE: memory did not answer; see [`EB_MASK`](Self::EB_MASK). All bus accesses end until a reset. Abnormal.
        const FBE = 1 << 13;
        /// ERI: the first buffer of a frame is full; RI takes it back. Normal.
        const ERI = 1 << 14;
        /// AIS: an abnormal event that CSR7 lets through.
        const AIS = 1 << 15;
        /// NIS: a normal event that CSR7 lets through.
        const NIS = 1 << 16;
        /// The rest are numbers and reserved bits.
        const _ = !0;
    }
}

impl Status {
    /// CSR5 after a reset: reserved bits only.
    pub const RESET: u32 = 0xFC00_0000;
    /// CSR7 after a reset: reserved bits only.
    pub const MASK_RESET: u32 = 0xFFFE_0000;
    /// RS, receive process state: [`receive_state`].
    pub const RS_SHIFT: u32 = 17;
    /// Width of RS.
    pub const RS_MASK: u32 = 0x7 << Self::RS_SHIFT;
    /// TS, transmit process state: [`transmit_state`].
    pub const TS_SHIFT: u32 = 20;
    /// Width of TS.
    pub const TS_MASK: u32 = 0x7 << Self::TS_SHIFT;
    /// EB, error bits: what went wrong with [`FBE`](Self::FBE): [`bus_error`].
    pub const EB_SHIFT: u32 = 23;
    /// Width of EB.
    pub const EB_MASK: u32 = 0x7 << Self::EB_SHIFT;
    /// Events that make [`NIS`](Self::NIS).
    pub const NORMAL: Self =
        Self::TI.union(Self::TU).union(Self::RI).union(Self::GTE).union(Self::ERI);
    /// Events that make [`AIS`](Self::AIS).
    pub const ABNORMAL: Self = Self::TPS
        .union(Self::TJT)
        .union(Self::UNF)
        .union(Self::RU)
        .union(Self::RPS)
        .union(Self::RWT)
        .union(Self::ETI)
        .union(Self::FBE);
}

/// Values of [`Status::RS_MASK`].
pub mod receive_state {
    /// Stopped: reset, or stopped by the driver.
    pub const STOPPED: u32 = 0;
    /// Fetching a descriptor.
    pub const FETCHING: u32 = 1;
    /// Checking for the end of a frame.
    pub const CHECKING: u32 = 2;
    /// Waiting for a frame.
    pub const WAITING: u32 = 3;
    /// Suspended: no descriptor.
    pub const SUSPENDED: u32 = 4;
    /// Closing a descriptor.
    pub const CLOSING: u32 = 5;
    /// Flushing a frame for which there is no descriptor.
    pub const FLUSHING: u32 = 6;
    /// Moving a frame into its buffer.
    pub const QUEUEING: u32 = 7;
}

/// Values of [`Status::TS_MASK`].
pub mod transmit_state {
    /// Stopped: reset, stopped by the driver, or by [`TJT`](super::Status::TJT).
    pub const STOPPED: u32 = 0;
    /// Fetching a descriptor.
    pub const FETCHING: u32 = 1;
    /// Waiting for the end of a transmission.
    pub const WAITING: u32 = 2;
    /// Reading a buffer.
    pub const READING: u32 = 3;
    /// At a setup frame.
    pub const SETUP: u32 = 5;
    /// Suspended: no descriptor.
    pub const SUSPENDED: u32 = 6;
    /// Closing a descriptor.
    pub const CLOSING: u32 = 7;
}

/// Values of [`Status::EB_MASK`].
pub mod bus_error {
    /// Parity error.
    pub const PARITY: u32 = 0;
    /// Master abort: nobody has the address.
    pub const MASTER_ABORT: u32 = 1;
    /// Target abort.
    pub const TARGET_ABORT: u32 = 2;
}

bitflags! {
    /// CSR6, *Operation Mode Register*.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Mode: u32 {
        /// HP: hashes decide on multicast frames. The setup frame's; read-only.
        const HP = 1 << 0;
        /// SR: start (1) or stop (0) receiving.
        const SR = 1 << 1;
        /// HO: hashes decide on all frames. The setup frame's; read-only.
        const HO = 1 << 2;
        /// PB: pass bad frames.
        const PB = 1 << 3;
        /// IF: inverse filtering. The setup frame's; read-only.
        const IF = 1 << 4;
        /// SB: the backoff counter stops.
        const SB = 1 << 5;
        /// PR: promiscuous. Set by a reset.
        const PR = 1 << 6;
        /// PM: pass all multicast.
        const PM = 1 << 7;
        /// FD: full duplex.
        const FD = 1 << 9;
        /// OM, low bit: internal loopback.
        const OM_INTERNAL = 1 << 10;
        /// OM, high bit: external loopback.
        const OM_EXTERNAL = 1 << 11;
        /// FC: force a collision.
        const FC = 1 << 12;
        /// ST: start (1) or stop (0) transmitting.
        const ST = 1 << 13;
        /// CA: capture effect.
        const CA = 1 << 17;
        /// PS: port select: MII or symbols (1), serial (0). Survives a software reset.
        const PS = 1 << 18;
        /// HBD: heartbeat disable.
        const HBD = 1 << 19;
        /// SF: store and forward.
        const SF = 1 << 21;
        /// TTM: transmit threshold mode: 10 Mb/s (1), 100 Mb/s (0).
        const TTM = 1 << 22;
        /// PCS function.
        const PCS = 1 << 23;
        /// SCR: scrambler.
        const SCR = 1 << 24;
        /// MBO: must be one.
        const MBO = 1 << 25;
        /// RA: receive all, telling in [`RX_FF`](super::descriptor::RX_FF) what the filter thinks of them.
        const RA = 1 << 30;
        /// SC: special capture effect.
        const SC = 1 << 31;
        /// The rest are numbers and reserved bits.
        const _ = !0;
    }
}

impl Mode {
    /// After a reset.
    pub const RESET: u32 = 0x3200_0040;
    /// TR, transmit threshold.
    pub const TR_MASK: u32 = 0x3 << 14;
    /// What only a setup frame changes.
    pub const FILTER: Self = Self::HP.union(Self::HO).union(Self::IF);
}

/// CSR8, *Missed Frames and Overflow Counter*.
pub mod missed {
    /// After a reset: reserved bits only.
    pub const RESET: u32 = 0xE000_0000;
    /// MFC: frames that no descriptor was there for.
    pub const FRAMES_MASK: u32 = 0xFFFF;
    /// MFO: MFC has overflown.
    pub const FRAMES_OVERFLOW: u32 = 1 << 16;
    /// FOC: frames that the chip's receive memory had no room for.
    pub const FIFO_MASK: u32 = 0x7FF << 17;
    /// OCO: FOC has overflown.
    pub const FIFO_OVERFLOW: u32 = 1 << 28;
}

/// CSR9, *Boot ROM, Serial ROM, and MII Management Register*: what is neither the serial ROM's nor the transceiver's.
pub mod rom {
    /// After a reset.
    pub const RESET: u32 = 0xFFF4_83FF;
    /// Reserved bits that read as ones.
    pub const ONES: u32 = 0xFFF0_0000;
    /// BR: boot ROM select.
    pub const BR: u32 = 1 << 12;
    /// WR: write to the selected ROM.
    pub const WR: u32 = 1 << 13;
    /// RD: read from the selected ROM.
    pub const RD: u32 = 1 << 14;
}

/// CSR11, *General-Purpose Timer Register*.
pub mod timer {
    /// After a reset: reserved bits only.
    pub const RESET: u32 = 0xFFFE_0000;
    /// The count, downward; 0: it does not run.
    pub const VALUE_MASK: u32 = 0xFFFF;
    /// CON: it starts again when it has run out.
    pub const CON: u32 = 1 << 16;
    /// Nanoseconds of one count with [`Mode::PS`](super::Mode::PS) at 100 Mb/s.
    pub const TICK_MII_100_NS: u64 = 81_920;
    /// Nanoseconds of one count with [`Mode::PS`](super::Mode::PS) at 10 Mb/s.
    pub const TICK_MII_10_NS: u64 = 819_200;
    /// Nanoseconds of one count without [`Mode::PS`](super::Mode::PS).
    pub const TICK_SERIAL_NS: u64 = 204_800;
}

/// CSR12, *General-Purpose Port Register*.
pub mod general_purpose {
    /// Reserved bits that read as ones.
    pub const ONES: u32 = 0xFFFF_FE00;
    /// GPC: a write with it says which pins are outputs (1); without it, what these are. Reads as zero.
    pub const GPC: u32 = 1 << 8;
    /// The pins.
    pub const PINS_MASK: u32 = 0xFF;
}

/// CSR15, *Watchdog Timer Register*.
pub mod watchdog {
    /// After a reset: reserved bits only.
    pub const RESET: u32 = 0xFFFF_FEC8;
    /// JBD: no limit to what is sent.
    pub const JBD: u32 = 1 << 0;
    /// HUJ: how soon sending goes on after the limit.
    pub const HUJ: u32 = 1 << 1;
    /// JCK: the limit is 2,560 bytes whatever the speed.
    pub const JCK: u32 = 1 << 2;
    /// RWD: no limit to what is received.
    pub const RWD: u32 = 1 << 4;
    /// RWR: how soon receiving goes on after the limit.
    pub const RWR: u32 = 1 << 5;
    /// What a driver may write; bit 8 must be zero.
    pub const WRITABLE: u32 = JBD | HUJ | JCK | RWD | RWR | 1 << 8;
    /// Bytes of a frame that the receive watchdog surely lets pass; longer than 2,560 it surely cuts.
    pub const RECEIVE_BYTES: usize = 2048;
    /// Bytes of a frame that the transmit watchdog surely lets pass: 26,000 bit times (*Jabber and Watchdog Timers*).
    pub const TRANSMIT_BYTES: usize = 3250;
}
