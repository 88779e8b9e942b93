//! What went wrong without being anybody's error.

use crate::counter::Counter;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What went wrong on the bus without being anybody's error: mostly what a host said and should not have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct BusCounts {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters behind [`BusCounts`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> BusCounts {
                BusCounts { $($name: self.$name.get(),)* }
            }
        }
    };
}

counts! {
    /// Messages that found no room, because the host sent more than [`inbox_bytes`](super::BusOptions::inbox_bytes) before the bus's task
    /// came to look.
    lost_messages,
    /// Messages too short for their type, or longer than a message can be.
    malformed_messages,
    /// Messages of a type that no host sends.
    unknown_messages,
    /// Answers to nothing: never asked, answered already, or too late.
    unexpected_answers,
    /// Offers of a channel that can't be, or is there already, or is one too many.
    bad_offers,
    /// Channels taken back that are not there.
    bad_rescinds,
    /// [`Change`](super::Change)s that nobody took before there were too many.
    lost_changes,
    /// Pages that the host does not give back, and that are therefore never used again. (Fewer, if it does so late.)
    kept_pages,
    /// Messages that were posted again because the host had no room for them.
    post_retries,
    /// Messages of the bus's own task (closing, taking memory back) that could not be posted.
    failed_posts,
}
