//! VMBus: a bus for synthetic devices over messages, event flags and shared memory.
//!
//! The TLFS ends where VMBus begins; what is here is published by the drivers and hosts that speak it. Unless another is
//! named, the source is Linux 6.1, `include/linux/hyperv.h` (messages, offers, packets and rings) and
//! `drivers/hv/hyperv_vmbus.h` (connections), under the name given or an obvious one; version 6.0 and its
//! features are from OpenVMM, `vm/devices/vmbus/vmbus_core/src/protocol.rs`.
//!
//! - [`version`]: protocol versions and what each brought
//! - [`message`]: the messages that set up and take down channels
//! - [`monitor`]: signals by bits in memory
//! - [`offer`]: what a host offers
//! - [`packet`]: the ring's control page and the packets in it
//!
//! | number | message | from | first version |
//! | --- | --- | --- | --- |
//! | 1 | [`OfferChannel`](message::OfferChannel) | host | 0.13 |
//! | 2 | [`RescindChannelOffer`](message::RescindChannelOffer) | host | 0.13 |
//! | 3 | `REQUEST_OFFERS` (header only) | guest | 0.13 |
//! | 4 | `ALL_OFFERS_DELIVERED` (header only) | host | 0.13 |
//! | 5 | [`OpenChannel`](message::OpenChannel), from 6.0 on [`OpenChannel2`](message::OpenChannel2) | guest | 0.13 |
//! | 6 | [`OpenChannelResult`](message::OpenChannelResult) | host | 0.13 |
//! | 7 | [`CloseChannel`](message::CloseChannel) | guest | 0.13 |
//! | 8 | [`GpadlHeader`](message::GpadlHeader) | guest | 0.13 |
//! | 9 | [`GpadlBody`](message::GpadlBody) | guest | 0.13 |
//! | 10 | [`GpadlCreated`](message::GpadlCreated) | host | 0.13 |
//! | 11 | [`GpadlTeardown`](message::GpadlTeardown) | guest | 0.13 |
//! | 12 | [`GpadlTorndown`](message::GpadlTorndown) | host | 0.13 |
//! | 13 | [`RelidReleased`](message::RelidReleased) | guest | 0.13 |
//! | 14 | [`InitiateContact`](message::InitiateContact) | guest | 0.13 |
//! | 15 | [`VersionResponse`](message::VersionResponse) | host | 0.13 |
//! | 16 | `UNLOAD` (header only) | guest | 0.13 |
//! | 17 | `UNLOAD_RESPONSE` (header only) | host | 1.1 |
//! | 21 | `TL_CONNECT_REQUEST` | guest | 4.0 |
//! | 22 | [`ModifyChannel`](message::ModifyChannel) | guest | 4.1 |
//! | 24 | [`ModifyChannelResponse`](message::ModifyChannelResponse) | host | 5.3 |

pub mod message;
pub mod monitor;
pub mod offer;
pub mod packet;
pub mod version;

/// Connection for the guest's messages before version 5.0 (`VMBUS_MESSAGE_CONNECTION_ID`).
pub const VMBUS_MESSAGE_CONNECTION_ID: u32 = 1;
/// Connection for `INITIATE_CONTACT` from version 5.0 on (`VMBUS_MESSAGE_CONNECTION_ID_4`); the host's answer names
/// the one for all others.
pub const VMBUS_MESSAGE_CONNECTION_ID_4: u32 = 4;
/// Connection for all signals of a guest before version 1.1, which go by the interrupt page
/// (`VMBUS_EVENT_CONNECTION_ID`).
pub const VMBUS_EVENT_CONNECTION_ID: u32 = 2;
/// Type of the guest's messages in `HvCallPostMessage`, and of the host's (Linux, `post_message` in `drivers/hv/hv.c`:
/// the type is always 1).
pub const VMBUS_MESSAGE_TYPE: u32 = 1;
/// The synthetic interrupt source that VMBus uses (`VMBUS_MESSAGE_SINT`). A guest may ask for another from version
/// 5.0 on.
pub const VMBUS_MESSAGE_SINT: u8 = 2;
/// Channels have numbers from 1 to this; each is an event flag (`MAX_NUM_CHANNELS`, without the number 0).
pub const VMBUS_MAX_CHANNEL_ID: u32 = 2047;
/// Channels that the interrupt page has bits for in each direction (`MAX_NUM_CHANNELS_SUPPORTED`): the first half of the
/// page is for the guest's use (host to guest), the second for the host's.
pub const VMBUS_INTERRUPT_PAGE_CHANNELS: u32 = 256;
/// Target processor of a channel whose opener wants no signals (OpenVMM, `VP_INDEX_DISABLE_INTERRUPT`).
pub const VMBUS_VP_INDEX_DISABLE_INTERRUPT: u32 = u32::MAX;
/// Bytes of a message with its header, at most.
pub const VMBUS_MAX_MESSAGE_BYTES: usize = crate::synic::HV_MESSAGE_PAYLOAD_BYTES;
