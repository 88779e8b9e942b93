//! How the guest is signalled.

use std::sync::Arc;

use super::interrupt_page::InterruptPage;
use crate::hyperv::synic::{Sint, Synic};

/// The way to the guest for one channel's signals.
pub(super) enum GuestSignal {
    /// The guest wants none.
    Off,
    /// From version 2.4 on: the event flag with the channel's number.
    Flag {
        /// Processor that the channel was given, and the connection's source.
        sint: Sint,
        /// Flag.
        flag: u16,
    },
    /// Before: a bit in the interrupt page, and event flag 0 to say that there are bits.
    Page {
        /// Processor 0, and the connection's source.
        sint: Sint,
        /// The page.
        page: Arc<InterruptPage>,
        /// Bit.
        channel: u32,
    },
}

impl GuestSignal {
    /// Tells whether the guest was interrupted, which it isn't while it has not seen the last signal.
    pub(super) fn send(&self, synic: &Synic) -> bool {
        // A guest without SynIC hears nothing, as it wanted.
        match self {
            Self::Off => false,
            Self::Flag { sint, flag } => synic.signal_event(*sint, *flag).unwrap_or(false),
            Self::Page { sint, page, channel } => {
                page.signal_guest(*channel) && synic.signal_event(*sint, 0).unwrap_or(false)
            }
        }
    }

    /// The source that must have a route.
    pub(super) fn sint(&self) -> Option<Sint> {
        match self {
            Self::Off => None,
            Self::Flag { sint, .. } | Self::Page { sint, .. } => Some(*sint),
        }
    }
}
