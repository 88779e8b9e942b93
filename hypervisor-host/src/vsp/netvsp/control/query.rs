//! The objects that a guest may ask for.

use hv_abi::rndis::ndis::{LinkState, NdisObjectHeader, RssCapabilities, RssParameters, hash};
use hv_abi::rndis::oid::Oid;
use hv_abi::rndis::{
    RNDIS_MEDIA_STATE_CONNECTED, RNDIS_MEDIA_STATE_DISCONNECTED, RNDIS_MEDIUM_802_3, RndisStatus,
};
use zerocopy::IntoBytes;

use super::super::offloads::OffloadState;
use super::super::settings::{MAX_MULTICAST, Settings};
use super::{Card, MAX_PACKETS};
use crate::net::frame::ETHERNET_HEADER;

/// Bits per second that the guest is told: 10 Gbit/s, as Hyper-V's own switch says. Nothing holds to it.
const SPEED: u64 = 10_000_000_000;
/// `NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA`, `TRANSFERS_NOT_PEND`, `NO_LOOPBACK`, `FULL_DUPLEX`, `8021P_PRIORITY`,
/// `8021Q_VLAN` (Linux, `include/linux/rndis.h`; the last from OpenVMM, `rndisprot.rs`).
const MAC_OPTIONS: u32 = 0x1 | 0x4 | 0x8 | 0x10 | 0x40 | 0x200;
/// Buffer space that the guest is told.
const BUFFER_SPACE: u32 = 1 << 20;
/// NDIS 6.30.
const DRIVER_VERSION: u16 = 0x061E;
const NAME: &str = "Enlighten";

/// All that [`query`] answers, and what only can be set.
const SUPPORTED: [Oid; 43] = [
    Oid::GEN_SUPPORTED_LIST,
    Oid::GEN_HARDWARE_STATUS,
    Oid::GEN_MEDIA_SUPPORTED,
    Oid::GEN_MEDIA_IN_USE,
    Oid::GEN_MAXIMUM_LOOKAHEAD,
    Oid::GEN_MAXIMUM_FRAME_SIZE,
    Oid::GEN_LINK_SPEED,
    Oid::GEN_TRANSMIT_BUFFER_SPACE,
    Oid::GEN_RECEIVE_BUFFER_SPACE,
    Oid::GEN_TRANSMIT_BLOCK_SIZE,
    Oid::GEN_RECEIVE_BLOCK_SIZE,
    Oid::GEN_VENDOR_ID,
    Oid::GEN_VENDOR_DESCRIPTION,
    Oid::GEN_VENDOR_DRIVER_VERSION,
    Oid::GEN_CURRENT_PACKET_FILTER,
    Oid::GEN_CURRENT_LOOKAHEAD,
    Oid::GEN_DRIVER_VERSION,
    Oid::GEN_MAXIMUM_TOTAL_SIZE,
    Oid::GEN_MAC_OPTIONS,
    Oid::GEN_MEDIA_CONNECT_STATUS,
    Oid::GEN_MAXIMUM_SEND_PACKETS,
    Oid::GEN_NETWORK_LAYER_ADDRESSES,
    Oid::GEN_TRANSPORT_HEADER_OFFSET,
    Oid::GEN_RECEIVE_SCALE_CAPABILITIES,
    Oid::GEN_RECEIVE_SCALE_PARAMETERS,
    Oid::GEN_MAX_LINK_SPEED,
    Oid::GEN_LINK_STATE,
    Oid::GEN_RNDIS_CONFIG_PARAMETER,
    Oid::GEN_XMIT_OK,
    Oid::GEN_RCV_OK,
    Oid::GEN_XMIT_ERROR,
    Oid::GEN_RCV_ERROR,
    Oid::GEN_RCV_NO_BUFFER,
    Oid::GEN_FRIENDLY_NAME,
    Oid::IEEE_802_3_PERMANENT_ADDRESS,
    Oid::IEEE_802_3_CURRENT_ADDRESS,
    Oid::IEEE_802_3_MULTICAST_LIST,
    Oid::IEEE_802_3_MAXIMUM_LIST_SIZE,
    Oid::IEEE_802_3_RCV_ERROR_ALIGNMENT,
    Oid::OFFLOAD_ENCAPSULATION,
    Oid::TCP_OFFLOAD_CURRENT_CONFIG,
    Oid::TCP_OFFLOAD_PARAMETERS,
    Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES,
];

/// The value of an object; `input` is what the guest sent with the question.
pub(super) fn query(
    card: &Card,
    settings: &Settings,
    oid: Oid,
    input: &[u8],
) -> Result<Vec<u8>, RndisStatus> {
    let frame = settings.frame_bytes as u32;
    let counts = &card.counts;
    let value = match oid {
        Oid::GEN_SUPPORTED_LIST => return Ok(SUPPORTED.as_bytes().to_vec()),
        Oid::GEN_HARDWARE_STATUS | Oid::IEEE_802_3_RCV_ERROR_ALIGNMENT => 0,
        Oid::GEN_MEDIA_SUPPORTED | Oid::GEN_MEDIA_IN_USE => RNDIS_MEDIUM_802_3,
        // The card's own, so that a guest that was configured for less finds the way back.
        Oid::GEN_MAXIMUM_FRAME_SIZE => card.mtu.into(),
        Oid::GEN_MAXIMUM_LOOKAHEAD | Oid::GEN_CURRENT_LOOKAHEAD => {
            frame.saturating_sub(ETHERNET_HEADER as u32)
        }
        Oid::GEN_MAXIMUM_TOTAL_SIZE
        | Oid::GEN_TRANSMIT_BLOCK_SIZE
        | Oid::GEN_RECEIVE_BLOCK_SIZE => frame,
        Oid::GEN_LINK_SPEED => (SPEED / 100) as u32,
        Oid::GEN_TRANSMIT_BUFFER_SPACE | Oid::GEN_RECEIVE_BUFFER_SPACE => BUFFER_SPACE,
        Oid::GEN_VENDOR_ID => 0xFF_FFFF,
        Oid::GEN_VENDOR_DESCRIPTION => return Ok([NAME.as_bytes(), &[0]].concat()),
        Oid::GEN_VENDOR_DRIVER_VERSION => 1,
        Oid::GEN_CURRENT_PACKET_FILTER => settings.filter.bits(),
        Oid::GEN_DRIVER_VERSION => return Ok(DRIVER_VERSION.as_bytes().to_vec()),
        Oid::GEN_MAC_OPTIONS => MAC_OPTIONS,
        Oid::GEN_MEDIA_CONNECT_STATUS if card.link_up => RNDIS_MEDIA_STATE_CONNECTED,
        Oid::GEN_MEDIA_CONNECT_STATUS => RNDIS_MEDIA_STATE_DISCONNECTED,
        Oid::GEN_MAXIMUM_SEND_PACKETS => MAX_PACKETS,
        Oid::GEN_RECEIVE_SCALE_CAPABILITIES => return Ok(rss_capabilities(card)),
        Oid::GEN_MAX_LINK_SPEED => return Ok([SPEED, SPEED].as_bytes().to_vec()),
        Oid::GEN_LINK_STATE => return Ok(link_state(card)),
        Oid::GEN_XMIT_OK => counts.tx_frames as u32,
        Oid::GEN_RCV_OK => counts.rx_frames as u32,
        Oid::GEN_XMIT_ERROR => (counts.tx_dropped + counts.tx_invalid) as u32,
        Oid::GEN_RCV_ERROR => counts.rx_invalid as u32,
        Oid::GEN_RCV_NO_BUFFER => counts.rx_no_buffer as u32,
        Oid::GEN_FRIENDLY_NAME => return Ok(friendly_name()),
        Oid::IEEE_802_3_PERMANENT_ADDRESS => return Ok(card.address.0.to_vec()),
        Oid::IEEE_802_3_CURRENT_ADDRESS => return Ok(settings.address.0.to_vec()),
        Oid::IEEE_802_3_MULTICAST_LIST => {
            return Ok(settings.multicast.iter().flat_map(|address| address.0).collect());
        }
        Oid::IEEE_802_3_MAXIMUM_LIST_SIZE => MAX_MULTICAST as u32,
        Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES => {
            return Ok(OffloadState::default().object(input, settings.version()));
        }
        Oid::TCP_OFFLOAD_CURRENT_CONFIG => {
            return Ok(settings.offloads.object(input, settings.version()));
        }
        _ => return Err(RndisStatus::NOT_SUPPORTED),
    };
    Ok(value.to_le_bytes().to_vec())
}

fn rss_capabilities(card: &Card) -> Vec<u8> {
    let capabilities = RssCapabilities {
        header: NdisObjectHeader {
            kind: NdisObjectHeader::RSS_CAPABILITIES,
            revision: 2,
            size: RssCapabilities::BYTES as u16,
        },
        cap_flag: RssCapabilities::HASH_TYPE_TCP_IPV4
            | RssCapabilities::HASH_TYPE_TCP_IPV6
            | RssCapabilities::HASH_TYPE_UDP_IPV4
            | RssCapabilities::HASH_TYPE_UDP_IPV6
            | hash::FUNC_TOEPLITZ,
        num_int_msg: card.queues.into(),
        num_recv_que: card.queues.into(),
        num_indirect_tabent: RssParameters::TABLE_ENTRIES as u16,
        _padding: 0,
    };
    let bytes = capabilities.as_bytes();
    bytes.get(..RssCapabilities::BYTES).unwrap_or_default().to_vec()
}

fn link_state(card: &Card) -> Vec<u8> {
    let state = LinkState {
        header: NdisObjectHeader {
            kind: NdisObjectHeader::DEFAULT,
            revision: 1,
            size: size_of::<LinkState>() as u16,
        },
        media_connect_state: if card.link_up { 1 } else { 2 },
        media_duplex_state: 2,
        xmit_link_speed: SPEED,
        rcv_link_speed: SPEED,
        ..LinkState::default()
    };
    state.as_bytes().to_vec()
}

/// What Hyper-V calls a card by default: Linux takes other names for an alias.
fn friendly_name() -> Vec<u8> {
    let text = "Network Adapter\0".encode_utf16();
    text.flat_map(u16::to_le_bytes).collect()
}
