use core::mem::offset_of;

use super::ndis::*;
use super::*;

#[test]
fn a_request_has_the_bytes_of_linux() {
    // rndis_filter_init_device: MSG_INIT, 24 bytes, request 1, version 1.0, 16 KiB.
    let init = RndisInitialize {
        header: RndisHeader::new(RndisMessageType::INIT, 24),
        req_id: 1,
        major_ver: RNDIS_MAJOR_VERSION,
        minor_ver: RNDIS_MINOR_VERSION,
        max_xfer_size: 0x4000,
    };
    let bytes = [2, 0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0];
    assert_eq!(init.as_bytes(), bytes);
}

#[test]
fn a_filter_is_set_as_linux_does() {
    // rndis_filter_set_packet_filter: info_buf_offset is offsetof(struct rndis_set_request, info_buf), 20.
    let set = RndisSet {
        header: RndisHeader::new(RndisMessageType::SET, 32),
        req_id: 7,
        oid: Oid::GEN_CURRENT_PACKET_FILTER,
        info_buflen: 4,
        info_buf_offset: 20,
        dev_vc_handle: 0,
    };
    let bytes =
        [5, 0, 0, 0, 32, 0, 0, 0, 7, 0, 0, 0, 0x0E, 1, 1, 0, 4, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(set.as_bytes(), bytes);
    assert_eq!(size_of::<RndisSet>() - RNDIS_HEADER_BYTES, 20);
    let linux = PacketFilter::BROADCAST | PacketFilter::ALL_MULTICAST | PacketFilter::DIRECTED;
    assert_eq!(linux.bits(), 0xD);
}

#[test]
fn a_packet_has_the_bytes_of_linux() {
    // netvsc_xmit: struct rndis_packet is 36 bytes; data follows 100 - 8 bytes of header and info.
    let packet = RndisPacket {
        header: RndisHeader::new(RndisMessageType::PACKET, 160),
        data_offset: 92,
        data_len: 60,
        oob_data_offset: 0,
        oob_data_len: 0,
        num_oob_data_elements: 0,
        per_pkt_info_offset: 36,
        per_pkt_info_len: 56,
        vc_handle: 0,
        _reserved: 0,
    };
    let mut bytes = [0; 44];
    for (at, byte) in [(0, 1), (4, 160), (8, 92), (12, 60), (28, 36), (32, 56)] {
        bytes[at] = byte;
    }
    assert_eq!(packet.as_bytes(), bytes);
}

#[test]
fn objects_have_the_layout_of_linux() {
    // Counted by hand from hyperv_net.h, with the natural alignment that its structs have.
    assert_eq!(offset_of!(Offload, ipsecv2), Offload::BYTES_1);
    assert_eq!(offset_of!(Offload, rsc_ip4), Offload::BYTES_2);
    assert_eq!(Offload::BYTES_3, 156);
    assert_eq!(offset_of!(Offload, lsov2), 80);
    assert_eq!(offset_of!(OffloadParameters, lso_v2_ipv4), 11);
    assert_eq!(offset_of!(OffloadParameters, flags), 16);
    assert_eq!(offset_of!(OffloadParameters, rsc_ip_v4), OffloadParameters::BYTES_NVSP_4);
    assert_eq!(offset_of!(RssParameters, indirect_taboffset), 16);
    assert_eq!(offset_of!(RssParameters, hashkey_offset), 24);
    assert_eq!(offset_of!(RssCapabilities, num_indirect_tabent), 16);
}

#[test]
fn answers_have_their_requests_number_and_bit_31() {
    for (request, answer) in [
        (RndisMessageType::INIT, RndisMessageType::INIT_C),
        (RndisMessageType::QUERY, RndisMessageType::QUERY_C),
        (RndisMessageType::SET, RndisMessageType::SET_C),
        (RndisMessageType::RESET, RndisMessageType::RESET_C),
        (RndisMessageType::KEEPALIVE, RndisMessageType::KEEPALIVE_C),
    ] {
        assert_eq!(answer.0, request.0 | 1 << 31);
    }
}
