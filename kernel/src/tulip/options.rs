//! How to drive a card.

use hv_abi::tulip::csr::Mode;

/// Descriptors of a ring, at least: two are needed for the filter.
const LEAST: u32 = 8;
/// Descriptors of a ring, at most: a page of them.
const MOST: u32 = 256;

/// The chip behind the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chip {
    /// 21140 or 21140A: eight pins in CSR12.
    #[default]
    Dc21140,
    /// 21142 or 21143: transceivers of its own behind CSR13 to CSR15, which are switched off for one on MII.
    Dc21143,
}

/// When the chip is told of frames to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Demand {
    /// At each flush.
    EachFlush,
    /// At each flush, unless it is still busy with earlier frames: it looks at the next descriptor by itself when it has done with one. Should it
    /// have looked too early, it is told after a millisecond.
    #[default]
    WhenIdle,
}

/// Bytes that the chip collects of a frame before it begins to send it; more after each underflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Threshold {
    /// 128 bytes at 100 Mb/s, 72 at 10 Mb/s.
    #[default]
    Bytes128,
    /// 256, or 96.
    Bytes256,
    /// 512, or 128.
    Bytes512,
    /// 1024, or 160.
    Bytes1024,
    /// The whole frame.
    StoreAndForward,
}

impl Threshold {
    /// The next larger one.
    pub(super) fn raised(self) -> Self {
        match self {
            Self::Bytes128 => Self::Bytes256,
            Self::Bytes256 => Self::Bytes512,
            Self::Bytes512 => Self::Bytes1024,
            Self::Bytes1024 | Self::StoreAndForward => Self::StoreAndForward,
        }
    }

    /// Its bits in CSR6 (*Transmit Threshold*).
    pub(super) fn mode(self) -> Mode {
        let number = |tr: u32| Mode::from_bits_retain(tr << Mode::TR_MASK.trailing_zeros());
        match self {
            Self::Bytes128 => number(0),
            Self::Bytes256 => number(1),
            Self::Bytes512 => number(2),
            Self::Bytes1024 => number(3),
            Self::StoreAndForward => Mode::SF,
        }
    }
}

/// How to drive a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TulipOptions {
    /// Which chip it is.
    pub chip: Chip,
    /// Descriptors to send: a power of two, 8 to 256; others are brought into range. Two of them stay free for the filter.
    pub transmit_descriptors: u32,
    /// Descriptors to receive: the same.
    pub receive_descriptors: u32,
    /// Each descriptor says where the next one is, instead of being followed by it.
    pub chained: bool,
    /// When the chip is told of frames to send.
    pub demand: Demand,
    /// Every so many descriptors ask for an interrupt once their frame was sent; 0: half a ring.
    pub interrupt_every: u32,
    /// Whether the chip's timer stands in for receive interrupts under load.
    pub mitigation: bool,
    /// Where the threshold begins.
    pub threshold: Threshold,
    /// The station address, instead of the serial ROM's.
    pub mac: Option<[u8; 6]>,
    /// Units of 100 ns between looks at a link that is up; each costs a few hundred accesses to registers. A link that is down is looked at
    /// every second.
    pub link_period_100ns: u64,
}

impl Default for TulipOptions {
    fn default() -> Self {
        Self {
            chip: Chip::default(),
            transmit_descriptors: 128,
            receive_descriptors: 128,
            chained: false,
            demand: Demand::default(),
            interrupt_every: 0,
            mitigation: true,
            threshold: Threshold::default(),
            mac: None,
            link_period_100ns: 10 * vsc_drivers::SECOND_100NS,
        }
    }
}

impl TulipOptions {
    pub(super) fn transmit_descriptors(&self) -> usize {
        in_range(self.transmit_descriptors) as usize
    }

    pub(super) fn receive_descriptors(&self) -> usize {
        in_range(self.receive_descriptors) as usize
    }

    /// Descriptors from one that asks for an interrupt to the next: no more than are in use when the ring is full.
    pub(super) fn interrupt_every(&self) -> u32 {
        let half = in_range(self.transmit_descriptors) / 2;
        if self.interrupt_every == 0 { half } else { self.interrupt_every.min(half) }
    }
}

fn in_range(descriptors: u32) -> u32 {
    descriptors.clamp(LEAST, MOST).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_have_a_size_that_the_driver_can_count_round() {
        let with = |count| TulipOptions { transmit_descriptors: count, ..TulipOptions::default() };
        for (asked, got) in [(0, 8), (8, 8), (100, 128), (256, 256), (u32::MAX, 256)] {
            assert_eq!(with(asked).transmit_descriptors(), got);
        }
        assert_eq!(with(64).interrupt_every(), 32);
        assert_eq!(TulipOptions { interrupt_every: 200, ..with(64) }.interrupt_every(), 32);
        assert_eq!(TulipOptions { interrupt_every: 3, ..with(64) }.interrupt_every(), 3);
    }

    /// As Linux's driver raises it (`interrupt.c`: `csr6 += 0x4000`, then `|= 0x00200000`).
    #[test]
    fn a_threshold_rises_up_to_whole_frames() {
        let mut threshold = Threshold::default();
        for bits in [0, 0x4000, 0x8000, 0xC000, 0x0020_0000, 0x0020_0000] {
            assert_eq!(threshold.mode().bits(), bits);
            threshold = threshold.raised();
        }
    }
}
