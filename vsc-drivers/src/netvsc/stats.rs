//! What went through an adapter.

use core::fmt;

use crate::counter::Counter;

macro_rules! statistics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one channel, or of all; each only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Statistics {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Statistics {
            fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }

        /// One channel's counters.
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
    /// Frames given to the host.
    transmitted_frames,
    /// Their bytes.
    transmitted_bytes,
    /// Packets in the ring that held them: several frames fit in one.
    transmit_packets,
    /// Frames that stayed in the guest's pages, from where the host takes them.
    transmitted_directly,
    /// Frames that were not sent: too large, no room, or the host refused them.
    transmit_drops,
    /// Frames handed to whoever receives.
    received_frames,
    /// Their bytes.
    received_bytes,
    /// Frames that nobody took in time.
    receive_drops,
    /// Times the channel was found to have something after a wait: about one for each interrupt.
    interrupts,
    /// Attempts at batches of frames towards the host; each signals at most once.
    flushes,
    /// Things from the host that make no sense: ranges outside the buffer, lengths that lie, answers to nothing.
    malformed,
    /// Messages from the host of a kind not known here.
    unknown,
}

impl Statistics {
    /// Received frames for each interrupt, or `None` before the first.
    pub fn frames_per_interrupt(&self) -> Option<f64> {
        (self.interrupts != 0).then(|| self.received_frames as f64 / self.interrupts as f64)
    }

    pub(super) fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum.add(&one);
            sum
        })
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {} frames ({} bytes, {} dropped), received {} frames ({} bytes, {} dropped), {} interrupts, {} malformed",
            self.transmitted_frames,
            self.transmitted_bytes,
            self.transmit_drops,
            self.received_frames,
            self.received_bytes,
            self.receive_drops,
            self.interrupts,
            self.malformed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_each_count() {
        let counters = Counters::default();
        counters.received_frames.add(6);
        counters.interrupts.increment();
        let one = counters.snapshot();
        counters.interrupts.increment();
        let sum = Statistics::sum([one, counters.snapshot()].into_iter());
        assert_eq!((sum.received_frames, sum.interrupts, sum.malformed), (12, 3, 0));
        assert_eq!(sum.frames_per_interrupt(), Some(4.0));
        assert_eq!(Statistics::default().frames_per_interrupt(), None);
    }
}
