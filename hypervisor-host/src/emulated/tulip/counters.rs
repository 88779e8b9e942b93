//! What the chip counts beyond a card's [`Counters`](crate::net::counters::Counters).

use serde::{Deserialize, Serialize};

use super::Tulip;
use crate::net::card::Card;
use crate::stats::gauges::{Counted, Counter};
use crate::vsp::netvsp::NetReport;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one chip; added to from any thread.
        #[derive(Debug, Default)]
        pub struct ChipCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// Counts of one chip at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ChipCounts {
            $($(#[$doc])* pub $name: u64,)*
            /// How often the interrupt line went up.
            pub interrupts: u64,
        }

        impl ChipCounters {
            fn read(&self, interrupts: u64) -> ChipCounts {
                ChipCounts { $($name: self.$name.get(),)* interrupts }
            }
        }

        impl ChipCounts {
            fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)* ("interrupts", self.interrupts)]
            }
        }
    };
}

counters! {
    /// Reads of registers.
    register_reads,
    /// Writes to registers, poll demands included.
    register_writes,
    /// Poll demands.
    doorbells,
    /// How often the device's thread was woken by the guest.
    wakeups,
    /// Transmit descriptors that were closed.
    tx_descriptors,
    /// Receive descriptors that were closed.
    rx_descriptors,
    /// Setup frames.
    setup_frames,
    /// Bytes of frames that went to or came from guest memory.
    dma_bytes,
    /// Bytes that the host's program copied for that.
    copied_bytes,
    /// Frames that were cut off: too long, or without a further descriptor.
    cut_frames,
    /// Addresses that memory did not have.
    bus_errors,
}

/// What a card did, in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TulipReport {
    /// As of any card.
    #[serde(flatten)]
    pub card: NetReport,
    /// As of this chip.
    #[serde(flatten)]
    pub chip: ChipCounts,
}

impl Tulip {
    /// What the chip counted so far.
    pub fn chip_counts(&self) -> ChipCounts {
        self.chip.read(self.line_raised())
    }

    /// What it did so far.
    pub fn report(&self) -> TulipReport {
        TulipReport {
            card: NetReport {
                name: self.name(),
                network: self.backend.describe(),
                mac: self.address.to_string(),
                mtu: super::MTU,
                link_up: self.is_link_up(),
                counts: self.counters.read(),
            },
            chip: self.chip_counts(),
        }
    }
}

impl Card for Tulip {
    fn name(&self) -> String {
        self.name()
    }

    fn set_link(&self, up: bool) {
        self.set_link(up);
    }

    fn report(&self) -> serde_json::Value {
        serde_json::json!(self.report())
    }
}

impl Counted for Tulip {
    fn counts(&self) -> Vec<(&'static str, u64)> {
        let frames = self.counters.read();
        let mut counts = self.chip_counts().named();
        counts.extend([
            ("tx_frames", frames.tx_frames),
            ("tx_bytes", frames.tx_bytes),
            ("tx_dropped", frames.tx_dropped),
            ("rx_frames", frames.rx_frames),
            ("rx_bytes", frames.rx_bytes),
            ("rx_no_buffer", frames.rx_no_buffer),
        ]);
        counts
    }
}
