//! Packets and signals in channels.

use std::sync::atomic::Ordering;

use hv_abi::vmbus::message::{
    ContactTarget, MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse,
    OpenChannelResult, VersionResponse2,
};
use hv_abi::vmbus::packet::PacketType;
use hv_abi::vmbus::version::{VmbusVersion, feature};
use vm_memory::{Bytes, GuestAddress};
use vmbus_ring::{GpaRange, OutgoingKind, OutgoingPacket};
use zerocopy::{FromBytes, IntoBytes};

use super::echo::Echo;
use super::versions;
use crate::hyperv::synic::Sint;
use crate::vmbus::testing::{
    INTERRUPT_PAGE, MONITOR_PAGES, TestChannel, TestGuest, open_request, wait_for,
};
use crate::vmbus::{DeviceOffer, VmbusDevice};

const VP0: Sint = Sint { vp: 0, number: 2 };
const VP1: Sint = Sint { vp: 1, number: 2 };

#[test]
fn packets_come_back() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 4);
    channel.send(&guest, &OutgoingPacket::in_band(0x1234, &[b"hello", b", bus"]));
    let answer = channel.receive(&guest);
    assert_eq!((answer.kind, answer.transaction_id), (PacketType::COMP, 0x1234));
    assert_eq!(answer.payload, b"hello, bus\0\0\0\0\0\0");
    assert_eq!(*echo.open_data.lock().unwrap(), [0x5A; 120]);
    channel.close(&guest);
}

#[test]
fn thousands_of_packets_keep_their_order_in_small_rings() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 2);
    let (mut sent, mut received) = (0_u64, 0_u64);
    let payload = |number: u64| vec![number as u8; 8 + (number as usize * 40) % 1000 / 8 * 8];
    while received < 5000 {
        while sent < 5000 && sent < received + 64 {
            let bytes = payload(sent);
            let packet = [bytes.as_slice()];
            match channel.sender.send(&OutgoingPacket::in_band(sent, &packet)) {
                Ok(signal) if signal.needed() => channel.signal(&guest).unwrap(),
                Ok(_) => {}
                Err(_) => break,
            }
            sent += 1;
        }
        while let Some(answer) = channel.try_receive(&guest) {
            assert_eq!(answer.transaction_id, received);
            assert_eq!(answer.payload, payload(received));
            received += 1;
        }
    }
    channel.close(&guest);
    let report = &guest.server.report().channels[0];
    assert_eq!((report.packets_received, report.packets_sent), (5000, 5000));
    assert_eq!(report.bytes_received, report.bytes_sent);
    assert!(report.signals_sent + report.signals_suppressed == 5000, "{report:?}");
}

#[test]
fn ranges_of_guest_memory_are_reached_wherever_they_lie() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 4);
    let pages = guest.pages(4);
    for (number, page) in pages.iter().enumerate() {
        guest.memory.write_slice(&[number as u8; 4096], GuestAddress(page << 12)).unwrap();
    }
    // From the middle of the last page into the first, and a few bytes of another.
    let backwards = [pages[3], pages[0]];
    let ranges = [
        GpaRange { byte_count: 4096, byte_offset: 2048, pages: &backwards },
        GpaRange { byte_count: 3, byte_offset: 5, pages: &pages[2..3] },
    ];
    channel.send(&guest, &OutgoingPacket::gpa_direct(1, &ranges, &[b"in"]));
    channel.receive(&guest);
    let byte = |page: usize, offset: u64| -> u8 {
        guest.memory.read_obj(GuestAddress((pages[page] << 12) + offset)).unwrap()
    };
    assert_eq!([byte(3, 2047), byte(3, 2048), byte(3, 4095)], [3, !3, !3]);
    assert_eq!([byte(0, 0), byte(0, 2047), byte(0, 2048)], [!0, !0, 0]);
    assert_eq!([byte(2, 4), byte(2, 5), byte(2, 7), byte(2, 8)], [2, !2, !2, 2]);
    assert_eq!(byte(1, 0), 1);
}

#[test]
fn lent_memory_is_found_by_its_number_until_it_is_torn_down() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 4);
    let pages = guest.pages(100);
    let gpadl = guest.lend(channel.id, &pages);
    channel.send(&guest, &OutgoingPacket::new(OutgoingKind::Gpadl(gpadl), 1, &[b"lent"]));
    channel.receive(&guest);
    let last: u8 = guest.memory.read_obj(GuestAddress((pages[99] << 12) + 4095)).unwrap();
    assert_eq!(last, 0xFF);
    guest.tear_down(channel.id, gpadl);
    channel.send(&guest, &OutgoingPacket::new(OutgoingKind::Gpadl(gpadl), 1, &[b"gone"]));
    // The provider gives up.
    guest.expect_rescind(channel.id);
    assert_eq!(guest.errors("provider"), 1);
}

#[test]
fn each_version_signals_the_guest_its_way() {
    for version in versions() {
        let guest = TestGuest::new();
        guest.server.add(Echo::new(1)).unwrap();
        let offers = guest.connect(version);
        let mut channel = TestChannel::open(&guest, &offers[0], 2, 1);
        for sint in [VP0, VP1] {
            guest.take_interrupts(sint);
        }
        channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
        let by_page = version < VmbusVersion::V2_4;
        let (sint, flag) = if by_page { (VP0, 0) } else { (VP1, channel.id) };
        wait_for("a signal", || guest.take_flag(sint, flag).then_some(()));
        wait_for("an interrupt", || (guest.take_interrupts(sint) == Some(1)).then_some(()));
        let bit = guest.take_bit(INTERRUPT_PAGE + u64::from(channel.id / 8), channel.id % 8);
        assert_eq!(bit, by_page, "{version}");
        channel.receive(&guest);
        assert_eq!(offers[0].is_dedicated_interrupt == 1, version >= VmbusVersion::V1_1);
        let connection = if version < VmbusVersion::V1_1 { 0 } else { 0x2001 };
        assert_eq!(offers[0].connection_id, connection);
    }
}

#[test]
fn a_guest_that_masks_its_ring_is_not_interrupted() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 2);
    channel.receiver.mask();
    guest.take_interrupts(VP0);
    for number in 0..10 {
        channel.send(&guest, &OutgoingPacket::in_band(number, &[b"12345678"]));
        channel.receive(&guest);
    }
    assert_eq!(guest.take_interrupts(VP0), Some(0));
    assert!(!guest.take_flag(VP0, channel.id));
    assert!(!channel.receiver.unmask().unwrap());
    channel.send(&guest, &OutgoingPacket::in_band(11, &[b"12345678"]));
    wait_for("an interrupt", || (guest.take_interrupts(VP0) == Some(1)).then_some(()));
}

#[test]
fn a_channel_opened_without_interrupts_makes_none() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = TestChannel::open(&guest, &offers[0], 2, u32::MAX);
    guest.take_interrupts(VP0);
    channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
    channel.receive(&guest);
    assert_eq!(guest.take_interrupts(VP0), Some(0));
}

#[test]
fn signals_follow_a_channel_to_another_processor() {
    for version in [VmbusVersion::V4_1, VmbusVersion::V5_2, VmbusVersion::V5_3, VmbusVersion::V6_0]
    {
        let guest = TestGuest::new();
        guest.server.add(Echo::new(1)).unwrap();
        let offers = guest.connect(version);
        let mut channel = guest.open(&offers[0], 2);
        guest.post(&modify(channel.id, 1));
        if version >= VmbusVersion::V5_3 {
            assert_eq!(guest.take::<ModifyChannelResponse>().status, 0);
        }
        wait_for("another route", || guest.take_interrupts(VP1));
        channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
        wait_for("a signal", || guest.take_flag(VP1, channel.id).then_some(()));
        assert!(!guest.take_flag(VP0, channel.id));
        channel.receive(&guest);
        channel.close(&guest);
        wait_for("the end of a route", || guest.take_interrupts(VP1).is_none().then_some(()));
    }
}

#[test]
fn a_channel_moves_only_when_it_can() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    guest.post(&modify(offers[0].child_relid, 1));
    assert_ne!(guest.take::<ModifyChannelResponse>().status, 0, "it is not open");
    let channel = guest.open(&offers[0], 2);
    guest.post(&modify(channel.id, 2));
    assert_ne!(guest.take::<ModifyChannelResponse>().status, 0, "no such processor");
    guest.post(&modify(7, 1));
    let response: ModifyChannelResponse = guest.take();
    assert_eq!(response.child_relid, 7);
    assert_ne!(response.status, 0, "no such channel");

    guest.connect(VmbusVersion::V4_0);
    guest.post(&modify(1, 1));
    guest.expect_errors("too-early", 1);
    guest.expect_silence();
}

fn modify(child_relid: u32, target_vp: u32) -> ModifyChannel {
    ModifyChannel { header: MessageHeader::new(MessageType::MODIFYCHANNEL), child_relid, target_vp }
}

#[test]
fn a_channel_is_reopened_with_other_rings() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    for round in 0..20 {
        let mut channel = guest.open(&offers[0], 2 + round % 3);
        channel.send(&guest, &OutgoingPacket::in_band(round, &[b"12345678"]));
        assert_eq!(channel.receive(&guest).transaction_id, round);
        channel.close(&guest);
    }
    assert_eq!(guest.server.report().channels[0].opened, 20);
    assert_eq!(guest.routes(), 1);
}

#[test]
fn a_channel_that_is_still_closing_opens_when_it_has() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let channel = guest.open(&offers[0], 2);
    wait_for("the provider", || (echo.serving.load(Ordering::SeqCst) == 1).then_some(()));
    let pages = guest.pages(4);
    let gpadl = guest.lend(channel.id, &pages);
    let hold = echo.hold.lock().unwrap();
    guest.post_close(channel.id);
    guest.post(&open_request(&offers[0], gpadl, 2, 0));
    guest.expect_silence();
    drop(hold);
    assert_eq!(guest.take::<OpenChannelResult>().status, 0);
    let mut channel = TestChannel::map(&guest, &offers[0], gpadl, pages);
    channel.send(&guest, &OutgoingPacket::in_band(3, &[b"12345678"]));
    assert_eq!(channel.receive(&guest).transaction_id, 3);
}

#[test]
fn an_opening_that_is_closed_before_it_could_be_is_answered() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let channel = guest.open(&offers[0], 2);
    wait_for("the provider", || (echo.serving.load(Ordering::SeqCst) == 1).then_some(()));
    let gpadl = guest.lend(channel.id, &guest.pages(4));
    let hold = echo.hold.lock().unwrap();
    guest.post_close(channel.id);
    guest.post(&open_request(&offers[0], gpadl, 2, 0));
    guest.post_close(channel.id);
    assert_ne!(guest.take::<OpenChannelResult>().status, 0);
    drop(hold);
    guest.expect_silence();
    guest.post_close(channel.id);
    guest.expect_errors("channel-not-open", 1);
}

#[test]
fn memory_in_use_is_torn_down_when_it_is_not_any_more() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 2);
    guest.post_teardown(channel.id, channel.gpadl);
    guest.expect_silence();
    channel.send(&guest, &OutgoingPacket::in_band(3, &[b"12345678"]));
    assert_eq!(channel.receive(&guest).transaction_id, 3);
    // Neither can the number be used again before.
    guest.post_gpadl(channel.id, channel.gpadl, &guest.pages(4));
    assert_ne!(guest.take::<hv_abi::vmbus::message::GpadlCreated>().creation_status, 0);
    guest.post_close(channel.id);
    assert_eq!(guest.take::<hv_abi::vmbus::message::GpadlTorndown>().gpadl, channel.gpadl);
}

#[test]
fn monitored_signals_need_no_call() {
    let guest = TestGuest::new();
    for number in 0..40 {
        let echo = Echo::new(number);
        let monitored = DeviceOffer { monitored: true, ..echo.offer() };
        guest.server.add(std::sync::Arc::new(Echo::with(monitored))).unwrap();
    }
    let offers = guest.connect(VmbusVersion::V5_3);
    assert!(offers.iter().all(|offer| offer.monitor_allocated == 1));
    for offer in [&offers[1], &offers[39]] {
        let mut channel = guest.open(offer, 2);
        channel.sender.send(&OutgoingPacket::in_band(3, &[b"12345678"])).unwrap().needed();
        let monitor = u64::from(offer.monitorid);
        // `hv_monitor_page.trigger_group[monitor / 32].pending`, bit `monitor % 32`.
        let at = MONITOR_PAGES[1] + 8 + monitor / 32 * 8 + monitor % 32 / 8;
        guest.set_bit(at, (monitor % 8) as u32);
        assert_eq!(channel.receive(&guest).transaction_id, 3);
        let byte = || guest.memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        wait_for("a look at the page", || (byte() == 0).then_some(()));
    }
}

#[test]
fn without_monitor_pages_nothing_is_monitored() {
    let guest = TestGuest::new();
    let monitored = DeviceOffer { monitored: true, ..Echo::new(1).offer() };
    guest.server.add(std::sync::Arc::new(Echo::with(monitored))).unwrap();
    let mut request = guest.contact_request(VmbusVersion::V5_3);
    (request.monitor_page1, request.monitor_page2) = (0, 0);
    guest.post_by(4, request.as_bytes());
    guest.take_bytes();
    let offers = guest.request_offers();
    assert_eq!((offers[0].monitor_allocated, offers[0].monitorid), (0, 0));
    guest.open(&offers[0], 2).close(&guest);
}

#[test]
fn a_guest_that_was_granted_it_chooses_flag_and_connection() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let mut request = guest.contact_request(VmbusVersion::V6_0);
    request.target = ContactTarget::new(2, feature::GUEST_SPECIFIED_SIGNAL_PARAMETERS).0;
    guest.post_by(4, request.as_bytes());
    let response = VersionResponse2::read_from_bytes(&guest.take_bytes()).unwrap();
    assert_eq!(response.supported_features, 1);
    let offers = guest.request_offers();
    let pages = guest.pages(4);
    let gpadl = guest.lend(1, &pages);
    let open = open_request(&offers[0], gpadl, 2, 0);
    // Too short, a flag that there is not, a connection that can't be.
    guest.post(&open);
    guest.expect_errors("too-short", 1);
    for (connection, flag) in [(0x77, 2048_u16), (0x0100_0000, 77)] {
        let tail = [u32::to_le_bytes(connection), u32::to_le_bytes(flag.into())].concat();
        guest.post_bytes(&[open.as_bytes(), &tail].concat());
        assert_ne!(guest.take::<OpenChannelResult>().status, 0);
    }
    guest.post_bytes(&[open.as_bytes(), &[0x77, 0, 0, 0, 0xFF, 0x07, 0, 0]].concat());
    assert_eq!(guest.take::<OpenChannelResult>().status, 0);
    let mut channel = TestChannel::map(&guest, &offers[0], gpadl, pages);
    channel.sender.send(&OutgoingPacket::in_band(3, &[b"12345678"])).unwrap().needed();
    guest.signal(0x77).unwrap();
    wait_for("a signal", || guest.take_flag(VP0, 2047).then_some(()));
    assert_eq!(channel.receive(&guest).transaction_id, 3);
    assert!(guest.signal(0x2001).is_err(), "the channel's own is not used");
}
