//! Components on a bus, with a guest that does what Linux does.

use std::sync::Arc;
use std::time::Duration;

use hv_abi::ic::{HEARTBEAT_INSTANCE, HEARTBEAT_INTERFACE};
use hv_abi::vmbus::message::{MessageType, OfferChannel, RescindChannelOffer};
use hv_abi::vmbus::offer::OfferFlags;
use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::OutgoingPacket;

use super::super::calls::Contact;
use super::super::heartbeat::Pulse;
use super::super::kvp::{HostItems, KvpValue, Pool};
use super::super::shutdown::ShutdownRequest;
use super::super::{Components, Heartbeat, IcChoice, IcDevice};
use super::guest::{BODY, answer_to, get32, get64, put16, type_of};
use super::timesync::test_clocks;
use crate::vmbus::testing::{PATIENCE, TestChannel, TestGuest, wait_for};

/// Pages of each ring: Linux's `HV_UTIL_RING_SEND_SIZE` is three, its control page among them.
const RING_PAGES: u64 = 3;

fn components() -> Components {
    Components::new(IcChoice::ON, test_clocks(), HostItems::default())
}

/// A guest that is offered all components, and the offer of the one with this interface.
fn guest(components: &Components) -> (TestGuest, Vec<OfferChannel>) {
    let guest = TestGuest::new();
    for device in components.devices() {
        guest.server.add(device).unwrap();
    }
    let offers = guest.connect(VmbusVersion::V5_3);
    (guest, offers)
}

fn offer<C: super::super::Component>(offers: &[OfferChannel], _of: &C) -> OfferChannel {
    *offers.iter().find(|offer| offer.offer.if_type == C::INTERFACE).unwrap()
}

/// Takes a request of the host's and answers it, with a change.
fn answer(channel: &mut TestChannel, guest: &TestGuest, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let request = channel.receive(guest);
    let payload = answer_to(&request.payload, change);
    channel.send(guest, &OutgoingPacket::in_band(request.transaction_id, &[&payload]));
    request.payload
}

/// Chooses 3.0 of the framework and a version of the message.
fn negotiate(channel: &mut TestChannel, guest: &TestGuest, version: (u16, u16)) {
    let request = answer(channel, guest, |body| {
        for (at, value) in [(0, 1), (2, 1), (8, 3), (10, 0), (12, version.0), (14, version.1)] {
            put16(body, at, value);
        }
    });
    assert_eq!(type_of(&request), 0);
}

#[test]
fn a_guest_is_offered_pipes_with_hyper_vs_guids() {
    let (_guest, offers) = guest(&components());
    assert_eq!(offers.len(), 4);
    for offer in &offers {
        let flags = OfferFlags::from_bits_retain(offer.offer.chn_flags);
        let pipe = OfferFlags::ENUMERATE_DEVICE_INTERFACE | OfferFlags::NAMED_PIPE_MODE;
        assert_eq!(flags, pipe);
        assert_eq!(offer.offer.user_def[..5], [4, 0, 0, 0, 0], "VMBUS_PIPE_TYPE_MESSAGE");
    }
    let heartbeat = offer(&offers, &Heartbeat::default()).offer;
    assert_eq!(heartbeat.if_type, HEARTBEAT_INTERFACE);
    assert_eq!(heartbeat.if_instance, HEARTBEAT_INSTANCE);
}

#[test]
fn a_heartbeat_is_seen_and_ends_with_the_channel() {
    let components = components();
    let (guest, offers) = guest(&components);
    let heartbeat = components.heartbeat.unwrap();
    for round in 1..=2 {
        let mut channel = guest.open(&offer(&offers, &heartbeat), RING_PAGES);
        negotiate(&mut channel, &guest, (3, 0));
        answer(&mut channel, &guest, |body| {
            let next = get64(body, 0) + 1;
            body[..8].copy_from_slice(&next.to_le_bytes());
        });
        wait_for("the heartbeat", || (heartbeat.status().answered == round).then_some(()));
        assert_eq!(heartbeat.status().pulse, Pulse::Ok);
        channel.close(&guest);
        assert_eq!(heartbeat.status().contact, Contact::None);
    }
    assert!(heartbeat.status().versions.is_some(), "what was spoken is remembered");
}

#[test]
fn a_request_from_another_thread_wakes_the_channel() {
    let components = components();
    let (guest, offers) = guest(&components);
    let shutdown = components.shutdown.unwrap();
    let mut channel = guest.open(&offer(&offers, &shutdown), RING_PAGES);
    negotiate(&mut channel, &guest, (3, 2));
    wait_for("the versions", || shutdown.status().contact.versions());
    let asker = {
        let shutdown = shutdown.clone();
        std::thread::spawn(move || shutdown.request(ShutdownRequest::default(), PATIENCE))
    };
    let request = answer(&mut channel, &guest, |_| {});
    assert_eq!((type_of(&request), request.len()), (3, BODY + 2060));
    assert_eq!(asker.join().unwrap(), Ok(()));
    channel.close(&guest);
}

#[test]
fn a_guest_that_breaks_the_protocol_loses_that_channel_only() {
    let components = components();
    let (guest, offers) = guest(&components);
    let (heartbeat, timesync) = (components.heartbeat.unwrap(), components.timesync.unwrap());
    let mut bad = guest.open(&offer(&offers, &heartbeat), RING_PAGES);
    let mut good = guest.open(&offer(&offers, &timesync), RING_PAGES);
    bad.receive(&guest);
    bad.send(&guest, &OutgoingPacket::in_band(1, &[&[0; 64]]));
    let rescind: RescindChannelOffer = guest.take();
    assert_eq!(rescind.child_relid, bad.id);
    let errors = guest.server.report().errors;
    assert_eq!(errors.get("provider"), Some(&1), "{errors:?}");
    negotiate(&mut good, &guest, (4, 0));
    let sample = answer(&mut good, &guest, |_| {});
    assert_eq!((type_of(&sample), sample[BODY + 16]), (4, 1));
}

#[test]
fn packets_of_other_kinds_end_the_channel() {
    let components = components();
    let (guest, offers) = guest(&components);
    let mut channel = guest.open(&offer(&offers, &components.kvp.unwrap()), RING_PAGES);
    let request = channel.receive(&guest);
    let payload = answer_to(&request.payload, |_| {});
    channel.send(&guest, &OutgoingPacket::completion(request.transaction_id, &[&payload]));
    let rescind: RescindChannelOffer = guest.take();
    assert_eq!(rescind.child_relid, channel.id);
}

#[test]
fn a_ring_without_room_is_waited_for() {
    let components = components();
    let (guest, offers) = guest(&components);
    let kvp = components.kvp.unwrap();
    // One page of data: a single question about keys, and little more.
    let mut channel = guest.open(&offer(&offers, &kvp), 2);
    negotiate(&mut channel, &guest, (4, 0));
    wait_for("the versions", || kvp.status().contact.versions());
    let ask = || {
        let kvp = kvp.clone();
        std::thread::spawn(move || kvp.get_directly(Pool::Guest, "k", PATIENCE))
    };
    let askers = [ask(), ask()];
    // The guest takes the first question, but does not say so: there is no room for the second.
    let mut buffer = [0; 4096];
    let request = wait_for("a question", || {
        let packet = channel.receiver.receive(&mut buffer).unwrap()?;
        Some((packet.transaction_id(), packet.payload().to_vec()))
    });
    let payload = answer_to(&request.1, |body| body[4] = 1);
    channel.send(&guest, &OutgoingPacket::in_band(request.0, &[&payload]));
    wait_for("an answer", || askers.iter().any(|it| it.is_finished()).then_some(()));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(channel.receiver.receive(&mut buffer).unwrap().map(|it| it.kind()), None);
    answer(&mut channel, &guest, |body| body[4] = 1);
    for asker in askers {
        assert_eq!(asker.join().unwrap(), Ok(KvpValue::Text(String::new())));
    }
    channel.close(&guest);
}

#[test]
fn a_component_can_come_and_go_while_the_machine_runs() {
    let guest = TestGuest::new();
    assert!(guest.connect(VmbusVersion::V4_0).is_empty());
    let id = guest.server.add(Arc::new(IcDevice::new(Heartbeat::default()))).unwrap();
    let offer: OfferChannel = guest.take();
    let channel = guest.open(&offer, RING_PAGES);
    guest.server.remove(id);
    let rescind: RescindChannelOffer = guest.take();
    assert_eq!(rescind.child_relid, offer.child_relid);
    channel.close(&guest);
    assert_eq!(rescind.header.msgtype, MessageType::RESCIND_CHANNELOFFER);
}

#[test]
fn every_version_of_the_bus_carries_components() {
    // The oldest has signals by the interrupt page only, which this guest's end does not do.
    for version in VmbusVersion::ALL.into_iter().filter(|it| *it > VmbusVersion::V0_13) {
        let components = components();
        let guest = TestGuest::new();
        for device in components.devices() {
            guest.server.add(device).unwrap();
        }
        let offers = guest.connect(version);
        let heartbeat = components.heartbeat.unwrap();
        let mut channel = guest.open(&offer(&offers, &heartbeat), RING_PAGES);
        negotiate(&mut channel, &guest, (1, 0));
        let request = channel.receive(&guest);
        assert_eq!((type_of(&request.payload), get32(&request.payload, 4)), (1, 60), "{version}");
        channel.close(&guest);
    }
}
