//! Versions, contact, unload and reconnect.

use hv_abi::vmbus::VMBUS_MESSAGE_SINT;
use hv_abi::vmbus::message::{InitiateContact, MessageType};
use hv_abi::vmbus::version::VmbusVersion;
use std::vec::Vec;
use zerocopy::FromBytes;

use crate::bus::{BusError, BusOptions, Request};
use crate::fake::{FakeHost, GPA_OFFSET, Mischief};
use crate::testing::{connected, machine, opened, run};
use crate::{ChannelError, OpenParams};

/// The versions that the guest asked for, each with the connection.
fn asked(host: &FakeHost) -> Vec<(u32, InitiateContact)> {
    let contact = |(connection, bytes): (u32, Vec<u8>)| {
        let message = InitiateContact::read_from_bytes(&bytes).ok()?;
        (message.header.msgtype == MessageType::INITIATE_CONTACT).then_some((connection, message))
    };
    host.messages().into_iter().filter_map(contact).collect()
}

fn versions(host: &FakeHost) -> Vec<VmbusVersion> {
    asked(host).iter().map(|(_, message)| message.vmbus_version_requested).collect()
}

#[test]
fn every_version_can_be_forced() {
    for version in VmbusVersion::ALL {
        let (host, bus, _) = connected(version);
        assert_eq!(bus.version(), Some(version));
        assert_eq!(versions(&host), [version]);
        assert_eq!(bus.offers().len(), 1, "version {version}");
        assert_eq!(bus.counts(), Default::default(), "version {version}");
    }
}

#[test]
fn the_newest_version_of_the_host_is_found_downwards() {
    for newest in VmbusVersion::ALL {
        let (host, bus, _) = machine(BusOptions::default());
        host.speak(VmbusVersion::V0_13, newest);
        assert_eq!(run(&bus, bus.connect()), Ok(newest));
        let tried: Vec<_> =
            VmbusVersion::ALL.into_iter().filter(|version| *version >= newest).collect();
        // A host before 5.0 does not even get the messages of the newer ones: it lacks their connection.
        let reached =
            |version: &VmbusVersion| newest >= VmbusVersion::V5_0 || *version < VmbusVersion::V5_0;
        let reached: Vec<_> = tried.into_iter().filter(reached).collect();
        assert_eq!(versions(&host), reached);
    }
}

#[test]
fn a_host_that_is_too_new_or_too_old_is_told_apart_from_one_that_is_silent() {
    let (host, bus, _) = machine(BusOptions::default().forced(VmbusVersion::V4_0));
    host.speak(VmbusVersion::V5_0, VmbusVersion::V6_0);
    assert_eq!(run(&bus, bus.connect()), Err(BusError::NoVersion));
    assert_eq!(bus.version(), None);

    let (host, bus, _) = machine(BusOptions::default());
    host.misbehave(MessageType::INITIATE_CONTACT, usize::MAX, Mischief::Silence);
    assert_eq!(run(&bus, bus.connect()), Err(BusError::NoAnswer(Request::Contact)));
}

#[test]
fn a_host_that_knows_the_version_but_refuses_is_told_by_its_reason() {
    let (host, bus, _) = machine(BusOptions::default());
    host.misbehave(MessageType::INITIATE_CONTACT, 1, Mischief::Refuse(1));
    assert_eq!(run(&bus, bus.connect()), Err(BusError::Refused(1)));
    assert_eq!(run(&bus, bus.connect()), Ok(VmbusVersion::V6_0), "and may agree later");
}

#[test]
fn connections_and_targets_are_those_of_the_version() {
    for version in VmbusVersion::ALL {
        let (host, _bus, _) = connected(version);
        let [(connection, message)] = asked(&host)[..] else { panic!("one contact") };
        assert_eq!(message.target_vcpu, 3);
        if version >= VmbusVersion::V5_0 {
            assert_eq!((connection, message.target), (4, u64::from(VMBUS_MESSAGE_SINT)));
        } else {
            assert_eq!(connection, 1);
            assert!(message.target >= GPA_OFFSET && message.target.is_multiple_of(4096));
        }
        let others = if version >= VmbusVersion::V5_0 { 0x2004 } else { 1 };
        assert!(host.messages()[1..].iter().all(|(connection, _)| *connection == others));
    }
}

#[test]
fn another_source_needs_version_5_0() {
    let options = BusOptions { sint: 7, ..BusOptions::default() };
    let (host, bus, _) = machine(options);
    assert_eq!(run(&bus, bus.connect()), Ok(VmbusVersion::V6_0));
    assert_eq!(asked(&host)[0].1.target, 7);

    let (host, bus, _) = machine(options);
    host.speak(VmbusVersion::V0_13, VmbusVersion::V4_1);
    assert_eq!(run(&bus, bus.connect()), Err(BusError::NoVersion));
    assert_eq!(asked(&host), []);
}

#[test]
fn monitor_pages_are_two_pages_or_none() {
    let (host, _bus, _) = connected(VmbusVersion::V5_3);
    let message = asked(&host)[0].1;
    assert!(message.monitor_page1 >= GPA_OFFSET);
    assert_eq!(message.monitor_page2, message.monitor_page1 + 4096);

    let options = BusOptions { monitor_pages: false, ..BusOptions::default() };
    let (host, bus, _) = machine(options);
    run(&bus, bus.connect()).unwrap();
    let message = asked(&host)[0].1;
    assert_eq!((message.monitor_page1, message.monitor_page2), (0, 0));
}

#[test]
fn a_late_answer_is_waited_for() {
    let (host, bus, _) = machine(BusOptions::default());
    host.misbehave(MessageType::INITIATE_CONTACT, 1, Mischief::Late(4 * crate::SECOND_100NS));
    assert_eq!(run(&bus, bus.connect()), Ok(VmbusVersion::V6_0));
}

#[test]
fn there_is_one_connection_at_a_time() {
    let (_host, bus, _) = connected(VmbusVersion::V5_3);
    assert_eq!(run(&bus, bus.connect()), Err(BusError::Busy));
    assert_eq!(bus.version(), Some(VmbusVersion::V5_3));
}

#[test]
fn offers_that_never_end_are_a_named_error() {
    let (host, bus, _) = machine(BusOptions::default());
    host.misbehave(MessageType::REQUESTOFFERS, 1, Mischief::Silence);
    run(&bus, async {
        bus.connect().await.unwrap();
        assert_eq!(bus.all_offers_delivered().await, Err(BusError::NoAnswer(Request::Offers)));
    });
}

#[test]
fn nothing_works_without_a_connection() {
    let (_host, bus, channel) = machine(BusOptions::default());
    run(&bus, async {
        assert_eq!(bus.unload().await, Err(BusError::Disconnected));
        assert_eq!(bus.all_offers_delivered().await, Err(BusError::Disconnected));
        let opened = bus.open(channel, &OpenParams::default()).await;
        assert_eq!(opened.err(), Some(ChannelError::Disconnected));
    });
}

#[test]
fn without_memory_there_is_no_contact() {
    let (host, bus, _) = machine(BusOptions::default());
    host.limit_memory(Some(0));
    assert_eq!(run(&bus, bus.connect()), Err(BusError::NoMemory));
    assert_eq!(host.messages(), []);
    host.limit_memory(None);
    assert_eq!(run(&bus, bus.connect()), Ok(VmbusVersion::V6_0));
}

#[test]
fn unload_and_reconnect_work_at_every_version() {
    for version in VmbusVersion::ALL {
        let (host, bus, channel) = connected(version);
        for _ in 0..3 {
            run(&bus, async {
                assert_eq!(bus.unload().await, Ok(()));
                assert_eq!((bus.version(), bus.offers().len()), (None, 0));
                assert_eq!(bus.connect().await, Ok(version));
                bus.all_offers_delivered().await.unwrap();
                bus.open(channel, &OpenParams::default()).await.unwrap().close().await.unwrap();
            });
        }
        assert_eq!(host.count(MessageType::UNLOAD), 3);
        assert_eq!(host.count(MessageType::INITIATE_CONTACT), 4);
        assert_eq!(host.pages_in_use(), 3, "the pages for signals");
    }
}

#[test]
fn an_open_channel_ends_with_the_connection_and_its_memory_is_freed() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    run(&bus, async {
        bus.unload().await.unwrap();
        assert_eq!(channel.wait().await, Err(ChannelError::Disconnected));
        assert_eq!(channel.close().await, Ok(()));
        drop(channel);
    });
    assert_eq!(host.pages_in_use(), 3);
    assert_eq!(host.count(MessageType::CLOSECHANNEL), 0, "there was nobody to tell");
}

#[test]
fn whoever_waits_for_a_channel_is_woken_by_unload() {
    let (_host, bus, channel) = opened(VmbusVersion::V4_1);
    let waited = crate::task::both(
        async { assert_eq!(channel.wait().await, Err(ChannelError::Disconnected)) },
        async { bus.unload().await.unwrap() },
    );
    run(&bus, waited);
}

#[test]
fn what_is_left_of_the_old_connection_never_reaches_the_new_one() {
    let (host, bus, old) = opened(VmbusVersion::V5_3);
    let channel = old.offer().channel;
    run(&bus, async {
        bus.unload().await.unwrap();
        bus.connect().await.unwrap();
        bus.all_offers_delivered().await.unwrap();
        let new = bus.open(channel, &OpenParams::default()).await.unwrap();
        assert_eq!(old.close().await, Ok(()));
        assert_eq!(old.check(), Err(ChannelError::Closed));
        assert_eq!(new.check(), Ok(()));
        assert_eq!(host.count(MessageType::CLOSECHANNEL), 0);
        assert_eq!(host.count(MessageType::GPADL_TEARDOWN), 0);
        new.close().await.unwrap();
    });
}

#[test]
fn memory_is_kept_from_a_host_that_does_not_answer_an_unload() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    host.misbehave(MessageType::UNLOAD, 1, Mischief::Silence);
    run(&bus, async {
        assert_eq!(bus.unload().await, Err(BusError::NoAnswer(Request::Unload)));
        assert_eq!(channel.close().await, Err(ChannelError::NoAnswer(Request::Unload)));
    });
    drop(channel);
    // 2 rings of 17 pages, and the pages for signals. The host checks that none is freed.
    assert_eq!((host.pages_in_use(), bus.counts().kept_pages), (3 + 34, 34));
    drop(bus);
    assert_eq!(host.pages_in_use(), 3 + 34);
}

#[test]
fn memory_is_kept_from_a_host_whose_version_has_no_answer_to_an_unload() {
    let (host, bus, channel) = opened(VmbusVersion::V0_13);
    run(&bus, async {
        assert_eq!(bus.unload().await, Ok(()));
        assert_eq!(channel.close().await, Err(ChannelError::NoAnswer(Request::Unload)));
    });
    drop((channel, bus));
    assert_eq!(host.pages_in_use(), 3 + 34);
}

#[test]
fn a_bus_that_is_dropped_leaves_the_host_its_pages_unless_it_was_unloaded() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    drop(bus);
    assert_eq!(host.pages_in_use(), 3);

    let (host, bus, _) = connected(VmbusVersion::V5_3);
    run(&bus, bus.unload()).unwrap();
    drop(bus);
    assert_eq!(host.pages_in_use(), 0);
}
