//! What the controller counts, readable at any time.

use crate::stats::gauges::{Counted, Counter};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of a controller, all channels together. They only grow.
        #[derive(Debug, Default)]
        pub struct IdeCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counted for IdeCounters {
            fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Commands that a drive took.
    commands,
    /// Commands that ended with an error.
    errors,
    /// Resets of a channel or drive.
    resets,
    /// Times that a channel's interrupt line went high.
    interrupts,
    /// Accesses of task files and bus masters, the data ports' apart.
    register_accesses,
    /// Accesses of data ports; a string instruction's elements that come by one exit are one.
    data_accesses,
    /// Bytes through data ports.
    pio_bytes,
    /// Bytes that bus masters moved.
    dma_bytes,
    /// Runs of bytes that bus masters moved.
    dma_transfers,
    /// Descriptors that made no sense, or lay nowhere.
    dma_faults,
    /// Bytes that this program copied between its own memory and the guest.
    copied_bytes,
}
