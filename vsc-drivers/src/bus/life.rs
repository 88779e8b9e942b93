//! Whether a channel is still there, for everybody who has a part of it.

use core::sync::atomic::{AtomicU8, Ordering};

use super::ChannelError;

/// From an offer until it is taken back, or the connection ends. Told without the bus's lock.
pub(crate) struct Life {
    fate: AtomicU8,
    /// On which connection the channel was offered, counted from the first.
    pub(super) connection: u64,
}

/// What has become of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    /// The host offers it.
    Alive,
    /// The host took it back.
    Rescinded,
    /// The connection is being ended; until the host says so, it may use the memory.
    Unloading,
    /// The connection was ended, and the host no longer uses the memory.
    Unloaded,
    /// The connection was ended, and the host did not say that it knows.
    Lost,
}

impl Fate {
    /// The error of whoever still wants something of the channel.
    pub(crate) const fn error(self) -> ChannelError {
        match self {
            Self::Rescinded => ChannelError::Rescinded,
            Self::Alive | Self::Unloading | Self::Unloaded | Self::Lost => {
                ChannelError::Disconnected
            }
        }
    }
}

impl Life {
    pub(super) const fn new(connection: u64) -> Self {
        Self { fate: AtomicU8::new(Fate::Alive as u8), connection }
    }

    pub(super) fn set(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::Release);
    }

    pub(super) fn fate(&self) -> Fate {
        let fates = [Fate::Alive, Fate::Rescinded, Fate::Unloading, Fate::Unloaded];
        let stored = self.fate.load(Ordering::Acquire);
        fates.into_iter().find(|fate| *fate as u8 == stored).unwrap_or(Fate::Lost)
    }

    /// # Errors
    ///
    /// [`ChannelError::Rescinded`], [`ChannelError::Disconnected`].
    pub(crate) fn check(&self) -> Result<(), ChannelError> {
        match self.fate() {
            Fate::Alive => Ok(()),
            fate => Err(fate.error()),
        }
    }
}
