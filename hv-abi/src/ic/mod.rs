//! Integration components: heartbeat, shutdown, time synchronisation and the exchange of key-value pairs.
//!
//! Each is a VMBus device with one channel, on which the host asks and the guest answers, both by in-band packets
//! without a completion. A packet is a [`PipeHeader`], an [`IcmsgHeader`], and the component's own message. The
//! first request on a channel negotiates versions ([`negotiate`]).
//!
//! Microsoft has published no specification. Unless another is named, the source is Linux 6.1,
//! `include/linux/hyperv.h` and `include/uapi/linux/hyperv.h` (layouts), `drivers/hv/hv_util.c`, `hv_kvp.c` and
//! `channel_mgmt.c` (`vmbus_prep_negotiate_resp`: behaviour), under the name given or an obvious one. *OpenVMM* is
//! its `vm/devices/hyperv_ic_protocol`, which agrees.
//!
//! | component | interface | number of its messages | versions |
//! | --- | --- | --- | --- |
//! | [`heartbeat`] | [`HEARTBEAT_INTERFACE`] | 1 | 1.0, 3.0 |
//! | [`kvp`] | [`KVP_INTERFACE`] | 2 | 1.0, 3.0, 4.0, 5.0 (Linux: up to 4.0) |
//! | [`shutdown`] | [`SHUTDOWN_INTERFACE`] | 3 | 1.0, 3.0, 3.1, 3.2 |
//! | [`timesync`] | [`TIMESYNC_INTERFACE`] | 4 | 1.0, 3.0, 4.0 |

mod header;
pub mod heartbeat;
pub mod kvp;
pub mod negotiate;
pub mod shutdown;
#[cfg(test)]
mod tests;
pub mod timesync;

pub use header::{
    ICMSGHDRFLAG_REQUEST, ICMSGHDRFLAG_RESPONSE, ICMSGHDRFLAG_TRANSACTION, IcMessageType, IcStatus,
    IcVersion, IcmsgHeader, PIPE_PACKET_TYPE_DATA, PipeHeader,
};

use crate::guid::Guid;

/// Most bytes of a packet's payload, headers included (OpenVMM, `MAX_MESSAGE_SIZE`). The longest message here, of
/// [`kvp`], needs far less.
pub const IC_MAX_MESSAGE_BYTES: usize = 13312;

/// `HV_HEART_BEAT_GUID`.
pub const HEARTBEAT_INTERFACE: Guid = Guid::new(0x5716_4f39, 0x9115, 0x4e78, 0xab55_382f_3bd5_422d);
/// `HV_KVP_GUID`.
pub const KVP_INTERFACE: Guid = Guid::new(0xa9a0_f4e7, 0x5a45, 0x4d96, 0xb827_8a84_1e8c_03e6);
/// `HV_SHUTDOWN_GUID`.
pub const SHUTDOWN_INTERFACE: Guid = Guid::new(0x0e0b_6031, 0x5213, 0x4934, 0x818b_38d9_0ced_39db);
/// `HV_TS_GUID`.
pub const TIMESYNC_INTERFACE: Guid = Guid::new(0x9527_e630, 0xd0ae, 0x497b, 0xadce_e80a_b017_5caf);

/// Instance of the heartbeat that each of Hyper-V's machines has (FreeBSD's and Linux's lists of devices; so the three
/// below; OpenVMM has `INSTANCE_ID` of shutdown and time synchronisation).
pub const HEARTBEAT_INSTANCE: Guid = Guid::new(0xfd14_9e91, 0x82e0, 0x4a7d, 0xafa6_2a41_66cb_d7c0);
/// Instance of the key-value exchange.
pub const KVP_INSTANCE: Guid = Guid::new(0x242f_f919, 0x07db, 0x4180, 0x9c2e_b86c_b68c_8c55);
/// Instance of shutdown.
pub const SHUTDOWN_INSTANCE: Guid = Guid::new(0xb665_0ff7, 0x33bc, 0x4840, 0x8048_e067_6786_f393);
/// Instance of time synchronisation.
pub const TIMESYNC_INSTANCE: Guid = Guid::new(0x2dd1_ce17, 0x079e, 0x403c, 0xb352_a192_1ee2_07ee);
