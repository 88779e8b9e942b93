//! Starting, changing, stopping.

use std::vec;
use std::vec::Vec;

use hv_abi::nvsp::{NvspMessageType, NvspVersion};
use hv_abi::rndis::PacketFilter;
use hv_abi::rndis::oid::Oid;
use hv_abi::vmbus::version::VmbusVersion;

use super::card::{Card, MAC, Reply, words};
use super::*;
use crate::netvsc::Offloads;

/// `message` as long as Linux's `struct nvsp_message`.
fn nvsp(first: &[u32]) -> Vec<u8> {
    let mut message = words(first);
    message.resize(40, 0);
    message
}

#[test]
fn a_start_says_what_linux_says() {
    let card = Card::new().with_offloads();
    try_start(&card, NetOptions::default()).unwrap();
    let state = card.state();
    // netvsc.c: negotiate_nvsp_ver (init; config with mtu + ETH_HLEN, ieee8021q and teaming), netvsc_connect_vsp (NDIS 6.30),
    // netvsc_init_buf (receive buffer 0xcafe, send buffer 0).
    let expected = [
        nvsp(&[1, 0x0006_0001, 0x0006_0001]),
        nvsp(&[125, 1514, 0, 0x28]),
        nvsp(&[100, 6, 0x1E]),
        nvsp(&[101, state.receive_gpadl, 0xCAFE]),
        nvsp(&[104, state.send_gpadl, 0]),
    ];
    assert_eq!(state.messages, expected);
    // rndis_filter.c: init, then queries and sets with struct rndis_query_request and rndis_set_request.
    let requests: Vec<_> = state.requests.iter().map(|request| &request[..16]).collect();
    assert_eq!(state.requests[0], words(&[2, 24, 1, 1, 0, 0x4000]));
    assert_eq!(requests[1], words(&[4, 28, 2, 0x0101_0101]));
    assert_eq!(requests[2], words(&[4, 28 + 156, 3, 0xFC01_020D]));
    assert_eq!(requests[3], words(&[5, 28 + 28, 4, 0xFC01_020C]));
    assert_eq!(requests[4], words(&[4, 28, 5, 0x0001_0106]));
    assert_eq!(requests[5], words(&[4, 28, 6, 0x0001_0114]));
    assert_eq!(requests[6], words(&[4, 28, 7, 0x0001_0107]));
    assert_eq!(state.requests[7], words(&[5, 32, 8, 0x0001_010E, 4, 20, 0, 0xD]));
    assert_eq!(requests.len(), 8);
}

#[test]
fn what_the_host_says_of_the_card_is_known() {
    let card = Card::new().with_offloads();
    with_net(&card, NetOptions::default(), async |net| {
        assert_eq!(net.mac(), MAC);
        assert_eq!(net.mtu(), 1500);
        assert_eq!(net.version(), NvspVersion::V6_1);
        let link = net.link();
        assert_eq!((link.up, link.megabits, link.present), (true, 10_000, true));
        let all = Offloads {
            tcp4: true,
            udp4: true,
            tcp6: true,
            udp6: true,
            segment4: 0xF000,
            segment6: 0xF000,
        };
        assert_eq!(net.offloads(), all);
    });
}

#[test]
fn every_version_is_negotiated_and_moves_frames() {
    for version in NvspVersion::ALL {
        let card = Card::new().with(|state| {
            state.versions = NvspVersion::V1..=version;
            state.echo = true;
        });
        with_net(&card, NetOptions::default(), async |net| {
            assert_eq!(net.version(), version);
            net.transmit(&frame(300, 7), &PLAIN).unwrap();
            assert_eq!(net.received().await.unwrap()[..], frame(300, 7));
            net.stop().await.unwrap();
        });
        let types = card.state().message_types();
        let tried = types.iter().filter(|kind| **kind == 1).count();
        assert_eq!(NvspVersion::ALL[tried - 1], version);
        let config = types.contains(&125);
        assert_eq!(config, version > NvspVersion::V1, "{version:?}");
        let state = card.state();
        let ndis = state.messages.iter().find(|message| message[0] == 100).unwrap();
        assert_eq!(ndis[8], if version <= NvspVersion::V4 { 1 } else { 30 });
    }
}

#[test]
fn only_versions_that_the_options_allow_are_tried() {
    let card = Card::new().with(|state| state.versions = NvspVersion::V1..=NvspVersion::V2);
    let options =
        NetOptions { newest: NvspVersion::V5, oldest: NvspVersion::V4, ..NetOptions::default() };
    assert_eq!(try_start(&card, options), Err(NetError::NoVersion));
    assert_eq!(card.state().message_types(), [1, 1]);
}

#[test]
fn every_version_of_the_bus_will_do() {
    for version in VmbusVersion::ALL {
        let card = Card::new().with(|state| state.echo = true);
        card.host.speak(version, version);
        with_net(&card, NetOptions::default(), async |net| {
            net.transmit(&frame(64, 1), &PLAIN).unwrap();
            assert_eq!(net.received().await.unwrap()[..], frame(64, 1), "{version}");
            net.stop().await.unwrap();
        });
    }
}

#[test]
fn the_smaller_mtu_counts() {
    let card = Card::new().with(|state| {
        state.objects.insert(Oid::GEN_MAXIMUM_FRAME_SIZE.0, words(&[9000]));
    });
    let options = NetOptions { mtu: 4000, ..NetOptions::default() };
    with_net(&card, options, async |net| assert_eq!(net.mtu(), 4000));
    let config = card.state().messages[1].clone();
    assert_eq!(config[4..8], 4014_u32.to_le_bytes());
}

#[test]
fn a_host_without_offloads_is_a_host() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        assert_eq!(net.offloads(), Offloads::default());
    });
    assert_eq!(card.state().set_value(Oid::TCP_OFFLOAD_PARAMETERS), None);
}

#[test]
fn link_changes_are_told_once_each() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let mut changes = net.link_changes();
        card.say(&words(&[7, 20, 0x4001_000C, 0, 0]));
        let link = changes.next().await;
        assert!(!link.up);
        // RNDIS_STATUS_LINK_SPEED_CHANGE, 40 Gbit/s.
        card.say(&words(&[7, 24, 0x4001_0013, 4, 12, 400_000_000]));
        assert_eq!(changes.next().await.megabits, 40_000);
        card.say(&words(&[7, 20, 0x4001_000B, 0, 0]));
        assert!(changes.next().await.up);
    });
}

#[test]
fn another_network_has_its_mtu_asked_for_again() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        let mut changes = net.link_changes();
        card.state().objects.insert(Oid::GEN_MAXIMUM_FRAME_SIZE.0, words(&[1400]));
        card.say(&words(&[7, 20, 0x4001_0018, 0, 0]));
        let mut link = changes.next().await;
        assert_eq!(link.networks, 1);
        while link.mtu != 1400 {
            link = changes.next().await;
        }
        assert_eq!(net.mtu(), 1400);
    });
}

#[test]
fn the_filter_can_be_changed() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        net.set_filter(PacketFilter::PROMISCUOUS).await.unwrap();
    });
    let value = card.state().set_value(Oid::GEN_CURRENT_PACKET_FILTER);
    assert_eq!(value, Some(words(&[0x20])));
}

#[test]
fn a_stop_halts_revokes_and_gives_everything_back() {
    for version in [VmbusVersion::V3_0, VmbusVersion::V5_3] {
        let card = Card::new();
        card.host.speak(version, version);
        with_bus(&card, async |bus| {
            let before = card.host.pages_in_use();
            let net = NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap();
            net.transmit(&frame(100, 1), &PLAIN).unwrap();
            net.stop().await.unwrap();
            assert_eq!(net.run().await, NetError::Stopped);
            assert_eq!(card.host.pages_in_use(), before, "{version}");
            let state = card.state();
            assert_eq!(state.sent.len(), 1, "what was taken is sent first");
            assert_eq!(state.set_value(Oid::GEN_CURRENT_PACKET_FILTER), Some(words(&[0])));
            assert_eq!(state.requests.last().unwrap()[..4], [3, 0, 0, 0]);
            assert_eq!(state.message_types()[5..], [103, 106]);
            assert_eq!(state.messages[5], nvsp(&[103, 0xCAFE]));
            assert_eq!(state.messages[6], nvsp(&[106, 0]));
        });
    }
}

#[test]
fn a_stop_ends_the_task_and_all_waits() {
    let card = Card::new();
    with_bus(&card, async |bus| {
        let net = NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap();
        let waits = async {
            assert_eq!(net.run().await, NetError::Stopped);
            assert_eq!(net.received().await.map(drop), Err(NetError::Stopped));
            assert!(net.room(1514).await.is_err());
        };
        let stop = async { net.stop().await.unwrap() };
        both(waits, stop).await;
        assert!(!net.link().present);
        assert_eq!(net.stop().await, Err(NetError::Stopped), "once is enough");
    });
}

#[test]
fn a_stopped_adapter_can_be_started_again() {
    let card = Card::new().with(|state| state.echo = true).with_queues(2);
    with_bus(&card, async |bus| {
        for seed in 0..3 {
            let net = NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap();
            net.transmit(&frame(200, seed), &PLAIN).unwrap();
            let task = async { Err(net.run().await) };
            let received = first_of(task, net.received()).await.unwrap();
            assert_eq!(received[..], frame(200, seed));
            net.stop().await.unwrap();
        }
    });
}

#[test]
fn a_dropped_adapter_is_closed_in_the_background() {
    let card = Card::new();
    with_bus(&card, async |bus| {
        let before = card.host.pages_in_use();
        drop(NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap());
        card.host.until(|host| host.pages_in_use() == before).await;
    });
}

#[test]
fn channels_are_opened_and_frames_spread_over_them() {
    let card = Card::new().with_queues(4);
    let options = NetOptions { channels: 8, vps: vec![3, 5], ..NetOptions::default() };
    with_net(&card, options, async |net| {
        assert_eq!(net.channels(), 4);
        for port in 0..64 {
            net.transmit(&tcp_frame(1000 + port, 100), &PLAIN).unwrap();
        }
        net.flush();
        card.until(|state| state.sent.len() == 64).await;
        for channel in 0..4 {
            card.deliver(channel, &[(frame(100, channel as u8), vec![])]);
            let received = net.received().await.unwrap();
            assert_eq!(received.info().channel, channel);
            assert_eq!(received[..], frame(100, channel as u8));
        }
        net.stop().await.unwrap();
    });
    let state = card.state();
    let on = |channel: u16| state.sent.iter().filter(|sent| sent.channel == channel).count();
    for channel in 0..4 {
        assert!(on(channel) > 4, "{channel}: {}", on(channel));
    }
    // NBL_HASH_VALUE beside each.
    assert!(state.sent.iter().all(|sent| sent.head[44..52] == words(&[16, 8])));
    // struct ndis_recv_scale_param with 128 entries of the table, 0 to 3 in turn.
    let value = state.set_value(Oid::GEN_RECEIVE_SCALE_PARAMETERS).unwrap();
    assert_eq!(value.len(), 40 + 128 * 4 + 40);
    assert_eq!(value[40..60], words(&[0, 1, 2, 3, 0]));
}

#[test]
fn a_flow_keeps_to_the_channel_that_the_host_says() {
    let card = Card::new().with_queues(2);
    let options = NetOptions { channels: 2, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        // struct nvsp_5_send_indirect_table: all flows by channel 1; the table at 40, as old hosts have it, or where it says.
        let mut table = words(&[134, 16, 12]);
        table.extend(words(&[1; 16]));
        card.end(0).send(&vmbus_ring::OutgoingPacket::in_band(0, &[&table]));
        net.poll();
        for port in 0..16 {
            net.transmit(&tcp_frame(port, 10), &PLAIN).unwrap();
        }
        net.flush();
        card.until(|state| state.sent.len() == 16).await;
    });
    assert!(card.state().sent.iter().all(|sent| sent.channel == 1));
}

#[test]
fn a_host_that_grants_fewer_channels_gets_fewer() {
    let granted = words(&[133, 1, 0]);
    let card =
        Card::new().with_queues(4).replying(NvspMessageType::SUBCHANNEL, Reply::Bytes(granted));
    let options = NetOptions { channels: 4, ..NetOptions::default() };
    with_net(&card, options, async |net| assert_eq!(net.channels(), 1));
}

#[test]
fn before_version_5_there_is_one_channel() {
    let card =
        Card::new().with_queues(4).with(|state| state.versions = NvspVersion::V1..=NvspVersion::V4);
    let options = NetOptions { channels: 4, ..NetOptions::default() };
    with_net(&card, options, async |net| assert_eq!(net.channels(), 1));
    assert!(!card.state().message_types().contains(&133));
}
