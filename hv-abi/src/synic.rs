//! The synthetic interrupt controller (SynIC): its registers' fields, messages and event flags.
//!
//! All of it is in TLFS *Inter-Partition Communication* under the titles given (version 6.0b: chapter 11), the
//! structs under their own names among its data types; everything agrees with Linux 6.1,
//! `include/asm-generic/hyperv-tlfs.h`. The registers' numbers are in [`crate::msr`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Synthetic interrupt sources of a virtual processor.
pub const HV_SYNIC_SINT_COUNT: usize = 16;
/// What [`crate::msr::HV_X64_MSR_SVERSION`] reads today (Linux, `HV_SYNIC_VERSION_1`).
pub const HV_SYNIC_VERSION_1: u64 = 1;
/// Least vector that a SINT register takes (TLFS *SINTx Registers*).
pub const HV_SYNIC_FIRST_VALID_VECTOR: u8 = 16;
/// Enable bit of [`crate::msr::HV_X64_MSR_SCONTROL`]; the rest is to be preserved (TLFS *SCONTROL Register*).
pub const HV_SCONTROL_ENABLE: u64 = 1 << 0;

/// The value of a SINT register (TLFS *SINTx Registers*): bits 7:0 vector, 16 masked, 17 auto-EOI, 18 polling;
/// the rest is to be preserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HvSynicSint(pub u64);

impl HvSynicSint {
    /// The source raises no interrupt.
    pub const MASKED: u64 = 1 << 16;
    /// The interrupt ends by itself. Deprecated.
    pub const AUTO_EOI: u64 = 1 << 17;
    /// The source counts as unmasked, but raises no interrupt.
    pub const POLLING: u64 = 1 << 18;
    /// Bits of the vector.
    pub const VECTOR: u64 = 0xFF;
    /// What the register holds after a reset.
    pub const RESET: Self = Self(Self::MASKED);

    /// The register with another vector and without auto-EOI, masking and polling; reserved bits are kept.
    pub const fn with_vector(self, vector: u8) -> Self {
        let fields = Self::VECTOR | Self::MASKED | Self::AUTO_EOI | Self::POLLING;
        Self(self.0 & !fields | vector as u64)
    }

    /// The register, masked.
    pub const fn masked(self) -> Self {
        Self(self.0 | Self::MASKED)
    }

    /// The vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Whether the source is masked.
    pub const fn is_masked(self) -> bool {
        self.0 & Self::MASKED != 0
    }
}

/// `HV_MESSAGE_TYPE`. The hypervisor's own have bit 31 set; those without it come from guests.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvMessageType(pub u32);

impl HvMessageType {
    /// The slot is empty.
    pub const NONE: Self = Self(0);
    /// `HvMessageTypeUnmappedGpa`.
    pub const UNMAPPED_GPA: Self = Self(0x8000_0000);
    /// `HvMessageTypeGpaIntercept`.
    pub const GPA_INTERCEPT: Self = Self(0x8000_0001);
    /// `HvMessageTimerExpired`: [`HvTimerMessagePayload`].
    pub const TIMER_EXPIRED: Self = Self(0x8000_0010);
    /// `HvMessageTypeInvalidVpRegisterValue`.
    pub const INVALID_VP_REGISTER_VALUE: Self = Self(0x8000_0020);
    /// `HvMessageTypeUnrecoverableException`.
    pub const UNRECOVERABLE_EXCEPTION: Self = Self(0x8000_0021);
    /// `HvMessageTypeUnsupportedFeature`.
    pub const UNSUPPORTED_FEATURE: Self = Self(0x8000_0022);
    /// Set in the types that only the hypervisor sends (TLFS `HV_MESSAGE_TYPE`).
    pub const HYPERVISOR_MASK: u32 = 0x8000_0000;
}

/// Bytes of payload in a message (TLFS `HV_MESSAGE_MAX_PAYLOAD_BYTE_COUNT`).
pub const HV_MESSAGE_PAYLOAD_BYTES: usize = 240;
/// Bytes of a message and of a slot.
pub const HV_MESSAGE_BYTES: usize = 256;
/// `MessagePending` in [`HvMessageHeader::message_flags`]: another message waits for this slot, and comes when
/// the guest writes [`crate::msr::HV_X64_MSR_EOM`].
pub const HV_MESSAGE_FLAG_PENDING: u8 = 1 << 0;

/// `HV_MESSAGE_HEADER`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvMessageHeader {
    /// What it is; [`HvMessageType::NONE`] in an empty slot.
    pub message_type: HvMessageType,
    /// Bytes of payload that count, at most [`HV_MESSAGE_PAYLOAD_BYTES`].
    pub payload_size: u8,
    /// [`HV_MESSAGE_FLAG_PENDING`].
    pub message_flags: u8,
    /// Reserved.
    pub _reserved: [u8; 2],
    /// The sender's partition, or the port (24 bits) it came through.
    pub sender: u64,
}

const _: () = assert!(size_of::<HvMessageHeader>() == 16);

/// `HV_MESSAGE`: one slot of the message page, which is an array of [`HV_SYNIC_SINT_COUNT`] of them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvMessage {
    /// Header.
    pub header: HvMessageHeader,
    /// Payload; bytes from `payload_size` on do not count.
    pub payload: [u8; HV_MESSAGE_PAYLOAD_BYTES],
}

const _: () = assert!(size_of::<HvMessage>() == HV_MESSAGE_BYTES);
const _: () = assert!(size_of::<HvMessage>() * HV_SYNIC_SINT_COUNT == crate::HV_PAGE_SIZE);

/// `HV_TIMER_MESSAGE_PAYLOAD`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvTimerMessagePayload {
    /// Which timer, 0 to 3.
    pub timer_index: u32,
    /// Reserved.
    pub _reserved: u32,
    /// When it expired, in 100 ns of reference time.
    pub expiration_time: u64,
    /// When the message was sent, in 100 ns of reference time.
    pub delivery_time: u64,
}

const _: () = assert!(size_of::<HvTimerMessagePayload>() == 24);

/// Event flags of one source (TLFS `HV_SYNIC_EVENT_FLAGS`; the page is an array of [`HV_SYNIC_SINT_COUNT`]).
pub const HV_EVENT_FLAGS_COUNT: usize = 2048;
/// Bytes that hold them.
pub const HV_EVENT_FLAGS_BYTES: usize = HV_EVENT_FLAGS_COUNT / 8;

const _: () = assert!(HV_EVENT_FLAGS_BYTES * HV_SYNIC_SINT_COUNT == crate::HV_PAGE_SIZE);

/// Input of `HvCallPostMessage`, in memory (TLFS *HvCallPostMessage*).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInputPostMessage {
    /// Connection: bits 23:0, the rest is zero.
    pub connection_id: u32,
    /// Zero.
    pub _reserved: u32,
    /// The message's type; neither [`HvMessageType::NONE`] nor one of the hypervisor's.
    pub message_type: HvMessageType,
    /// Bytes of payload that count.
    pub payload_size: u32,
    /// Payload.
    pub payload: [u8; HV_MESSAGE_PAYLOAD_BYTES],
}

const _: () = assert!(size_of::<HvInputPostMessage>() == 256);

/// Input of `HvCallSignalEvent`, in memory or, as one 64-bit value, in RDX (TLFS *HvCallSignalEvent*).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInputSignalEvent {
    /// Connection: bits 23:0, the rest is zero.
    pub connection_id: u32,
    /// Flag, counted from the port's base flag.
    pub flag_number: u16,
    /// Zero.
    pub _reserved: u16,
}

const _: () = assert!(size_of::<HvInputSignalEvent>() == 8);

impl HvInputSignalEvent {
    /// RDX of the fast call.
    pub const fn fast(self) -> u64 {
        self.connection_id as u64 | (self.flag_number as u64) << 32
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn messages_have_the_layout_of_the_tlfs() {
        assert_eq!(offset_of!(HvMessage, header.payload_size), 4);
        assert_eq!(offset_of!(HvMessage, header.message_flags), 5);
        assert_eq!(offset_of!(HvMessage, header.sender), 8);
        assert_eq!(offset_of!(HvMessage, payload), 16);
        assert_eq!(offset_of!(HvTimerMessagePayload, expiration_time), 8);
        assert_eq!(offset_of!(HvInputPostMessage, payload), 16);
    }

    #[test]
    fn a_vector_replaces_all_fields_and_keeps_reserved_bits() {
        let sint = HvSynicSint(0xFFFF_FFFF_FFFF_FFFF).with_vector(0x51);
        assert_eq!(sint.0, 0xFFFF_FFFF_FFF8_FF51);
        assert_eq!((sint.vector(), sint.is_masked()), (0x51, false));
        assert_eq!(HvSynicSint::RESET.0, 0x1_0000);
        assert!(sint.masked().is_masked());
    }

    #[test]
    fn a_signals_fast_form_is_its_bytes() {
        let input = HvInputSignalEvent { connection_id: 0x12_3456, flag_number: 7, _reserved: 0 };
        assert_eq!(input.fast().to_le_bytes(), input.as_bytes());
    }
}
