//! Hosts that answer badly, not at all, or go away. Every wait ends, and what was had is given back.

use std::vec;

use hv_abi::nvsp::NvspMessageType;
use hv_abi::rndis::oid::Oid;
use hv_abi::vmbus::message::MessageType;
use vmbus_ring::Control;

use super::card::{Card, PART_BYTES, Reply, words};
use super::*;
use crate::bus::ChannelError;
use crate::fake::Mischief;
use crate::netvsc::{Offloads, TransmitError};

fn is_gone(error: NetError) -> bool {
    error == NetError::Channel(ChannelError::Rescinded)
}

#[test]
fn sections_that_overflow_or_are_none_are_refused() {
    for section in [
        [0, u32::MAX, u32::MAX, 0],
        [0, 0x1_0000, 0x1_0000, 0],
        [0, 0, 0, 0],
        [4096, 1728, 10, 0],
        [0, 1728, 1 << 20, 0],
    ] {
        let mut reply = words(&[102, 1, 1]);
        reply.extend(words(&section));
        let card = Card::new().replying(NvspMessageType::SEND_RECV_BUF, Reply::Bytes(reply));
        assert_eq!(
            try_start(&card, NetOptions::default()),
            Err(NetError::Malformed),
            "{section:?}"
        );
    }
    for count in [0, 2, u32::MAX] {
        let reply = words(&[102, 1, count, 0, PART_BYTES, 10, 0]);
        let card = Card::new().replying(NvspMessageType::SEND_RECV_BUF, Reply::Bytes(reply));
        assert_eq!(try_start(&card, NetOptions::default()), Err(NetError::Malformed), "{count}");
    }
    for size in [0, 67, (1 << 20) + 1, u32::MAX] {
        let reply = words(&[105, 1, size]);
        let card = Card::new().replying(NvspMessageType::SEND_SEND_BUF, Reply::Bytes(reply));
        assert_eq!(try_start(&card, NetOptions::default()), Err(NetError::Malformed), "{size}");
    }
}

#[test]
fn buffers_that_the_host_refuses_end_the_start() {
    for kind in [NvspMessageType::SEND_RECV_BUF, NvspMessageType::SEND_SEND_BUF] {
        let reply = words(&[kind.0 + 1, 2, 1, 0, 1728, 10, 0]);
        let card = Card::new().replying(kind, Reply::Bytes(reply));
        assert_eq!(try_start(&card, NetOptions::default()), Err(NetError::Refused(2)));
    }
}

#[test]
fn answers_cut_off_are_refused() {
    for kind in
        [NvspMessageType::INIT, NvspMessageType::SEND_RECV_BUF, NvspMessageType::SEND_SEND_BUF]
    {
        for bytes in [vec![], vec![1, 2], words(&[kind.0 + 1, 1])] {
            let card = Card::new().replying(kind, Reply::Bytes(bytes));
            assert_eq!(try_start(&card, NetOptions::default()), Err(NetError::Malformed));
        }
    }
}

#[test]
fn a_host_that_never_answers_runs_into_the_time_limit() {
    for kind in
        [NvspMessageType::INIT, NvspMessageType::SEND_RECV_BUF, NvspMessageType::SEND_SEND_BUF]
    {
        let card = Card::new().replying(kind, Reply::Silence);
        assert_eq!(try_start(&card, NetOptions::default()), Err(NetError::TimedOut), "{kind:?}");
    }
    for oid in [
        Oid::IEEE_802_3_PERMANENT_ADDRESS,
        Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES,
        Oid::GEN_MAXIMUM_FRAME_SIZE,
        Oid::GEN_CURRENT_PACKET_FILTER,
    ] {
        let card = Card::new().object(oid, Reply::Silence);
        assert_eq!(try_start(&card, NetOptions::default()), Err(NetError::TimedOut), "{oid:?}");
    }
}

#[test]
fn a_host_that_answers_twice_is_heard_once() {
    let card = Card::new()
        .replying(NvspMessageType::SEND_RECV_BUF, Reply::Twice)
        .replying(NvspMessageType::INIT, Reply::Twice)
        .object(Oid::IEEE_802_3_PERMANENT_ADDRESS, Reply::Twice)
        .object(Oid::GEN_LINK_SPEED, Reply::Twice);
    with_net(&card, NetOptions::default(), async |net| {
        works(&card, net).await;
        assert_eq!(net.mac(), super::card::MAC);
        assert_eq!(net.statistics().malformed, 4);
    });
}

#[test]
fn queries_answered_with_wrong_lengths_are_refused() {
    for (length, offset) in [(3, 16), (0, 16), (6, u32::MAX), (u32::MAX, 16), (7, 16)] {
        let mut bytes = words(&[0x8000_0004, 30, 0, 0, length, offset]);
        bytes.extend([1, 2, 3, 4, 5, 6]);
        let card = Card::new().object(Oid::IEEE_802_3_PERMANENT_ADDRESS, Reply::Bytes(bytes));
        let started = try_start(&card, NetOptions::default());
        assert_eq!(started, Err(NetError::Malformed), "{length} at {offset}");
    }
}

#[test]
fn answers_of_another_kind_are_refused() {
    let card = Card::new()
        .object(Oid::IEEE_802_3_PERMANENT_ADDRESS, Reply::Bytes(words(&[0x8000_0005, 16, 0, 0])));
    assert_eq!(try_start(&card, NetOptions::default()), Err(NetError::Malformed));
}

#[test]
fn nonsense_about_what_the_card_can_do_leaves_it_unused() {
    for bytes in [
        words(&[0x8000_0004, 24, 0, 0, 0, 16]),
        words(&[0x8000_0004, 28, 0, 0, 4, 16, u32::MAX]),
        words(&[0x8000_0004, 24, 0, 0xC000_00BB, 0, 0]),
    ] {
        let card = Card::new()
            .with_queues(4)
            .object(Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES, Reply::Bytes(bytes.clone()))
            .object(Oid::GEN_RECEIVE_SCALE_CAPABILITIES, Reply::Bytes(bytes.clone()))
            .object(Oid::GEN_MEDIA_CONNECT_STATUS, Reply::Bytes(bytes));
        let options = NetOptions { channels: 4, ..NetOptions::default() };
        with_net(&card, options, async |net| {
            assert_eq!(net.offloads(), Offloads::default());
            assert_eq!(net.channels(), 1);
            works(&card, net).await;
        });
    }
}

#[test]
fn more_channels_than_were_asked_for_make_no_sense() {
    let reply = Reply::Bytes(words(&[133, 1, u32::MAX]));
    let card = Card::new().with_queues(4).replying(NvspMessageType::SUBCHANNEL, reply);
    let options = NetOptions { channels: 2, ..NetOptions::default() };
    assert_eq!(try_start(&card, options), Err(NetError::Malformed));
}

#[test]
fn promised_channels_that_never_come_are_done_without() {
    let reply = Reply::Bytes(words(&[133, 1, 3]));
    let card = Card::new()
        .with_queues(4)
        .replying(NvspMessageType::SUBCHANNEL, reply)
        .with(|state| state.receive_queues = 2);
    let options = NetOptions { channels: 4, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        assert_eq!(net.channels(), 2);
        works(&card, net).await;
    });
}

#[test]
fn a_channel_that_cannot_be_opened_is_done_without() {
    let card = Card::new().with_queues(4);
    let options = NetOptions { channels: 4, ..NetOptions::default() };
    with_bus(&card, async |bus| {
        // The primary, then two; the third sub-channel is refused.
        card.host.misbehave(MessageType::OPENCHANNEL, 3, Mischief::First(vec![]));
        card.host.misbehave(MessageType::OPENCHANNEL, 1, Mischief::Refuse(0xC000_0001));
        let net = NetVsc::start(bus, card.channel, options).await.unwrap();
        assert_eq!(net.channels(), 3);
    });
}

#[test]
fn a_rescind_ends_every_wait() {
    let card = Card::new();
    with_bus(&card, async |bus| {
        let net = NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap();
        let task = async { assert!(is_gone(net.run().await)) };
        let receiver = async { assert!(net.received().await.is_err_and(is_gone)) };
        let sender = async {
            loop {
                match net.transmit(&frame(1514, 0), &PLAIN) {
                    Ok(()) => net.flush(),
                    Err(TransmitError::Full) => {
                        if net.room(1514).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        assert_eq!(error, TransmitError::Ended);
                        break;
                    }
                }
            }
        };
        let link = async {
            let mut changes = net.link_changes();
            while changes.next().await.present {}
        };
        card.state().withhold = true;
        let rescind = async {
            card.until(|state| state.sent.len() > 20).await;
            card.host.rescind(card.channel);
        };
        both(both(task, both(receiver, sender)), both(link, rescind)).await;
        assert_eq!(
            net.set_filter(hv_abi::rndis::PacketFilter::empty()).await.map_err(is_gone),
            Err(true)
        );
        assert_eq!(net.stop().await.map_err(is_gone), Err(true));
    });
}

#[test]
fn a_rescind_while_it_starts_ends_the_start() {
    let kinds = [
        NvspMessageType::INIT,
        NvspMessageType::SEND_RECV_BUF,
        NvspMessageType::SEND_SEND_BUF,
        NvspMessageType::SUBCHANNEL,
    ];
    for kind in kinds {
        let card = Card::new().with_queues(2).replying(kind, Reply::Rescind);
        let options = NetOptions { channels: 2, ..NetOptions::default() };
        assert_eq!(try_start(&card, options).map_err(is_gone), Err(true), "{kind:?}");
    }
    for oid in
        [Oid::IEEE_802_3_PERMANENT_ADDRESS, Oid::GEN_LINK_SPEED, Oid::GEN_CURRENT_PACKET_FILTER]
    {
        let card = Card::new().object(oid, Reply::Rescind);
        let started = try_start(&card, NetOptions::default());
        assert_eq!(started.map_err(is_gone), Err(true), "{oid:?}");
    }
}

#[test]
fn a_start_without_memory_gives_back_what_it_had() {
    let mut allocations = 0;
    loop {
        let card = Card::new();
        let done = with_bus(&card, async |bus| {
            let before = card.host.pages_in_use();
            card.host.limit_memory(Some(allocations));
            let started = NetVsc::start(bus, card.channel, NetOptions::default()).await;
            card.host.limit_memory(None);
            let done = started.is_ok();
            drop(started);
            card.host.until(|host| host.pages_in_use() == before).await;
            done
        });
        if done {
            break;
        }
        allocations += 1;
    }
    assert!(allocations > 8, "rings, buffers, and a page for each request");
}

#[test]
fn a_broken_ring_ends_the_adapter_and_no_more() {
    let card = Card::new();
    with_bus(&card, async |bus| {
        let net = NetVsc::start(bus, card.channel, NetOptions::default()).await.unwrap();
        card.end(0).break_ring(Control::WriteIndex, 0x7FFF_FFF3);
        card.end(0).interrupt();
        let end = net.run().await;
        assert!(matches!(end, NetError::Channel(ChannelError::Corrupt(_))), "{end}");
        assert!(!net.link().present);
        assert_eq!(net.transmit(&frame(60, 0), &PLAIN), Err(TransmitError::Ended));
    });
}

#[test]
fn links_that_flap_cost_one_question_at_a_time() {
    let card = Card::new();
    with_net(&card, NetOptions::default(), async |net| {
        for _ in 0..100 {
            card.say(&words(&[7, 20, 0x4001_000C, 0, 0]));
            card.say(&words(&[7, 20, 0x4001_000B, 0, 0]));
            card.say(&words(&[7, 20, 0x4001_0018, 0, 0]));
        }
        works(&card, net).await;
        let mut changes = net.link_changes();
        while net.link().networks < 100 {
            changes.next().await;
        }
        works(&card, net).await;
        let requests = card.state().requests.len();
        assert!(requests < 40, "{requests} requests");
    });
}

#[test]
fn requests_whose_pages_never_come_back_are_limited() {
    // The packets of requests are never completed, and never answered.
    let card = Card::new();
    let options = NetOptions { time_limit_100ns: 1000, ..NetOptions::default() };
    with_net(&card, options, async |net| {
        let before = card.host.pages_in_use();
        card.state().mute = true;
        for _ in 0..100 {
            let filter = hv_abi::rndis::PacketFilter::BROADCAST;
            assert_eq!(net.set_filter(filter).await, Err(NetError::TimedOut));
        }
        assert!(card.host.pages_in_use() <= before + 16);
    });
}

#[test]
fn a_stop_that_the_host_ignores_ends_all_the_same() {
    let card = Card::new();
    let options = NetOptions { time_limit_100ns: 1000, ..NetOptions::default() };
    with_bus(&card, async |bus| {
        let before = card.host.pages_in_use();
        let net = NetVsc::start(bus, card.channel, options).await.unwrap();
        card.state().withhold = true;
        net.transmit(&frame(100, 0), &PLAIN).unwrap();
        assert_eq!(net.stop().await, Err(NetError::TimedOut));
        assert_eq!(net.run().await, NetError::Stopped);
        drop(net);
        card.host.until(|host| host.pages_in_use() == before).await;
    });
}
