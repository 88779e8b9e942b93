//! What the host offers, and when the guest is told.

use hv_abi::guid::Guid;
use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;
use std::vec::Vec;

use crate::bus::{BusOptions, Change, ChannelId};
use crate::fake::{FakeHost, FakeOffer};
use crate::testing::{DEVICE, connected, machine, run, settle};

#[test]
fn an_offer_says_what_the_host_said() {
    let host = FakeHost::new();
    let instance = Guid::new(1, 2, 3, 4);
    let offer = FakeOffer::new(DEVICE).instance(instance).user_defined([7; 120]).monitor(99);
    let channel = host.offer(offer.shared_interrupt());
    let bus = host.bus(BusOptions::default());
    run(&bus, async {
        bus.connect().await.unwrap();
        let Change::Offered(offer) = bus.next_change().await else { panic!("an offer first") };
        assert_eq!((offer.channel, offer.interface, offer.instance), (channel, DEVICE, instance));
        assert_eq!((offer.sub_channel, offer.user_defined), (0, [7; 120]));
        assert_eq!((offer.monitor, offer.dedicated), (Some(99), false));
        assert_eq!(offer.connection, 0x1_0000 + channel.relid());
        assert_eq!(bus.next_change().await, Change::AllDelivered);
        assert_eq!(bus.offers(), [offer]);
    });
}

#[test]
fn before_1_1_all_channels_share_one_connection_and_the_interrupt_page() {
    let (_host, bus, _) = connected(VmbusVersion::V0_13);
    let offers = bus.offers();
    assert_eq!((offers[0].connection, offers[0].dedicated), (2, false));
}

#[test]
fn triggers_beyond_the_last_are_none() {
    let host = FakeHost::new();
    host.offer(FakeOffer::new(DEVICE).monitor(128));
    let bus = host.bus(BusOptions::default());
    run(&bus, bus.connect()).unwrap();
    settle(&bus);
    assert_eq!(bus.offers()[0].monitor, None);
}

#[test]
fn what_is_added_later_is_told_later() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    run(&bus, async {
        assert!(matches!(bus.next_change().await, Change::Offered(_)));
        assert_eq!(bus.next_change().await, Change::AllDelivered);
        let later = host.offer(FakeOffer::new(DEVICE));
        let Change::Offered(offer) = bus.next_change().await else { panic!("an offer") };
        assert_eq!(offer.channel, later);
        host.rescind(later);
        assert_eq!(bus.next_change().await, Change::Rescinded(later));
    });
}

#[test]
fn a_listener_is_woken_by_a_hot_add() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    run(&bus, async {
        bus.next_change().await;
        bus.next_change().await;
        let listening = async { assert!(matches!(bus.next_change().await, Change::Offered(_))) };
        let adding = async { _ = host.offer(FakeOffer::new(DEVICE)) };
        crate::task::both(listening, adding).await;
    });
}

#[test]
fn a_hundred_channels_are_found() {
    let host = FakeHost::new();
    let offered: Vec<ChannelId> = (0..100).map(|_| host.offer(FakeOffer::new(DEVICE))).collect();
    let bus = host.bus(BusOptions::default());
    run(&bus, async {
        bus.connect().await.unwrap();
        bus.all_offers_delivered().await.unwrap();
    });
    let found: Vec<_> = bus.offers().iter().map(|offer| offer.channel).collect();
    assert_eq!(found, offered);
}

#[test]
fn all_2047_channels_are_found_if_there_is_room_for_them() {
    let host = FakeHost::new();
    (0..2047).for_each(|_| _ = host.offer(FakeOffer::new(DEVICE)));
    let options = BusOptions { max_channels: 2047, inbox_bytes: 1 << 19, ..Default::default() };
    let bus = host.bus(options);
    run(&bus, async {
        bus.connect().await.unwrap();
        bus.all_offers_delivered().await.unwrap();
    });
    assert_eq!((bus.offers().len(), bus.counts()), (2047, Default::default()));
}

#[test]
fn an_offer_that_is_taken_back_before_anybody_looked_is_never_told() {
    let (host, bus, channel) = machine(BusOptions::default());
    run(&bus, bus.connect()).unwrap();
    host.rescind(channel);
    settle(&bus);
    assert_eq!(run(&bus, bus.next_change()), Change::AllDelivered);
    assert_eq!((bus.offers().len(), host.count(MessageType::RELID_RELEASED)), (0, 1));
}

#[test]
fn sub_channels_exist_from_2_4_on() {
    for version in VmbusVersion::ALL {
        let (host, bus, _) = connected(version);
        host.offer(FakeOffer::new(DEVICE).sub_channel(5));
        settle(&bus);
        let indices: Vec<_> = bus.offers().iter().map(|offer| offer.sub_channel).collect();
        let expected = if version >= VmbusVersion::V2_4 { 5 } else { 0 };
        assert_eq!(indices, [0, expected]);
    }
}
