//! The objects of a card that are queried and set, by their numbers.
//!
//! Source: Linux 6.1, `include/linux/rndis.h`, `RNDIS_OID_*`, and `drivers/net/hyperv/hyperv_net.h`, `OID_*`; the link state
//! from OpenVMM, `vm/devices/net/netvsp/src/rndisprot.rs`. All values are 32 bits wide unless another is said.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An object identifier.
#[repr(transparent)]
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Oid(pub u32);

impl Oid {
    /// List of all that the card has.
    pub const GEN_SUPPORTED_LIST: Self = Self(0x0001_0101);
    /// 0: ready.
    pub const GEN_HARDWARE_STATUS: Self = Self(0x0001_0102);
    /// List of media.
    pub const GEN_MEDIA_SUPPORTED: Self = Self(0x0001_0103);
    /// List of media in use.
    pub const GEN_MEDIA_IN_USE: Self = Self(0x0001_0104);
    /// Bytes that can be looked at before a frame is taken.
    pub const GEN_MAXIMUM_LOOKAHEAD: Self = Self(0x0001_0105);
    /// Bytes of a frame without its Ethernet header.
    pub const GEN_MAXIMUM_FRAME_SIZE: Self = Self(0x0001_0106);
    /// In units of 100 bits per second.
    pub const GEN_LINK_SPEED: Self = Self(0x0001_0107);
    /// Bytes.
    pub const GEN_TRANSMIT_BUFFER_SPACE: Self = Self(0x0001_0108);
    /// Bytes.
    pub const GEN_RECEIVE_BUFFER_SPACE: Self = Self(0x0001_0109);
    /// Bytes.
    pub const GEN_TRANSMIT_BLOCK_SIZE: Self = Self(0x0001_010A);
    /// Bytes.
    pub const GEN_RECEIVE_BLOCK_SIZE: Self = Self(0x0001_010B);
    /// Three bytes of the vendor's address range.
    pub const GEN_VENDOR_ID: Self = Self(0x0001_010C);
    /// A string of bytes with its end.
    pub const GEN_VENDOR_DESCRIPTION: Self = Self(0x0001_010D);
    /// [`PacketFilter`](super::PacketFilter): which frames pass; none until it is set.
    pub const GEN_CURRENT_PACKET_FILTER: Self = Self(0x0001_010E);
    /// Bytes.
    pub const GEN_CURRENT_LOOKAHEAD: Self = Self(0x0001_010F);
    /// 16 bits: the NDIS version, major in the upper byte.
    pub const GEN_DRIVER_VERSION: Self = Self(0x0001_0110);
    /// Bytes of a frame with its Ethernet header.
    pub const GEN_MAXIMUM_TOTAL_SIZE: Self = Self(0x0001_0111);
    /// Flags.
    pub const GEN_PROTOCOL_OPTIONS: Self = Self(0x0001_0112);
    /// Flags.
    pub const GEN_MAC_OPTIONS: Self = Self(0x0001_0113);
    /// [`RNDIS_MEDIA_STATE_CONNECTED`](super::RNDIS_MEDIA_STATE_CONNECTED) or not.
    pub const GEN_MEDIA_CONNECT_STATUS: Self = Self(0x0001_0114);
    /// Frames that a sender may have under way.
    pub const GEN_MAXIMUM_SEND_PACKETS: Self = Self(0x0001_0115);
    /// The vendor's number.
    pub const GEN_VENDOR_DRIVER_VERSION: Self = Self(0x0001_0116);
    /// List of addresses; may be set.
    pub const GEN_NETWORK_LAYER_ADDRESSES: Self = Self(0x0001_0118);
    /// Where transport headers begin; may be set.
    pub const GEN_TRANSPORT_HEADER_OFFSET: Self = Self(0x0001_0119);
    /// What it is made of.
    pub const GEN_PHYSICAL_MEDIUM: Self = Self(0x0001_0202);
    /// [`RssCapabilities`](super::ndis::RssCapabilities).
    pub const GEN_RECEIVE_SCALE_CAPABILITIES: Self = Self(0x0001_0203);
    /// [`RssParameters`](super::ndis::RssParameters); may be set.
    pub const GEN_RECEIVE_SCALE_PARAMETERS: Self = Self(0x0001_0204);
    /// Two 64-bit numbers: bits per second out and in.
    pub const GEN_MAX_LINK_SPEED: Self = Self(0x0001_0206);
    /// [`LinkState`](super::ndis::LinkState).
    pub const GEN_LINK_STATE: Self = Self(0x0001_0207);
    /// [`RndisConfigParameter`](super::RndisConfigParameter); only set.
    pub const GEN_RNDIS_CONFIG_PARAMETER: Self = Self(0x0001_021B);
    /// VLAN of all frames.
    pub const GEN_VLAN_ID: Self = Self(0x0001_021C);

    /// Frames sent.
    pub const GEN_XMIT_OK: Self = Self(0x0002_0101);
    /// Frames received.
    pub const GEN_RCV_OK: Self = Self(0x0002_0102);
    /// Frames not sent.
    pub const GEN_XMIT_ERROR: Self = Self(0x0002_0103);
    /// Frames received with errors.
    pub const GEN_RCV_ERROR: Self = Self(0x0002_0104);
    /// Frames dropped because the guest had no room.
    pub const GEN_RCV_NO_BUFFER: Self = Self(0x0002_0105);
    /// The card's name, UTF-16, with its end.
    pub const GEN_FRIENDLY_NAME: Self = Self(0x0002_0216);

    /// Six bytes: the address the card came with.
    pub const IEEE_802_3_PERMANENT_ADDRESS: Self = Self(0x0101_0101);
    /// Six bytes: the address it uses.
    pub const IEEE_802_3_CURRENT_ADDRESS: Self = Self(0x0101_0102);
    /// List of multicast addresses; may be set.
    pub const IEEE_802_3_MULTICAST_LIST: Self = Self(0x0101_0103);
    /// Entries that it may have.
    pub const IEEE_802_3_MAXIMUM_LIST_SIZE: Self = Self(0x0101_0104);
    /// Flags.
    pub const IEEE_802_3_MAC_OPTIONS: Self = Self(0x0101_0105);
    /// Frames with a wrong alignment.
    pub const IEEE_802_3_RCV_ERROR_ALIGNMENT: Self = Self(0x0102_0101);
    /// Frames sent after one collision.
    pub const IEEE_802_3_XMIT_ONE_COLLISION: Self = Self(0x0102_0102);
    /// Frames sent after more.
    pub const IEEE_802_3_XMIT_MORE_COLLISIONS: Self = Self(0x0102_0103);

    /// Encapsulation; may be set.
    pub const OFFLOAD_ENCAPSULATION: Self = Self(0x0101_010A);
    /// [`Offload`](super::ndis::Offload): what is switched on.
    pub const TCP_OFFLOAD_CURRENT_CONFIG: Self = Self(0xFC01_020B);
    /// [`OffloadParameters`](super::ndis::OffloadParameters): switches them; only set.
    pub const TCP_OFFLOAD_PARAMETERS: Self = Self(0xFC01_020C);
    /// [`Offload`](super::ndis::Offload): what there is.
    pub const TCP_OFFLOAD_HARDWARE_CAPABILITIES: Self = Self(0xFC01_020D);
}
