//! What went through a card.

use core::fmt;

use vsc_drivers::Counter;

macro_rules! statistics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start; each only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Statistics {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> Statistics {
                Statistics { $($name: self.$name.get(),)* }
            }
        }
    };
}

statistics! {
    /// Frames that the chip has sent.
    transmitted_frames,
    /// Their bytes.
    transmitted_bytes,
    /// Frames that it has tried to send: no carrier, too many collisions, …
    transmit_errors,
    /// Frames that a reset has lost, or that were given to a card that ended.
    transmit_drops,
    /// Frames whose data came too late for the threshold.
    underflows,
    /// Poll demands for frames to send.
    demands,
    /// Those that were saved, because the chip was at work.
    demands_saved,
    /// Those that were repeated, because it did not get on.
    demands_repeated,
    /// Frames received.
    received_frames,
    /// Their bytes.
    received_bytes,
    /// Frames with a wrong check sequence, a late collision, …
    receive_errors,
    /// Frames longer than a frame may be.
    oversized,
    /// Frames that the filter of addresses has let through by chance.
    filtered,
    /// Frames that no descriptor was there for (CSR8).
    missed,
    /// Frames that the chip's own memory had no room for (CSR8).
    overflows,
    /// Times that the chip ran out of receive descriptors.
    stalls,
    /// Descriptors that make no sense.
    malformed,
    /// Interrupts of this card.
    interrupts,
    /// Times that the timer began to stand in for receive interrupts.
    mitigations,
    /// Times that sending or receiving had to be started again.
    restarts,
    /// Times that the whole chip had to be.
    resets,
    /// Changes of the link.
    link_changes,
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {} frames ({} bytes, {} errors, {} dropped, {} demands), received {} frames ({} bytes, {} errors, {} missed), \
             {} interrupts, {} malformed, {} resets",
            self.transmitted_frames,
            self.transmitted_bytes,
            self.transmit_errors,
            self.transmit_drops,
            self.demands,
            self.received_frames,
            self.received_bytes,
            self.receive_errors,
            self.missed,
            self.interrupts,
            self.malformed,
            self.resets
        )
    }
}
