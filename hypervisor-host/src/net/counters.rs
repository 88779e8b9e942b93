//! What a card counts, and how that is told.

use serde::{Deserialize, Serialize};

use crate::stats::gauges::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one card; added to from any thread.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// Counts of one card at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The counts now.
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Frames that the guest sent and the network took, each part of a large segment by itself.
    tx_frames,
    /// Their bytes.
    tx_bytes,
    /// Frames that the network had no room for, or nobody to take them.
    tx_dropped,
    /// Frames of the guest that were malformed, or not what it said of them.
    tx_invalid,
    /// Large segments among what the guest sent.
    tx_large,
    /// Packets in the ring by which the guest sent frames.
    tx_packets,
    /// Frames that the guest got.
    rx_frames,
    /// Their bytes.
    rx_bytes,
    /// Frames lost because the guest's receive buffer, or a channel's share of it, was full.
    rx_no_buffer,
    /// Frames that the guest's filter keeps out, or that came before it opened.
    rx_filtered,
    /// Frames too long for the guest, or no frames.
    rx_invalid,
    /// Packets in the ring by which the guest got frames.
    rx_packets,
    /// Completions for nothing.
    bad_completions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_have_names() {
        let counters = Counters::default();
        counters.tx_frames.add(2);
        counters.tx_frames.add(3);
        counters.rx_no_buffer.add(1);
        let counts = counters.read();
        assert_eq!((counts.tx_frames, counts.rx_no_buffer), (5, 1));
        let json = serde_json::to_value(counts).unwrap();
        assert_eq!(json["tx_frames"], 5);
        assert_eq!(serde_json::from_value::<Counts>(json).unwrap(), counts);
    }
}
