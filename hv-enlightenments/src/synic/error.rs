//! What can go wrong with the controller.

use core::fmt;

/// Why the controller, or a source of it, could not be enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynicError {
    /// The partition lacks the privilege `AccessSynicRegs`.
    NoPrivilege,
    /// The pages' guest-physical address is not page-aligned.
    Misaligned,
    /// A vector below 32: an exception's, or one that would fault.
    BadVector,
    /// A register did not take its value.
    Refused {
        /// Which.
        msr: u32,
        /// What it reads instead.
        register: u64,
    },
}

impl fmt::Display for SynicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrivilege => f.write_str("the partition may not use the SynIC"),
            Self::Misaligned => f.write_str("the SynIC's pages are not page-aligned"),
            Self::BadVector => f.write_str("synthetic interrupts get vectors from 32 on"),
            Self::Refused { msr, register } => {
                write!(
                    f,
                    "the hypervisor did not take SynIC register {msr:#x}: it is {register:#x}"
                )
            }
        }
    }
}

impl core::error::Error for SynicError {}

/// A message that can't be one; it was dropped, and its slot is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// The payload's size as the header has it, more than a slot holds.
    pub payload_size: u8,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message claims a payload of {} bytes", self.payload_size)
    }
}

impl core::error::Error for Malformed {}
