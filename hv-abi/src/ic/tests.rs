//! Messages byte for byte, as Linux's packed structs lay them out.

extern crate std;
use core::mem::offset_of;
use std::string::ToString;
use std::vec::Vec;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::heartbeat::{ApplicationState, HEARTBEAT_V3, HeartbeatMessage};
use super::kvp::{
    KvpDelete, KvpEnumerate, KvpExchangeValue, KvpHeader, KvpIpAddressValue, KvpOperation, KvpPool,
    KvpValueType,
};
use super::negotiate::{FRAMEWORK_V1, FRAMEWORK_V3, NegotiateHeader};
use super::shutdown::{SHTDN_REASON_FLAG_PLANNED, SHUTDOWN_FLAG_RESTART, ShutdownMessage};
use super::timesync::{ICTIMESYNCFLAG_SYNC, TimesyncMessage, TimesyncRefMessage};
use super::*;

fn header(
    message_type: IcMessageType,
    message_version: IcVersion,
    message_size: u16,
) -> IcmsgHeader {
    IcmsgHeader {
        framework_version: FRAMEWORK_V3,
        message_type,
        message_version,
        message_size,
        status: IcStatus::S_OK,
        transaction_id: 0x21,
        flags: ICMSGHDRFLAG_TRANSACTION | ICMSGHDRFLAG_REQUEST,
        _reserved: [0; 2],
    }
}

#[test]
fn a_heartbeat_is_laid_out_as_in_linux() {
    let pipe = PipeHeader { flags: PIPE_PACKET_TYPE_DATA, msgsize: 20 + 40 };
    let message = HeartbeatMessage {
        seq_num: 0x0102_0304_0506_0708,
        application_state: ApplicationState::HEALTHY,
        _reserved: [0; 7],
    };
    let header = header(IcMessageType::HEARTBEAT, HEARTBEAT_V3, 40);
    let bytes: Vec<u8> = [pipe.as_bytes(), header.as_bytes(), message.as_bytes()].concat();
    #[rustfmt::skip]
    let golden = [
        // struct vmbuspipe_hdr: flags, msgsize
        1, 0, 0, 0, 60, 0, 0, 0,
        // struct icmsg_hdr: icverframe, icmsgtype, icvermsg, icmsgsize,
        3, 0, 0, 0, 1, 0, 3, 0, 0, 0, 40, 0,
        // status, ictransaction_id, icflags, reserved
        0, 0, 0, 0, 0x21, 3, 0, 0,
        // struct heartbeat_msg_data: seq_num, reserved
        8, 7, 6, 5, 4, 3, 2, 1, 1, 0, 0, 0,
    ];
    assert_eq!(bytes[..golden.len()], golden);
    assert!(bytes[golden.len()..].iter().all(|&byte| byte == 0));
    assert_eq!(bytes.len(), 8 + 20 + 40);
}

#[test]
fn a_negotiation_is_laid_out_as_in_linux() {
    let message = NegotiateHeader { framework_count: 2, message_count: 1, _reserved: 0 };
    let versions = [FRAMEWORK_V1, FRAMEWORK_V3, IcVersion::new(0x1234, 0x5678)];
    let bytes: Vec<u8> = [message.as_bytes(), versions.as_bytes()].concat();
    #[rustfmt::skip]
    let golden = [
        // struct icmsg_negotiate: icframe_vercnt, icmsg_vercnt, reserved, icversion_data
        2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0x34, 0x12, 0x78, 0x56,
    ];
    assert_eq!(bytes, golden);
    // `vmbus_prep_negotiate_resp`: one of each, the chosen ones behind.
    let answer = [1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 1, 0];
    let answer = negotiate::NegotiateAnswer::read_from_bytes(&answer[..]).unwrap();
    assert_eq!((answer.framework, answer.message), (FRAMEWORK_V3, IcVersion::new(4, 1)));
}

#[test]
fn a_shutdown_is_laid_out_as_in_linux() {
    let mut message = ShutdownMessage::new_zeroed();
    message.reason_code = SHTDN_REASON_FLAG_PLANNED;
    message.timeout_seconds = 0x0102;
    message.flags = SHUTDOWN_FLAG_RESTART;
    message.display_message[0] = b'x';
    // struct shutdown_msg_data: reason_code, timeout_seconds, flags, display_message
    assert_eq!(message.as_bytes()[..13], [0, 0, 0, 0x80, 2, 1, 0, 0, 2, 0, 0, 0, b'x']);
}

#[test]
fn time_samples_are_laid_out_as_in_linux() {
    // struct ictimesync_data: parenttime, childtime, roundtriptime, flags
    #[rustfmt::skip]
    let old = [
        8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 1, 0, 0, 0,
    ];
    let message = TimesyncMessage::read_from_bytes(&old[..]).unwrap();
    assert_eq!(message.parent_time, U64::new(0x0102_0304_0506_0708));
    assert_eq!(message.child_time, U64::new(0x1112_1314_1516_1718));
    assert_eq!(message.round_trip_time, U64::new(0x2122_2324_2526_2728));
    assert_eq!(message.flags, ICTIMESYNCFLAG_SYNC);
    // struct ictimesync_ref_data: parenttime, vmreferencetime, flags, leapflags, stratum, reserved
    #[rustfmt::skip]
    let new = [
        8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 2, 3, 4, 0, 0, 0, 0, 0,
    ];
    let message = TimesyncRefMessage::read_from_bytes(&new[..]).unwrap();
    assert_eq!(message.vm_reference_time, U64::new(0x1112_1314_1516_1718));
    assert_eq!((message.flags, message.leap_flags, message.stratum), (2, 3, 4));
}

#[test]
fn key_value_messages_are_laid_out_as_in_linux() {
    let header = KvpHeader { operation: KvpOperation::ENUMERATE, pool: KvpPool::AUTO };
    // struct hv_kvp_hdr: operation, pool
    assert_eq!(header.as_bytes(), [3, 2]);
    let mut value = KvpExchangeValue::new_zeroed();
    value.value_type = KvpValueType::SZ;
    value.key_size = 4;
    value.value_size = 2;
    value.key[..4].copy_from_slice(&[b'k', 0, 0, 0]);
    value.value[0] = 0xEE;
    let message = KvpEnumerate { index: 0x0102, data: value };
    let bytes = message.as_bytes();
    // struct hv_kvp_msg_enumerate: index; value_type, key_size, value_size, key, value
    assert_eq!(bytes[..20], [2, 1, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, b'k', 0, 0, 0]);
    assert_eq!(bytes[16 + 512], 0xEE);
    assert_eq!(offset_of!(KvpDelete, key), 4);
}

#[test]
fn addresses_of_an_adapter_are_laid_out_as_in_linux() {
    // struct hv_kvp_ipaddr_value, packed: 128 letters, 2 bytes, then 1024, 1024, 512 and 1024 letters.
    assert_eq!(offset_of!(KvpIpAddressValue, addr_family), 256);
    assert_eq!(offset_of!(KvpIpAddressValue, dhcp_enabled), 257);
    assert_eq!(offset_of!(KvpIpAddressValue, ip_addr), 258);
    assert_eq!(offset_of!(KvpIpAddressValue, sub_net), 258 + 2048);
    assert_eq!(offset_of!(KvpIpAddressValue, gate_way), 258 + 4096);
    assert_eq!(offset_of!(KvpIpAddressValue, dns_addr), 258 + 5120);
}

#[test]
fn interfaces_have_linuxs_guids() {
    // Linux, `include/linux/hyperv.h`, the comments on `HV_…_GUID`; instances: Linux, `/sys/bus/vmbus/devices` on Hyper-V.
    let guids = [
        (HEARTBEAT_INTERFACE, "57164f39-9115-4e78-ab55-382f3bd5422d"),
        (KVP_INTERFACE, "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6"),
        (SHUTDOWN_INTERFACE, "0e0b6031-5213-4934-818b-38d90ced39db"),
        (TIMESYNC_INTERFACE, "9527e630-d0ae-497b-adce-e80ab0175caf"),
        (HEARTBEAT_INSTANCE, "fd149e91-82e0-4a7d-afa6-2a4166cbd7c0"),
        (KVP_INSTANCE, "242ff919-07db-4180-9c2e-b86cb68c8c55"),
        (SHUTDOWN_INSTANCE, "b6650ff7-33bc-4840-8048-e0676786f393"),
        (TIMESYNC_INSTANCE, "2dd1ce17-079e-403c-b352-a1921ee207ee"),
    ];
    for (guid, text) in guids {
        assert_eq!(guid.to_string(), text);
    }
}

#[test]
fn versions_are_listed_oldest_first() {
    assert!(negotiate::FRAMEWORK_VERSIONS.is_sorted());
    assert!(heartbeat::HEARTBEAT_VERSIONS.is_sorted());
    assert!(kvp::KVP_VERSIONS.is_sorted());
    assert!(shutdown::SHUTDOWN_VERSIONS.is_sorted());
    assert!(timesync::TIMESYNC_VERSIONS.is_sorted());
    assert_eq!(shutdown::SHUTDOWN_V3_2.to_string(), "3.2");
}
