//! Key-value exchange: the host reads and writes tables that the guest keeps.
//!
//! A message is a [`KvpHeader`] and, behind it, what the operation needs:
//!
//! | operation | body | at byte | the answer fills in |
//! | --- | --- | --- | --- |
//! | `GET` | [`KvpExchangeValue`] | 4 | type and value |
//! | `SET` | [`KvpExchangeValue`] | 4 | |
//! | `DELETE` | [`KvpDelete`] | 4 | |
//! | `ENUMERATE` | [`KvpEnumerate`] | 4 | key, type and value |
//! | `GET_IP_INFO`, `SET_IP_INFO` | [`KvpIpAddressValue`] | 2 | all (`GET_IP_INFO`) |
//!
//! From version 5.0 on addresses are in a binary form (OpenVMM, `IpAddressValueBinary`), which is not here. Linux answers
//! in the buffer of the request, so a request has to be as long as its answer: hosts send [`KVP_MESSAGE_BYTES`], whatever
//! the operation. One request at a time.
//!
//! Keys and values are UTF-16, little-endian, with a zero at the end that counts. Whether an answer has it, see to that
//! yourself.

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::IcVersion;

/// `WS2008_SRV_VERSION`.
pub const KVP_V1: IcVersion = IcVersion::new(1, 0);
/// `WIN7_SRV_VERSION`.
pub const KVP_V3: IcVersion = IcVersion::new(3, 0);
/// `WIN8_SRV_VERSION`: addresses of network adapters.
pub const KVP_V4: IcVersion = IcVersion::new(4, 0);
/// Addresses in binary form (OpenVMM, `KVP_VERSION_5`).
pub const KVP_V5: IcVersion = IcVersion::new(5, 0);
/// All, oldest first.
pub const KVP_VERSIONS: [IcVersion; 4] = [KVP_V1, KVP_V3, KVP_V4, KVP_V5];

/// `enum hv_kvp_exchg_op`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpOperation(pub u8);

impl KvpOperation {
    /// Value of a key.
    pub const GET: Self = Self(0);
    /// Give a key a value.
    pub const SET: Self = Self(1);
    /// Take a key away.
    pub const DELETE: Self = Self(2);
    /// Key and value by an index; [`IcStatus::S_CONT`](super::IcStatus::S_CONT) behind the last.
    pub const ENUMERATE: Self = Self(3);
    /// Addresses of a network adapter.
    pub const GET_IP_INFO: Self = Self(4);
    /// Give a network adapter addresses.
    pub const SET_IP_INFO: Self = Self(5);
}

/// `enum hv_kvp_exchg_pool`: which table. Microsoft's *Data Exchange* page says what each is for, under its name in a
/// Windows guest's registry.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpPool(pub u8);

impl KvpPool {
    /// `KVP_POOL_EXTERNAL`: what a user of the host gave the guest (*External*).
    pub const EXTERNAL: Self = Self(0);
    /// `KVP_POOL_GUEST`: what a user of the guest put there (*Guest*).
    pub const GUEST: Self = Self(1);
    /// `KVP_POOL_AUTO`: what the guest says of itself (*Auto*, "intrinsic").
    pub const AUTO: Self = Self(2);
    /// `KVP_POOL_AUTO_EXTERNAL`: what the host says of itself (*Guest\Parameters*).
    pub const AUTO_EXTERNAL: Self = Self(3);
    /// `KVP_POOL_AUTO_INTERNAL`; never exchanged (OpenVMM).
    pub const AUTO_INTERNAL: Self = Self(4);
}

/// Type of a value; numbers of Windows' registry.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpValueType(pub u32);

impl KvpValueType {
    /// `REG_SZ`: text.
    pub const SZ: Self = Self(1);
    /// `REG_EXPAND_SZ`: text with names of variables in it (OpenVMM).
    pub const EXPAND_SZ: Self = Self(2);
    /// `REG_U32`: 32 bits.
    pub const U32: Self = Self(4);
    /// `REG_U64` as Linux and FreeBSD have it: 64 bits.
    pub const U64: Self = Self(8);
    /// `REG_QWORD` as Windows and OpenVMM have it: 64 bits.
    pub const QWORD: Self = Self(11);
}

/// Bytes of a key with its zero, at most.
pub const HV_KVP_EXCHANGE_MAX_KEY_SIZE: usize = 512;
/// Bytes of a value with its zero, at most.
pub const HV_KVP_EXCHANGE_MAX_VALUE_SIZE: usize = 2048;

/// `struct hv_kvp_hdr`, without its padding.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpHeader {
    /// What to do.
    pub operation: KvpOperation,
    /// With which table.
    pub pool: KvpPool,
}

const _: () = assert!(size_of::<KvpHeader>() == 2);

/// Where a body of 32-bit fields begins in a message.
pub const KVP_BODY_OFFSET: usize = 4;
/// Where a [`KvpIpAddressValue`] begins in a message.
pub const KVP_IP_BODY_OFFSET: usize = 2;

/// `struct hv_kvp_exchg_msg_value`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpExchangeValue {
    /// What the value is.
    pub value_type: KvpValueType,
    /// Bytes of the key.
    pub key_size: u32,
    /// Bytes of the value.
    pub value_size: u32,
    /// The key.
    pub key: [u8; HV_KVP_EXCHANGE_MAX_KEY_SIZE],
    /// The value; numbers lie at its beginning.
    pub value: [u8; HV_KVP_EXCHANGE_MAX_VALUE_SIZE],
}

const _: () = assert!(size_of::<KvpExchangeValue>() == 2572);

/// `struct hv_kvp_msg_enumerate`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpEnumerate {
    /// From 0 on.
    pub index: u32,
    /// What is there.
    pub data: KvpExchangeValue,
}

const _: () = assert!(size_of::<KvpEnumerate>() == 2576);

/// `struct hv_kvp_msg_delete`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpDelete {
    /// Bytes of the key.
    pub key_size: u32,
    /// The key.
    pub key: [u8; HV_KVP_EXCHANGE_MAX_KEY_SIZE],
}

const _: () = assert!(size_of::<KvpDelete>() == 516);

/// Bytes of a message about keys: the longest, of `ENUMERATE` (OpenVMM, `KvpMessage`).
pub const KVP_MESSAGE_BYTES: usize = KVP_BODY_OFFSET + size_of::<KvpEnumerate>();

const _: () = assert!(KVP_MESSAGE_BYTES == 2580);

/// In [`KvpIpAddressValue::addr_family`]: neither.
pub const ADDR_FAMILY_NONE: u8 = 0;
/// In [`KvpIpAddressValue::addr_family`]: IPv4.
pub const ADDR_FAMILY_IPV4: u8 = 1;
/// In [`KvpIpAddressValue::addr_family`]: IPv6; may be set together with the other.
pub const ADDR_FAMILY_IPV6: u8 = 2;

/// `struct hv_kvp_ipaddr_value`: all texts are UTF-16 that ends with a zero; lists have semicolons between.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct KvpIpAddressValue {
    /// GUID of the adapter's channel as text in braces.
    pub adapter_id: [U16; 128],
    /// `ADDR_FAMILY_…`.
    pub addr_family: u8,
    /// Not 0 if addresses are the network's to give.
    pub dhcp_enabled: u8,
    /// Addresses.
    pub ip_addr: [U16; 1024],
    /// Their networks' masks.
    pub sub_net: [U16; 1024],
    /// Gateways.
    pub gate_way: [U16; 512],
    /// Name servers.
    pub dns_addr: [U16; 1024],
}

const _: () = assert!(size_of::<KvpIpAddressValue>() == 7426);

/// Keys that every guest has in [`KvpPool::AUTO`], by their index (`include/uapi/linux/hyperv.h`, *Host/Guest Protocol*).
pub const KVP_INTRINSIC_KEYS: [&str; 10] = [
    "FullyQualifiedDomainName",
    "IntegrationServicesVersion",
    "NetworkAddressIPv4",
    "NetworkAddressIPv6",
    "OSBuildNumber",
    "OSName",
    "OSMajorVersion",
    "OSMinorVersion",
    "OSVersion",
    "ProcessorArchitecture",
];
