//! Devices that come and go, and sub-channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hv_abi::guid::Guid;
use hv_abi::vmbus::message::{
    MessageHeader, MessageType, OfferChannel, OpenChannelResult, RelidReleased,
};
use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::OutgoingPacket;

use super::echo::{Echo, offer};
use super::versions;
use crate::vmbus::testing::{TestGuest, open_request, wait_for};
use crate::vmbus::{AddError, DeviceOffer};

#[test]
fn many_offers_arrive_without_loss() {
    let guest = TestGuest::new();
    for number in 0..300 {
        guest.server.add(Echo::new(number)).unwrap();
    }
    let offers = guest.connect(VmbusVersion::V5_3);
    let channels: Vec<_> = offers.iter().map(|offer| offer.child_relid).collect();
    assert_eq!(channels, (1..=300).collect::<Vec<_>>());
    assert_eq!(guest.server.report().messages_sent["OFFERCHANNEL"], 300);
}

#[test]
fn an_interrupt_page_has_room_for_fewer_channels() {
    for (version, most) in [(VmbusVersion::V0_13, 255), (VmbusVersion::V2_4, 300)] {
        let guest = TestGuest::new();
        for number in 0..300 {
            guest.server.add(Echo::new(number)).unwrap();
        }
        assert_eq!(guest.connect(version).len(), most);
    }
}

#[test]
fn devices_have_the_same_numbers_whenever_a_guest_connects() {
    let guest = TestGuest::new();
    let device = |interface, instance| {
        let (interface, instance) = (Guid::new(interface, 0, 0, 0), Guid::new(instance, 0, 0, 0));
        Arc::new(Echo::with(DeviceOffer::new("echo", interface, instance)))
    };
    for (interface, instance) in [(2, 1), (1, 2), (2, 3), (1, 4)] {
        guest.server.add(device(interface, instance)).unwrap();
    }
    let order = || -> Vec<u8> {
        let offers = guest.connect(VmbusVersion::V5_3);
        offers.iter().map(|offer| offer.offer.if_instance.0[0]).collect()
    };
    assert_eq!(order(), [2, 4, 1, 3]);
    assert_eq!(order(), [2, 4, 1, 3]);
}

#[test]
fn two_devices_are_never_one_instance() {
    let guest = TestGuest::new();
    let id = guest.server.add(Echo::new(1)).unwrap();
    assert_eq!(guest.server.add(Echo::new(1)), Err(AddError::Exists(offer(1).instance)));
    guest.server.remove(id);
    guest.server.remove(id);
    guest.server.add(Echo::new(1)).unwrap();
    guest.server.stop();
    assert_eq!(guest.server.add(Echo::new(2)), Err(AddError::Stopped));
}

#[test]
fn a_device_is_added_while_the_guest_runs() {
    for version in versions() {
        let guest = TestGuest::new();
        assert_eq!(guest.connect(version).len(), 0);
        guest.server.add(Echo::new(1)).unwrap();
        let offer: OfferChannel = guest.take();
        let mut channel = guest.open(&offer, 2);
        channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
        channel.receive(&guest);
    }
}

#[test]
fn a_device_that_comes_before_offers_are_requested_comes_with_them() {
    let guest = TestGuest::new();
    guest.contact(VmbusVersion::V5_3);
    guest.server.add(Echo::new(1)).unwrap();
    guest.expect_silence();
    assert_eq!(guest.request_offers().len(), 1);
}

#[test]
fn a_device_is_removed_under_load_and_its_number_used_again() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    let mut id = guest.server.add(echo.clone()).unwrap();
    let mut offers = guest.connect(VmbusVersion::V5_3);
    for round in 0..10 {
        let mut channel = guest.open(&offers[0], 4);
        for number in 0..20 + round {
            channel.send(&guest, &OutgoingPacket::in_band(number, &[&[1; 200]]));
        }
        guest.server.remove(id);
        guest.expect_rescind(channel.id);
        // As Linux does: close, then release the number; the memory is back with that.
        guest.post_close(channel.id);
        guest.post(&released(channel.id));
        wait_for("the provider's end", || (echo.serving.load(Ordering::SeqCst) == 0).then_some(()));
        let released = || guest.server.report().messages_received.get("RELID_RELEASED").copied();
        wait_for("a release", || (released() == Some(round + 1)).then_some(()));
        id = guest.server.add(echo.clone()).unwrap();
        let offer: OfferChannel = guest.take();
        // One may not have heard yet that its provider has returned.
        assert!(offer.child_relid <= 3, "{}", offer.child_relid);
        offers = vec![offer];
    }
    assert!(guest.server.report().errors.is_empty());
}

fn released(child_relid: u32) -> RelidReleased {
    RelidReleased { header: MessageHeader::new(MessageType::RELID_RELEASED), child_relid }
}

#[test]
fn a_rescinded_channel_can_still_be_closed_and_its_memory_torn_down() {
    let guest = TestGuest::new();
    let id = guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let channel = guest.open(&offers[0], 2);
    let (number, gpadl) = (channel.id, guest.lend(channel.id, &guest.pages(1)));
    guest.server.remove(id);
    guest.expect_rescind(number);
    guest.post_close(number);
    guest.tear_down(number, gpadl);
    guest.tear_down(number, channel.gpadl);
    // But nothing new begins.
    guest.post(&open_request(&offers[0], gpadl, 1, 0));
    assert_ne!(guest.take::<OpenChannelResult>().status, 0);
    guest.post_gpadl(number, 77, &guest.pages(1));
    assert_ne!(guest.take::<hv_abi::vmbus::message::GpadlCreated>().creation_status, 0);
    assert_eq!(guest.errors("rescinded"), 2);
    guest.post(&released(number));
    guest.post_close(number);
    guest.expect_errors("no-such-channel", 1);
}

#[test]
fn a_number_is_not_released_while_its_channel_is_open() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 2);
    guest.post(&released(channel.id));
    guest.expect_errors("channel-open", 1);
    channel.send(&guest, &OutgoingPacket::in_band(1, &[b"12345678"]));
    channel.receive(&guest);
}

#[test]
fn sub_channels_are_offered_on_request_and_carry_packets() {
    for version in versions() {
        let guest = TestGuest::new();
        let echo = Echo::new(1);
        echo.sub_channels.store(3, Ordering::SeqCst);
        guest.server.add(echo.clone()).unwrap();
        let offers = guest.connect(version);
        let primary = guest.open(&offers[0], 2);
        if version < VmbusVersion::V2_4 {
            guest.expect_silence();
            continue;
        }
        let subs: Vec<OfferChannel> = (0..3).map(|_| guest.take()).collect();
        for (index, sub) in subs.iter().enumerate() {
            assert_eq!(usize::from(sub.offer.sub_channel_index), index + 1);
            assert_eq!(sub.offer.if_instance, offers[0].offer.if_instance);
        }
        let mut channels: Vec<_> = subs.iter().map(|sub| guest.open(sub, 2)).collect();
        channels.push(primary);
        for (number, channel) in (0..).zip(&mut channels) {
            channel.send(&guest, &OutgoingPacket::in_band(number, &[b"12345678"]));
            assert_eq!(channel.receive(&guest).transaction_id, number);
        }
        assert_eq!(echo.offered.load(Ordering::SeqCst), 3);
    }
}

#[test]
fn sub_channels_go_when_the_primary_closes_and_come_again() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    echo.sub_channels.store(2, Ordering::SeqCst);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    for _ in 0..3 {
        let primary = guest.open(&offers[0], 2);
        let subs: Vec<OfferChannel> = (0..2).map(|_| guest.take()).collect();
        let sub = guest.open(&subs[1], 2);
        sub.close(&guest);
        guest.post_close(primary.id);
        for sub in &subs {
            guest.expect_rescind(sub.child_relid);
            guest.post(&released(sub.child_relid));
        }
        guest.tear_down(primary.id, primary.gpadl);
    }
    assert!(guest.server.report().errors.is_empty());
}

#[test]
fn a_bus_without_numbers_left_offers_fewer_sub_channels() {
    let guest = TestGuest::new();
    let echo = Echo::new(1);
    echo.sub_channels.store(3000, Ordering::SeqCst);
    guest.server.add(echo.clone()).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let _primary = guest.open(&offers[0], 2);
    for index in 1..=2046 {
        assert_eq!(guest.take::<OfferChannel>().offer.sub_channel_index, index);
    }
    wait_for("an answer", || (echo.offered.load(Ordering::SeqCst) == 2046).then_some(()));
}

#[test]
fn devices_come_and_go_while_others_work() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    let offers = guest.connect(VmbusVersion::V5_3);
    let mut channel = guest.open(&offers[0], 4);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..200 {
                let id = guest.server.add(Echo::new(100 + number)).unwrap();
                guest.server.remove(id);
            }
            stop.store(true, Ordering::SeqCst);
        });
        let (mut number, mut offered, mut rescinded) = (0, 0, 0);
        while !stop.load(Ordering::SeqCst) || offered + rescinded < 400 {
            channel.send(&guest, &OutgoingPacket::in_band(number, &[b"12345678"]));
            assert_eq!(channel.receive(&guest).transaction_id, number);
            number += 1;
            while let Some(bytes) = guest.try_take() {
                match bytes[0] {
                    1 => offered += 1,
                    2 => {
                        rescinded += 1;
                        let relid = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
                        guest.post(&released(relid));
                    }
                    other => panic!("{other}"),
                }
            }
        }
        assert_eq!((offered, rescinded), (200, 200));
    });
}
