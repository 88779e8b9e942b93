//! Hypercalls: call codes, the input value, the result value and status codes.
//!
//! The calling convention is TLFS *Hypercall Interface* (version 6.0b: chapter 3, page set-up §3.13). Each
//! call is the TLFS page of its own name. All numbers agree with Linux 6.1, `include/asm-generic/hyperv-tlfs.h`.

use core::num::NonZeroU16;

/// `HvCallSwitchVirtualAddressSpace`, simple, fast: input CR3.
pub const HV_CALL_SWITCH_VIRTUAL_ADDRESS_SPACE: u16 = 0x0001;
/// `HvCallFlushVirtualAddressSpace`.
pub const HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE: u16 = 0x0002;
/// `HvCallFlushVirtualAddressList`, a rep call.
pub const HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST: u16 = 0x0003;
/// `HvCallNotifyLongSpinWait`, simple: input `u32` spin count, `u32` reserved zero.
pub const HV_CALL_NOTIFY_LONG_SPIN_WAIT: u16 = 0x0008;
/// `HvCallSendSyntheticClusterIpi`.
pub const HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI: u16 = 0x000B;
/// `HvCallFlushVirtualAddressSpaceEx`.
pub const HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX: u16 = 0x0013;
/// `HvCallFlushVirtualAddressListEx`.
pub const HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX: u16 = 0x0014;
/// `HvCallSendSyntheticClusterIpiEx`.
pub const HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX: u16 = 0x0015;
/// `HvCallPostMessage`.
pub const HV_CALL_POST_MESSAGE: u16 = 0x005C;
/// `HvCallSignalEvent`, fast allowed.
pub const HV_CALL_SIGNAL_EVENT: u16 = 0x005D;
pub use crate::extended::HV_EXT_CALL_QUERY_CAPABILITIES;

/// The 64-bit hypercall input value, RCX on x64 (TLFS *Hypercall Inputs*).
///
/// Bits 15:0 call code, 16 fast, 26:17 variable header size in 8-byte units, 43:32 rep count, 59:48 rep start
/// index; the rest is zero. Bit 31, zero by the TLFS, is *nested* in later Linux (`HV_HYPERCALL_NESTED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HypercallInput(pub u64);

impl HypercallInput {
    /// Bits that must be zero, whether or not bit 31 has its later meaning.
    pub const RESERVED: u64 = 0xF000_F000_7800_0000;
    const FAST: u64 = 1 << 16;

    /// A simple call with its parameters in memory.
    #[inline]
    pub const fn new(code: u16) -> Self {
        Self(code as u64)
    }

    /// The same call with its parameters in registers.
    #[inline]
    pub const fn fast(self) -> Self {
        Self(self.0 | Self::FAST)
    }

    /// The same call with a variable-size header of `qwords` 8-byte units (10 bits are kept).
    #[inline]
    pub const fn with_variable_header(self, qwords: u16) -> Self {
        Self(self.0 | ((qwords & 0x3FF) as u64) << 17)
    }

    /// The same call as a rep call of `count` elements from index `start` (12 bits each are kept).
    #[inline]
    pub const fn with_reps(self, count: u16, start: u16) -> Self {
        Self(self.0 | ((count & 0xFFF) as u64) << 32 | ((start & 0xFFF) as u64) << 48)
    }

    /// Call code.
    pub const fn code(self) -> u16 {
        self.0 as u16
    }

    /// Whether the parameters are in registers.
    #[inline]
    pub const fn is_fast(self) -> bool {
        self.0 & Self::FAST != 0
    }

    /// Size of the variable header in 8-byte units.
    pub const fn variable_header_qwords(self) -> u16 {
        (self.0 >> 17) as u16 & 0x3FF
    }

    /// Number of elements of a rep call.
    #[inline]
    pub const fn rep_count(self) -> u16 {
        (self.0 >> 32) as u16 & 0xFFF
    }

    /// Index of the first element of a rep call still to do.
    pub const fn rep_start(self) -> u16 {
        (self.0 >> 48) as u16 & 0xFFF
    }
}

/// The 64-bit hypercall result value, RAX on x64 (TLFS *Hypercall Outputs*): 15:0 status, 43:32 reps complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HypercallResult(pub u64);

impl HypercallResult {
    /// A result value of `status` (0 for success) and the number of elements done.
    #[inline]
    pub const fn new(status: u16, reps_complete: u16) -> Self {
        Self(status as u64 | ((reps_complete & 0xFFF) as u64) << 32)
    }

    /// The status as a Rust result.
    #[inline]
    pub const fn status(self) -> Result<(), HvError> {
        match NonZeroU16::new(self.0 as u16) {
            None => Ok(()),
            Some(status) => Err(HvError(status)),
        }
    }

    /// Elements of a rep call that were done.
    #[inline]
    pub const fn reps_complete(self) -> u16 {
        (self.0 >> 32) as u16 & 0xFFF
    }
}

/// A hypercall status other than success (TLFS *Hypercall Status Codes*; numbers as in Linux).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HvError(pub NonZeroU16);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl HvError {
            $($(#[$doc])* pub const $name: Self = Self(NonZeroU16::new($value).unwrap());)*

            /// The name that the TLFS gives this status, if it gives one.
            pub const fn name(self) -> Option<&'static str> {
                match self { $(Self::$name => Some($text),)* _ => None }
            }
        }
    };
}

statuses! {
    /// The call code is not known.
    INVALID_HYPERCALL_CODE = 0x0002, "HV_STATUS_INVALID_HYPERCALL_CODE";
    /// The input value is malformed: a reserved bit, a rep count where none belongs.
    INVALID_HYPERCALL_INPUT = 0x0003, "HV_STATUS_INVALID_HYPERCALL_INPUT";
    /// A parameter block is misaligned or crosses a page.
    INVALID_ALIGNMENT = 0x0004, "HV_STATUS_INVALID_ALIGNMENT";
    /// A parameter is out of range.
    INVALID_PARAMETER = 0x0005, "HV_STATUS_INVALID_PARAMETER";
    /// The partition lacks the privilege.
    ACCESS_DENIED = 0x0006, "HV_STATUS_ACCESS_DENIED";
    /// The operation is not allowed in this state.
    OPERATION_DENIED = 0x0008, "HV_STATUS_OPERATION_DENIED";
    /// The hypervisor has not enough memory.
    INSUFFICIENT_MEMORY = 0x000B, "HV_STATUS_INSUFFICIENT_MEMORY";
    /// No such port.
    INVALID_PORT_ID = 0x0011, "HV_STATUS_INVALID_PORT_ID";
    /// No such connection.
    INVALID_CONNECTION_ID = 0x0012, "HV_STATUS_INVALID_CONNECTION_ID";
    /// No buffer for a message.
    INSUFFICIENT_BUFFERS = 0x0013, "HV_STATUS_INSUFFICIENT_BUFFERS";
    /// The target's SynIC is in no state for it: disabled, or the source is masked.
    INVALID_SYNIC_STATE = 0x0018, "HV_STATUS_INVALID_SYNIC_STATE";
}

impl core::fmt::Debug for HvError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::fmt::Display for HvError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "HV_STATUS {:#06x}", self.0),
        }
    }
}

impl core::error::Error for HvError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_value_has_the_bits_of_the_tlfs() {
        let input =
            HypercallInput::new(0x0003).fast().with_variable_header(2).with_reps(0x123, 0x456);
        assert_eq!(input.0, 0x0456_0123_0005_0003);
        assert_eq!(input.0 & HypercallInput::RESERVED, 0);
        assert_eq!((input.code(), input.is_fast()), (3, true));
        assert_eq!(input.variable_header_qwords(), 2);
        assert_eq!((input.rep_count(), input.rep_start()), (0x123, 0x456));
    }

    #[test]
    fn oversized_fields_never_reach_their_neighbours() {
        let input = HypercallInput::new(0).with_variable_header(0xFFFF).with_reps(0xFFFF, 0xFFFF);
        assert_eq!(input.0 & HypercallInput::RESERVED, 0);
        assert_eq!(input.code(), 0);
        assert!(!input.is_fast());
    }

    #[test]
    fn result_value_splits_into_status_and_reps() {
        let result = HypercallResult(0x0000_0007_0000_0005);
        assert_eq!(result.status(), Err(HvError::INVALID_PARAMETER));
        assert_eq!(result.reps_complete(), 7);
        assert_eq!(HypercallResult::new(0, 9).status(), Ok(()));
    }

    #[test]
    fn a_result_with_an_error_costs_two_bytes() {
        assert_eq!(size_of::<Result<(), HvError>>(), 2);
    }

    #[test]
    fn unknown_statuses_print_their_number() {
        extern crate alloc;
        let unknown = HvError(NonZeroU16::new(0x7777).unwrap());
        assert_eq!(alloc::format!("{unknown}"), "HV_STATUS 0x7777");
        assert_eq!(alloc::format!("{}", HvError::ACCESS_DENIED), "HV_STATUS_ACCESS_DENIED");
    }
}
