//! A host that lies, floods, repeats itself or falls silent: named errors or counters, never a panic, never memory
//! without bounds.

use hv_abi::vmbus::message::{
    GpadlCreated, GpadlTorndown, MessageHeader, MessageType, ModifyChannelResponse,
    OpenChannelResult, RescindChannelOffer, VersionResponse, VmbusMessage,
};
use hv_abi::vmbus::version::VmbusVersion;
use std::vec::Vec;
use zerocopy::{FromBytes, IntoBytes};

use crate::bus::{BusCounts, BusError, BusOptions, Request};
use crate::fake::{FakeOffer, Mischief};
use crate::hal::{DmaBuffer, Hal};
use crate::testing::{DEVICE, connected, machine, opened, run, settle, small};
use crate::{ChannelError, OpenParams};

fn rescind(child_relid: u32) -> Vec<u8> {
    let header = MessageHeader::new(RescindChannelOffer::TYPE);
    RescindChannelOffer { header, child_relid }.as_bytes().to_vec()
}

fn open_result(child_relid: u32, openid: u32, status: u32) -> Vec<u8> {
    let header = MessageHeader::new(OpenChannelResult::TYPE);
    OpenChannelResult { header, child_relid, openid, status }.as_bytes().to_vec()
}

/// An offer with that number, as raw as it may come.
fn offer(relid: u32, instance: u8) -> Vec<u8> {
    let mut bytes = std::vec![0; 196];
    bytes[0] = 1;
    bytes[24] = instance;
    bytes[184..188].copy_from_slice(&relid.to_le_bytes());
    bytes
}

#[test]
fn numbers_that_can_not_be_a_channels_are_no_offers() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    for relid in [0, 2048, 4095, 0x1_0001, u32::MAX] {
        host.deliver(&offer(relid, 1));
    }
    settle(&bus);
    assert_eq!((bus.offers().len(), bus.counts().bad_offers), (1, 5));
}

#[test]
fn a_number_in_use_is_not_offered_twice() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    host.deliver(&offer(channel.offer().channel.relid(), 9));
    settle(&bus);
    assert_eq!(bus.counts().bad_offers, 1);
    assert_eq!(bus.offers(), [channel.offer().clone()]);
    assert_eq!(channel.check(), Ok(()));
}

#[test]
fn a_device_has_one_primary_channel() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    host.deliver(&offer(100, 7));
    host.deliver(&offer(101, 7));
    settle(&bus);
    assert_eq!((bus.offers().len(), bus.counts().bad_offers), (2, 1));
}

#[test]
fn offers_before_there_is_a_connection_are_ignored() {
    let (host, bus, _) = machine(BusOptions::default());
    host.deliver(&offer(1, 1));
    settle(&bus);
    assert_eq!((bus.offers().len(), bus.counts().bad_offers), (0, 1));
}

#[test]
fn more_channels_than_the_options_allow_are_ignored() {
    let options = BusOptions { max_channels: 3, ..BusOptions::default() };
    let (host, bus, _) = machine(options);
    run(&bus, bus.connect()).unwrap();
    for relid in 2..=2047 {
        host.deliver(&offer(relid, relid as u8));
        settle(&bus);
    }
    assert_eq!((bus.offers().len(), bus.counts().bad_offers), (3, 2044));
}

#[test]
fn a_flood_is_bounded_by_the_inbox() {
    let options = BusOptions { inbox_bytes: 1000, ..BusOptions::default() };
    let (host, bus, channel) = machine(options);
    run(&bus, bus.connect()).unwrap();
    settle(&bus);
    (0..10_000).for_each(|_| host.deliver(&[0xFF; 99]));
    settle(&bus);
    let counts = bus.counts();
    assert_eq!((counts.lost_messages, counts.unknown_messages), (9_990, 10));
    run(&bus, bus.open(channel, &OpenParams::default())).unwrap();
}

#[test]
fn offers_without_end_that_are_taken_back_are_forgotten() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    host.forgive();
    for round in 0..5000 {
        let added = host.offer(FakeOffer::new(DEVICE));
        if round % 2 == 0 {
            // Told to nobody: there is no listener.
            settle(&bus);
        }
        host.rescind(added);
        settle(&bus);
    }
    assert_eq!((bus.offers().len(), bus.counts()), (1, BusCounts::default()));
}

#[test]
fn channels_that_are_not_there_can_not_be_taken_back() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    for relid in [0, 2, 2047, 2048, u32::MAX] {
        host.deliver(&rescind(relid));
    }
    settle(&bus);
    assert_eq!(bus.counts().bad_rescinds, 5);
    assert_eq!(host.count(MessageType::RELID_RELEASED), 0);
    run(&bus, bus.open(channel, &OpenParams::default())).unwrap();
}

#[test]
fn a_channel_is_taken_back_once() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    host.rescind(id);
    host.deliver(&rescind(id.relid()));
    host.deliver(&rescind(id.relid()));
    settle(&bus);
    assert_eq!(bus.counts().bad_rescinds, 2);
    run(&bus, channel.close()).unwrap();
    settle(&bus);
    assert_eq!(host.count(MessageType::RELID_RELEASED), 1);
}

/// Every answer that a host can give.
fn answers(relid: u32) -> [Vec<u8>; 7] {
    let header = MessageHeader::new;
    let gpadl = 0xE_1E10;
    let version = VersionResponse {
        header: header(VersionResponse::TYPE),
        version_supported: 1,
        connection_state: 0,
        _padding: 0,
        msg_conn_id: 5,
    };
    let created = GpadlCreated {
        header: header(GpadlCreated::TYPE),
        child_relid: relid,
        gpadl,
        creation_status: 0,
    };
    let modified = ModifyChannelResponse {
        header: header(ModifyChannelResponse::TYPE),
        child_relid: relid,
        status: 0,
    };
    [
        version.as_bytes().to_vec(),
        created.as_bytes().to_vec(),
        GpadlTorndown { header: header(GpadlTorndown::TYPE), gpadl }.as_bytes().to_vec(),
        open_result(relid, 1, 0),
        modified.as_bytes().to_vec(),
        header(MessageType::UNLOAD_RESPONSE).as_bytes().to_vec(),
        header(MessageType::ALLOFFERS_DELIVERED).as_bytes().to_vec(),
    ]
}

#[test]
fn answers_to_nothing_are_counted_and_do_nothing() {
    for relid in [0, 1, 2048, u32::MAX] {
        let (host, bus, channel) = opened(VmbusVersion::V5_3);
        answers(relid).iter().for_each(|answer| host.deliver(answer));
        settle(&bus);
        assert_eq!(bus.counts().unexpected_answers, 7);
        assert_eq!((bus.version(), channel.check()), (Some(VmbusVersion::V5_3), Ok(())));
        run(&bus, channel.close()).unwrap();
    }
}

#[test]
fn answers_before_there_is_a_connection_do_nothing() {
    let (host, bus, _) = machine(BusOptions::default());
    answers(1).iter().for_each(|answer| host.deliver(answer));
    settle(&bus);
    assert_eq!(bus.counts().unexpected_answers, 7);
    assert_eq!(run(&bus, bus.connect()), Ok(VmbusVersion::V6_0));
}

#[test]
fn a_second_answer_is_one_to_nothing() {
    let (host, bus, channel) = machine(BusOptions::default());
    for message in [
        MessageType::INITIATE_CONTACT,
        MessageType::GPADL_HEADER,
        MessageType::OPENCHANNEL,
        MessageType::MODIFYCHANNEL,
        MessageType::GPADL_TEARDOWN,
        MessageType::UNLOAD,
    ] {
        host.misbehave(message, 1, Mischief::Twice);
    }
    run(&bus, async {
        bus.connect().await.unwrap();
        bus.all_offers_delivered().await.unwrap();
        let opened = bus.open(channel, &small()).await.unwrap();
        opened.set_target_vp(2).await.unwrap();
        opened.close().await.unwrap();
        bus.unload().await.unwrap();
    });
    settle(&bus);
    assert_eq!(bus.counts().unexpected_answers, 6);
}

#[test]
fn answers_about_other_channels_and_openings_are_not_taken() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    let wrong = [open_result(1, 77, 0), open_result(2, 1, 0), open_result(0, 1, 0)];
    host.misbehave(MessageType::OPENCHANNEL, 1, Mischief::Instead(wrong.into()));
    let opened = run(&bus, bus.open(channel, &OpenParams::default()));
    assert_eq!(opened.err(), Some(ChannelError::NoAnswer(Request::Open)));
    assert_eq!(bus.counts().unexpected_answers, 3);
}

#[test]
fn an_early_answer_is_the_answer() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    // Refused before the request was even looked at.
    host.misbehave(MessageType::OPENCHANNEL, 1, Mischief::First([open_result(1, 1, 5)].into()));
    let opened = run(&bus, bus.open(channel, &OpenParams::default()));
    assert_eq!(opened.err(), Some(ChannelError::Refused(Request::Open, 5)));
    assert_eq!(bus.counts().unexpected_answers, 1);
}

#[test]
fn unknown_and_foreign_message_types_are_counted() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    // Those that only guests send, holes in the numbers, and what may come in later versions.
    let types = [0, 3, 5, 7, 8, 9, 11, 13, 14, 16, 18, 19, 20, 21, 22, 23, 25, 99, u32::MAX];
    for kind in types {
        let mut bytes = [0; 240];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        host.deliver(&bytes);
    }
    settle(&bus);
    assert_eq!(bus.counts().unknown_messages, types.len() as u64);
}

#[test]
fn messages_too_short_for_their_type_are_counted() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    let mut sent = 0;
    for (kind, length) in [(1, 196), (2, 12), (6, 20), (10, 20), (12, 12), (15, 16), (24, 16)] {
        let mut bytes = std::vec![0; length - 1];
        bytes[0] = kind;
        for cut in 0..length {
            host.deliver(&bytes[..cut]);
            sent += 1;
        }
        settle(&bus);
    }
    assert_eq!(bus.counts().malformed_messages, sent);
    assert_eq!(bus.offers().len(), 1);
}

#[test]
fn messages_too_long_are_counted_and_extra_bytes_are_ignored() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    host.deliver(&[1; 241]);
    let mut longer = rescind(channel.relid());
    longer.resize(240, 0xEE);
    // What the host says is true.
    host.rescind(channel);
    host.deliver(&longer);
    settle(&bus);
    let counts = bus.counts();
    assert_eq!((counts.malformed_messages, counts.bad_rescinds, bus.offers().len()), (1, 1, 0));
}

#[test]
fn a_cut_answer_is_no_answer() {
    let (host, bus, _) = machine(BusOptions::default());
    host.misbehave(MessageType::INITIATE_CONTACT, 1, Mischief::Cut(15));
    assert_eq!(run(&bus, bus.connect()), Err(BusError::NoAnswer(Request::Contact)));
    assert_eq!(bus.counts().malformed_messages, 1);
}

#[test]
fn a_host_that_falls_silent_is_told_by_what_it_did_not_answer() {
    let cases =
        [(MessageType::GPADL_HEADER, Request::Gpadl), (MessageType::OPENCHANNEL, Request::Open)];
    for (message, request) in cases {
        for mischief in [Mischief::Silence, Mischief::Mute] {
            let (host, bus, channel) = connected(VmbusVersion::V5_3);
            host.misbehave(message, 1, mischief.clone());
            let opened = run(&bus, bus.open(channel, &small()));
            assert_eq!(opened.err(), Some(ChannelError::NoAnswer(request)));
            let later = bus.hal().now_100ns() + 10 * crate::SECOND_100NS;
            run(&bus, crate::task::sleep_until(bus.hal(), later));
            // A host that never made the GPADL does not say that it is gone.
            let unknown = message == MessageType::GPADL_HEADER && mischief == Mischief::Silence;
            assert_eq!(bus.counts().kept_pages, if unknown { 4 } else { 0 });
            let again = run(&bus, bus.open(channel, &small())).unwrap();
            run(&bus, again.close()).unwrap();
        }
    }
}

#[test]
fn memory_that_is_not_given_back_is_kept_until_it_is() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let buffer = DmaBuffer::new(bus.hal(), 10).unwrap();
    let shared = run(&bus, channel.share(buffer)).unwrap();
    host.misbehave(MessageType::GPADL_TEARDOWN, 1, Mischief::Late(60 * crate::SECOND_100NS));
    let unshared = run(&bus, shared.unshare());
    assert_eq!(unshared.err(), Some(ChannelError::NoAnswer(Request::Teardown)));
    assert_eq!(bus.counts().kept_pages, 10);
    assert_eq!(host.pages_in_use(), 3 + 34 + 10);
    run(&bus, crate::task::sleep_until(bus.hal(), 100 * crate::SECOND_100NS));
    settle(&bus);
    assert_eq!((bus.counts().kept_pages, host.pages_in_use()), (0, 3 + 34));
}

#[test]
fn event_flags_of_nothing_do_nothing() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    for flag in [0, 1, 2, 2047, 2048, u16::MAX] {
        host.set_flag(flag);
    }
    settle(&bus);
    assert_eq!(channel.try_receive(&mut [0; 64], |_| ()), Ok(None));
}

#[test]
fn event_flags_before_contact_do_nothing() {
    let (host, bus, _) = machine(BusOptions::default());
    (0..=2048).for_each(|flag| host.set_flag(flag));
    settle(&bus);
    assert_eq!(bus.counts(), BusCounts::default());
}

#[test]
fn every_bit_of_the_interrupt_page_may_be_set() {
    let (host, _bus, channel) = opened(VmbusVersion::V1_1);
    let contact = host.messages().into_iter().find(|(_, bytes)| bytes[0] == 14).unwrap().1;
    let page = u64::read_from_bytes(&contact[16..24]).unwrap();
    host.write(page, &[0xFF; 4096]);
    host.set_flag(0);
    let mut half = [1; 256];
    host.read(page, &mut half);
    assert_eq!(half, [0; 256]);
    assert_eq!(channel.check(), Ok(()));
}
