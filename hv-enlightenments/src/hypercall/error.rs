//! What can go wrong with hypercalls.

use core::fmt;

use hv_abi::hypercall::HvError;

use crate::memory::Gpa;

/// Why the hypercall page could not be enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnableError {
    /// The partition lacks the privilege `AccessHypercallMsrs`.
    NoPrivilege,
    /// Somebody before us enabled the page elsewhere and locked the register.
    Locked {
        /// Where.
        at: Gpa,
    },
    /// The register did not take the value.
    Refused {
        /// What it reads instead.
        register: u64,
    },
}

impl fmt::Display for EnableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrivilege => f.write_str("the partition may not use hypercalls"),
            Self::Locked { at } => write!(f, "the hypercall page is locked at {:#x}", at.0),
            Self::Refused { register } => {
                write!(
                    f,
                    "the hypervisor did not enable the hypercall page (register {register:#x})"
                )
            }
        }
    }
}

impl core::error::Error for EnableError {}

/// Why a hypercall failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// The hypervisor said so.
    Status(HvError),
    /// Not called: the parameters do not fit in the page or the registers.
    TooLong,
    /// Not called: the hypervisor does not take, or does not return, XMM registers.
    NoXmm,
    /// Not called: the parameters need a [`super::CallBuffer`], and there was none.
    NoBuffer,
    /// Not called: a rep call of no elements, or a rep call where none belongs.
    BadReps,
    /// The hypervisor claims an impossible number of elements done.
    BadResult,
}

impl From<HvError> for CallError {
    fn from(error: HvError) -> Self {
        Self::Status(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(error) => error.fmt(f),
            Self::TooLong => f.write_str("parameters too long for the hypercall"),
            Self::NoXmm => f.write_str("the hypervisor has no hypercalls with XMM registers"),
            Self::NoBuffer => f.write_str("the hypercall needs a page for its parameters"),
            Self::BadReps => f.write_str("bad number of elements for the hypercall"),
            Self::BadResult => f.write_str("the hypervisor claims impossible progress"),
        }
    }
}

impl core::error::Error for CallError {}
