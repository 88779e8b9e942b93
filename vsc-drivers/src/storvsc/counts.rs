//! What was done and what went wrong, in numbers.

use core::ops::Add;

use crate::counter::Counter;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a controller's channels did. Counts go on for as long as it is there.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct StorCounts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Add for StorCounts {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name.wrapping_add(other.$name),)* }
            }
        }

        /// The counters of one channel.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> StorCounts {
                StorCounts { $($name: self.$name.get(),)* }
            }
        }
    };
}

counts! {
    /// Requests sent, repetitions included.
    requests,
    /// Times at which requests were put into the ring; each is one signal to the host at most.
    batches,
    /// Requests that the host answered.
    completions,
    /// Times that the driver found packets when it was woken: no more than the host's interrupts. Divide
    /// [`completions`](Self::completions) by it.
    wakeups,
    /// Times that the ring had no room for what was to be sent.
    full,
    /// Requests sent again because the disk was busy, or something changed, or a reset ended them.
    retries,
    /// Packets of the host's that make no sense: answers to nothing, second answers, unknown types.
    rejected,
    /// The host's own packets that say that disks came or went.
    notices,
    /// Requests that were too late.
    timeouts,
    /// Resets that the host was asked for.
    resets,
    /// Bytes copied between callers' slices and memory that was lent.
    copied_bytes,
}
