//! What a host offers: a device's interface, its instance, and how to reach it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::guid::Guid;

/// Bytes that a device's protocol has for itself in an offer and in the request to open it
/// (`MAX_USER_DEFINED_BYTES`).
pub const VMBUS_USER_DEFINED_BYTES: usize = 120;

bitflags::bitflags! {
    /// Flags of an offer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct OfferFlags: u16 {
        /// `VMBUS_CHANNEL_ENUMERATE_DEVICE_INTERFACE`: the guest shows it as a device.
        const ENUMERATE_DEVICE_INTERFACE = 1;
        /// `VMBUS_CHANNEL_SERVER_SUPPORTS_TRANSFER_PAGES`.
        const SERVER_SUPPORTS_TRANSFER_PAGES = 2;
        /// `VMBUS_CHANNEL_SERVER_SUPPORTS_GPADLS`.
        const SERVER_SUPPORTS_GPADLS = 4;
        /// `VMBUS_CHANNEL_NAMED_PIPE_MODE`: every packet begins with a pipe header.
        const NAMED_PIPE_MODE = 0x10;
        /// `VMBUS_CHANNEL_LOOPBACK_OFFER`.
        const LOOPBACK_OFFER = 0x100;
        /// `VMBUS_CHANNEL_PARENT_OFFER`.
        const PARENT_OFFER = 0x200;
        /// `VMBUS_CHANNEL_REQUEST_MONITORED_NOTIFICATION`: signals may go by the monitor pages.
        const REQUEST_MONITORED_NOTIFICATION = 0x400;
        /// `VMBUS_CHANNEL_TLNPI_PROVIDER_OFFER`: a socket.
        const TLNPI_PROVIDER_OFFER = 0x2000;
    }
}

/// `struct vmbus_channel_offer`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ChannelOffer {
    /// What kind of device it is.
    pub if_type: Guid,
    /// Which one.
    pub if_instance: Guid,
    /// Reserved.
    pub _reserved1: [u32; 4],
    /// [`OfferFlags`].
    pub chn_flags: u16,
    /// MiB of address space that the device wants.
    pub mmio_megabytes: u16,
    /// The device's own.
    pub user_def: [u8; VMBUS_USER_DEFINED_BYTES],
    /// 0 for a primary channel, else the number of the sub-channel (from version 2.4 on).
    pub sub_channel_index: u16,
    /// Reserved.
    pub _reserved3: u16,
}

const _: () = assert!(size_of::<ChannelOffer>() == 176);
