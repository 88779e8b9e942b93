//! What can go wrong.

use core::fmt;

/// The card can't do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TulipError {
    /// Nobody answers at the card's registers.
    NoDevice,
    /// The chip does not reset, or does not stop.
    Unresponsive,
    /// No memory below 4 GiB for descriptors and buffers.
    NoMemory,
    /// The serial ROM has no station address, and none was given.
    NoAddress,
    /// The chip did not do it in time.
    TimedOut,
    /// The card was stopped, or is gone.
    Stopped,
}

impl fmt::Display for TulipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDevice => "nobody answers at the card's registers",
            Self::Unresponsive => "the card does not reset",
            Self::NoMemory => "no memory below 4 GiB for the card's rings",
            Self::NoAddress => "the card's serial ROM has no station address",
            Self::TimedOut => "the card did not answer in time",
            Self::Stopped => "the card was stopped, or is gone",
        })
    }
}

impl core::error::Error for TulipError {}

/// A frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransmitError {
    /// The ring is full at the moment.
    Full,
    /// Shorter than an Ethernet header, or longer than [`LONGEST_FRAME`](super::LONGEST_FRAME).
    BadLength,
    /// The card ended.
    Ended,
}

impl fmt::Display for TransmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the card's ring is full at the moment",
            Self::BadLength => "a frame is shorter than its header, or longer than a frame may be",
            Self::Ended => "the card ended",
        })
    }
}

impl core::error::Error for TransmitError {}
