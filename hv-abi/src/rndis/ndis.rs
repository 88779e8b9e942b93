//! NDIS's larger objects: what a card can take off the guest's hands, receive-side scaling, the link's state.
//!
//! Source: Linux 6.1, `drivers/net/hyperv/hyperv_net.h`, `struct ndis_*` (whose names these are); the link state from
//! OpenVMM, `vm/devices/net/netvsp/src/rndisprot.rs`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What every object begins with (`struct ndis_object_header`).
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NdisObjectHeader {
    /// `NDIS_OBJECT_TYPE_*`.
    pub kind: u8,
    /// Which layout.
    pub revision: u8,
    /// Bytes of the object.
    pub size: u16,
}

const _: () = assert!(size_of::<NdisObjectHeader>() == 4);

impl NdisObjectHeader {
    /// `NDIS_OBJECT_TYPE_DEFAULT`.
    pub const DEFAULT: u8 = 0x80;
    /// `NDIS_OBJECT_TYPE_RSS_CAPABILITIES`.
    pub const RSS_CAPABILITIES: u8 = 0x88;
    /// `NDIS_OBJECT_TYPE_RSS_PARAMETERS`.
    pub const RSS_PARAMETERS: u8 = 0x89;
    /// `NDIS_OBJECT_TYPE_OFFLOAD`.
    pub const OFFLOAD: u8 = 0xA7;
}

/// `NDIS_OFFLOAD_ENCAP_8023`: an offload is for Ethernet frames.
pub const NDIS_OFFLOAD_ENCAP_8023: u32 = 2;

/// Checksums of IPv4 that a card computes or checks (`NDIS_TXCSUM_CAP_*`, the same for both directions).
pub mod checksum4 {
    /// With IP options too.
    pub const IP_OPTIONS: u32 = 0x1;
    /// With TCP options too.
    pub const TCP_OPTIONS: u32 = 0x4;
    /// TCP's.
    pub const TCP: u32 = 0x10;
    /// UDP's.
    pub const UDP: u32 = 0x40;
    /// The header's.
    pub const IP: u32 = 0x100;
}

/// Checksums of IPv6.
pub mod checksum6 {
    /// With extension headers too.
    pub const IP_EXTENSIONS: u32 = 0x1;
    /// With TCP options too.
    pub const TCP_OPTIONS: u32 = 0x4;
    /// TCP's.
    pub const TCP: u32 = 0x10;
    /// UDP's.
    pub const UDP: u32 = 0x40;
}

/// `struct ndis_csum_offload`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ChecksumOffload {
    /// [`NDIS_OFFLOAD_ENCAP_8023`], or 0 for none.
    pub ip4_txenc: u32,
    /// [`checksum4`] that the card fills in.
    pub ip4_txcsum: u32,
    /// As [`ip4_txenc`](Self::ip4_txenc).
    pub ip4_rxenc: u32,
    /// [`checksum4`] that the card checks.
    pub ip4_rxcsum: u32,
    /// As [`ip4_txenc`](Self::ip4_txenc).
    pub ip6_txenc: u32,
    /// [`checksum6`] that the card fills in.
    pub ip6_txcsum: u32,
    /// As [`ip4_txenc`](Self::ip4_txenc).
    pub ip6_rxenc: u32,
    /// [`checksum6`] that the card checks.
    pub ip6_rxcsum: u32,
}

const _: () = assert!(size_of::<ChecksumOffload>() == 32);

/// `struct ndis_lsov2_offload`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LargeSendOffload {
    /// [`NDIS_OFFLOAD_ENCAP_8023`], or 0 for none.
    pub ip4_encap: u32,
    /// Largest TCP payload, in bytes.
    pub ip4_maxsz: u32,
    /// Least number of parts.
    pub ip4_minsg: u32,
    /// [`NDIS_OFFLOAD_ENCAP_8023`], or 0 for none.
    pub ip6_encap: u32,
    /// Largest TCP payload, in bytes.
    pub ip6_maxsz: u32,
    /// Least number of parts.
    pub ip6_minsg: u32,
    /// [`checksum6::IP_EXTENSIONS`] and [`checksum6::TCP_OPTIONS`] (`NDIS_LSOV2_CAP_*`).
    pub ip6_opts: u32,
}

const _: () = assert!(size_of::<LargeSendOffload>() == 28);

/// `struct ndis_offload`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Offload {
    /// Type [`NdisObjectHeader::OFFLOAD`].
    pub header: NdisObjectHeader,
    /// Checksums.
    pub csum: ChecksumOffload,
    /// Large sends, version 1; none.
    pub lsov1: [u32; 4],
    /// IPsec; none.
    pub ipsecv1: [u32; 7],
    /// Large sends.
    pub lsov2: LargeSendOffload,
    /// 0.
    pub flags: u32,
    /// IPsec, from revision 2 on; none.
    pub ipsecv2: [u32; 8],
    /// Receive coalescing of IPv4, from revision 3 on.
    pub rsc_ip4: u8,
    /// Receive coalescing of IPv6.
    pub rsc_ip6: u8,
    /// Padding.
    pub _padding: u16,
    /// Encapsulation; none.
    pub encap_gre: [u32; 2],
}

const _: () = assert!(size_of::<Offload>() == 156);

impl Offload {
    /// Bytes of revision 1 (`NDIS_OFFLOAD_SIZE_6_0`), with NVSP before version 4.
    pub const BYTES_1: usize = 112;
    /// Bytes of revision 2 (`NDIS_OFFLOAD_SIZE_6_1`), with NVSP 4.
    pub const BYTES_2: usize = 144;
    /// Bytes of revision 3 (`NDIS_OFFLOAD_SIZE`), with NVSP 5 and later.
    pub const BYTES_3: usize = size_of::<Self>();
}

/// `struct ndis_offload_params`: what shall be switched on. Up to NVSP 4 only the first [`Self::BYTES_NVSP_4`] are sent.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct OffloadParameters {
    /// Type [`NdisObjectHeader::DEFAULT`].
    pub header: NdisObjectHeader,
    /// IPv4's header checksum: a [`ChecksumSwitch`], as are the next four.
    pub ip_v4_csum: ChecksumSwitch,
    /// TCP over IPv4.
    pub tcp_ip_v4_csum: ChecksumSwitch,
    /// UDP over IPv4.
    pub udp_ip_v4_csum: ChecksumSwitch,
    /// TCP over IPv6.
    pub tcp_ip_v6_csum: ChecksumSwitch,
    /// UDP over IPv6.
    pub udp_ip_v6_csum: ChecksumSwitch,
    /// Large sends, version 1.
    pub lso_v1: u8,
    /// IPsec.
    pub ip_sec_v1: u8,
    /// Large sends over IPv4: 0 as it is, 1 off, 2 on; so too in the fields that follow.
    pub lso_v2_ipv4: u8,
    /// Large sends over IPv6.
    pub lso_v2_ipv6: u8,
    /// Unused.
    pub tcp_connection_ip_v4: u8,
    /// Unused.
    pub tcp_connection_ip_v6: u8,
    /// Padding.
    pub _padding: u8,
    /// 0.
    pub flags: u32,
    /// IPsec.
    pub ip_sec_v2: u8,
    /// IPsec.
    pub ip_sec_v2_ip_v4: u8,
    /// Receive coalescing over IPv4.
    pub rsc_ip_v4: u8,
    /// Receive coalescing over IPv6.
    pub rsc_ip_v6: u8,
    /// Encapsulation.
    pub encapsulated_packet_task_offload: u8,
    /// Encapsulation.
    pub encapsulation_types: u8,
    /// Padding.
    pub _padding2: u16,
}

const _: () = assert!(size_of::<OffloadParameters>() == 28);

impl OffloadParameters {
    /// `VERSION_4_OFFLOAD_SIZE`.
    pub const BYTES_NVSP_4: usize = 22;
    /// Up to and with [`flags`](Self::flags) (OpenVMM, `NDIS_SIZEOF_OFFLOAD_PARAMETERS_REVISION_1`).
    pub const BYTES_1: usize = 20;
    /// Off, for the fields that are not checksums (`NDIS_OFFLOAD_PARAMETERS_LSOV2_DISABLED`).
    pub const DISABLED: u8 = 1;
    /// On (`NDIS_OFFLOAD_PARAMETERS_LSOV2_ENABLED`).
    pub const ENABLED: u8 = 2;
}

/// `NDIS_OFFLOAD_PARAMETERS_*` of checksums.
#[repr(transparent)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ChecksumSwitch(pub u8);

impl ChecksumSwitch {
    /// As it is.
    pub const NO_CHANGE: Self = Self(0);
    /// Neither way.
    pub const TX_RX_DISABLED: Self = Self(1);
    /// The guest's only.
    pub const TX_ENABLED_RX_DISABLED: Self = Self(2);
    /// The host's only.
    pub const RX_ENABLED_TX_DISABLED: Self = Self(3);
    /// Both ways.
    pub const TX_RX_ENABLED: Self = Self(4);
}

/// `struct ndis_recv_scale_cap`, padded; guests are told of [`Self::BYTES`].
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RssCapabilities {
    /// Type [`NdisObjectHeader::RSS_CAPABILITIES`], revision 2.
    pub header: NdisObjectHeader,
    /// Bits below.
    pub cap_flag: u32,
    /// Number of interrupts.
    pub num_int_msg: u32,
    /// Number of receive queues: channels.
    pub num_recv_que: u32,
    /// Entries of the indirection table.
    pub num_indirect_tabent: u16,
    /// Padding.
    pub _padding: u16,
}

const _: () = assert!(size_of::<RssCapabilities>() == 20);

impl RssCapabilities {
    /// Bytes that go over the wire.
    pub const BYTES: usize = 18;
    /// `NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV4`, and the least significant byte's [`hash::FUNC_TOEPLITZ`].
    pub const HASH_TYPE_TCP_IPV4: u32 = 0x100;
    /// `NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6`.
    pub const HASH_TYPE_TCP_IPV6: u32 = 0x200;
    /// `NDIS_RSS_CAPS_HASH_TYPE_UDP_IPV4` (OpenVMM).
    pub const HASH_TYPE_UDP_IPV4: u32 = 0x800;
    /// `NDIS_RSS_CAPS_HASH_TYPE_UDP_IPV6` (OpenVMM).
    pub const HASH_TYPE_UDP_IPV6: u32 = 0x1000;
}

/// Hash function and types: [`RssParameters::hashinfo`].
pub mod hash {
    /// `NDIS_HASH_FUNC_TOEPLITZ`.
    pub const FUNC_TOEPLITZ: u32 = 0x1;
    /// Addresses of IPv4.
    pub const IPV4: u32 = 0x100;
    /// Addresses and ports of TCP over IPv4.
    pub const TCP_IPV4: u32 = 0x200;
    /// Addresses of IPv6.
    pub const IPV6: u32 = 0x400;
    /// Addresses and ports of TCP over IPv6.
    pub const TCP_IPV6: u32 = 0x1000;
    /// Addresses and ports of UDP over IPv4 (OpenVMM).
    pub const UDP_IPV4: u32 = 0x4000;
    /// Addresses and ports of UDP over IPv6 (OpenVMM).
    pub const UDP_IPV6: u32 = 0x8000;
}

/// `struct ndis_recv_scale_param`: table and key lie at the offsets, which count from its start. An entry of the table is 32
/// bits wide, the number of a channel.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RssParameters {
    /// Type [`NdisObjectHeader::RSS_PARAMETERS`], revision 2.
    pub header: NdisObjectHeader,
    /// Bits below.
    pub flag: u16,
    /// Unused.
    pub base_cpu_number: u16,
    /// [`hash`].
    pub hashinfo: u32,
    /// Bytes of the table.
    pub indirect_tabsize: u16,
    /// Padding.
    pub _padding1: u16,
    /// Where it begins.
    pub indirect_taboffset: u32,
    /// Bytes of the key.
    pub hashkey_size: u16,
    /// Padding.
    pub _padding2: u16,
    /// Where it begins.
    pub hashkey_offset: u32,
    /// Unused.
    pub processor_masks_offset: u32,
    /// Unused.
    pub num_processor_masks: u32,
    /// Unused.
    pub processor_masks_entry_size: u32,
}

const _: () = assert!(size_of::<RssParameters>() == 40);

impl RssParameters {
    /// `NDIS_RSS_PARAM_FLAG_HASH_INFO_UNCHANGED`.
    pub const HASH_INFO_UNCHANGED: u16 = 0x2;
    /// `NDIS_RSS_PARAM_FLAG_ITABLE_UNCHANGED`.
    pub const ITABLE_UNCHANGED: u16 = 0x4;
    /// `NDIS_RSS_PARAM_FLAG_HASH_KEY_UNCHANGED`.
    pub const HASH_KEY_UNCHANGED: u16 = 0x8;
    /// `NDIS_RSS_PARAM_FLAG_DISABLE_RSS`.
    pub const DISABLE_RSS: u16 = 0x10;
    /// Entries of the table by default (`ITAB_NUM`).
    pub const TABLE_ENTRIES: usize = 128;
    /// Bytes of the key (`NETVSC_HASH_KEYLEN`).
    pub const KEY_BYTES: usize = 40;
}

/// `NDIS_LINK_STATE`.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LinkState {
    /// Type [`NdisObjectHeader::DEFAULT`], revision 1.
    pub header: NdisObjectHeader,
    /// 1 connected, 2 disconnected (NDIS, `NET_IF_MEDIA_CONNECT_STATE`).
    pub media_connect_state: u32,
    /// 2: full (NDIS, `NET_IF_MEDIA_DUPLEX_STATE`).
    pub media_duplex_state: u32,
    /// Padding.
    pub _padding: u32,
    /// Bits per second.
    pub xmit_link_speed: u64,
    /// Bits per second.
    pub rcv_link_speed: u64,
    /// 0.
    pub pause_functions: u32,
    /// 0.
    pub auto_negotiation_flags: u32,
}

const _: () = assert!(size_of::<LinkState>() == 40);
