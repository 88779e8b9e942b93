//! Opening, closing, reopening.

use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;

use crate::fake::{FakeOffer, Mischief};
use crate::task::both;
use crate::testing::{DEVICE, connected, opened, run, settle, small};
use crate::{BusOptions, ChannelError, ChannelId, OpenParams, Request};

#[test]
fn a_channel_opens_closes_and_opens_again_at_every_version() {
    for version in VmbusVersion::ALL {
        let (host, bus, channel) = connected(version);
        for _ in 0..3 {
            run(&bus, async {
                let opened = bus.open(channel, &OpenParams::default()).await.unwrap();
                assert_eq!(opened.version(), version);
                assert_eq!(opened.close().await, Ok(()));
            });
        }
        assert_eq!(host.count(MessageType::CLOSECHANNEL), 3);
        assert_eq!((host.pages_in_use(), bus.counts()), (3, Default::default()));
    }
}

#[test]
fn a_dropped_channel_is_closed_by_the_buss_task() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    drop(channel);
    assert_eq!(host.count(MessageType::CLOSECHANNEL), 0);
    settle(&bus);
    assert_eq!(host.count(MessageType::CLOSECHANNEL), 1);
    assert_eq!(host.pages_in_use(), 3);
}

#[test]
fn closing_goes_on_when_the_buss_task_is_begun_anew() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    host.misbehave(MessageType::GPADL_TEARDOWN, 1, Mischief::Late(crate::SECOND_100NS));
    drop(channel);
    settle(&bus);
    assert_eq!(host.pages_in_use(), 3 + 34, "the host takes its time");
    run(&bus, crate::task::sleep_until(bus.hal(), 2 * crate::SECOND_100NS));
    assert_eq!((host.pages_in_use(), bus.counts().kept_pages), (3, 0));
    assert_eq!(host.count(MessageType::GPADL_TEARDOWN), 1);
}

#[test]
fn a_channel_is_open_once() {
    let (_host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    let again = run(&bus, bus.open(id, &OpenParams::default()));
    assert_eq!(again.err(), Some(ChannelError::Busy));
    run(&bus, channel.close()).unwrap();
    assert!(run(&bus, bus.open(id, &OpenParams::default())).is_ok());
}

#[test]
fn a_closed_channel_can_be_opened_again_while_others_still_hold_it() {
    let (_host, bus, channel) = opened(VmbusVersion::V5_3);
    run(&bus, channel.close()).unwrap();
    let again = run(&bus, bus.open(channel.offer().channel, &OpenParams::default())).unwrap();
    assert_eq!((channel.check(), again.check()), (Err(ChannelError::Closed), Ok(())));
    assert_eq!(run(&bus, channel.close()), Err(ChannelError::Closed));
    assert_eq!(run(&bus, channel.wait()), Err(ChannelError::Closed));
    assert_eq!(channel.try_receive(&mut [], |_| ()), Err(ChannelError::Closed));
}

#[test]
fn closing_wakes_who_waits() {
    let (_host, bus, channel) = opened(VmbusVersion::V5_3);
    let waits = async { assert_eq!(channel.wait().await, Err(ChannelError::Closed)) };
    run(&bus, both(waits, async { channel.close().await.unwrap() }));
}

#[test]
fn channels_that_are_not_offered_do_not_open() {
    let (host, bus, _) = connected(VmbusVersion::V5_3);
    let channel = ChannelId::new(77).unwrap();
    let opened = run(&bus, bus.open(channel, &OpenParams::default()));
    assert_eq!(opened.err(), Some(ChannelError::NoChannel));
    assert_eq!(host.count(MessageType::GPADL_HEADER), 0);
}

#[test]
fn sizes_that_are_none_are_refused_before_anything_is_sent() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    for bytes in [0, 1, 4095, 4097, 8190 * 4096, usize::MAX, usize::MAX & !4095] {
        let send = OpenParams { send_bytes: bytes, ..OpenParams::default() };
        let receive = OpenParams { receive_bytes: bytes, ..OpenParams::default() };
        for params in [send, receive] {
            let opened = run(&bus, bus.open(channel, &params));
            assert_eq!(opened.err(), Some(ChannelError::BadSize), "{bytes}");
        }
    }
    // Each would do, but both together are more than a GPADL can be.
    let half = 4096 * 4096;
    let params = OpenParams { send_bytes: half, receive_bytes: half, ..OpenParams::default() };
    assert_eq!(run(&bus, bus.open(channel, &params)).err(), Some(ChannelError::BadSize));
    let params = OpenParams { user_data: &[0; 121], ..OpenParams::default() };
    assert_eq!(run(&bus, bus.open(channel, &params)).err(), Some(ChannelError::BadSize));
    assert_eq!(host.count(MessageType::GPADL_HEADER), 0);
    assert_eq!(host.pages_in_use(), 3);
}

#[test]
fn without_memory_a_channel_does_not_open_and_stays_free() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    host.limit_memory(Some(0));
    let opened = run(&bus, bus.open(channel, &OpenParams::default()));
    assert_eq!(opened.err(), Some(ChannelError::NoMemory));
    host.limit_memory(None);
    assert!(run(&bus, bus.open(channel, &OpenParams::default())).is_ok());
}

#[test]
fn a_refusal_is_told_with_its_status_and_leaves_nothing_behind() {
    let cases =
        [(MessageType::GPADL_HEADER, Request::Gpadl), (MessageType::OPENCHANNEL, Request::Open)];
    for (message, request) in cases {
        let (host, bus, channel) = connected(VmbusVersion::V5_3);
        host.misbehave(message, 1, Mischief::Refuse(0xC000_0001));
        let opened = run(&bus, bus.open(channel, &OpenParams::default()));
        assert_eq!(opened.err(), Some(ChannelError::Refused(request, 0xC000_0001)));
        settle(&bus);
        assert_eq!(host.pages_in_use(), 3);
        assert_eq!(host.count(MessageType::CLOSECHANNEL), 0);
        assert!(run(&bus, bus.open(channel, &OpenParams::default())).is_ok());
    }
}

#[test]
fn giving_up_while_the_host_is_slow_leaves_nothing_behind() {
    for message in [MessageType::GPADL_HEADER, MessageType::OPENCHANNEL] {
        let (host, bus, channel) = connected(VmbusVersion::V5_3);
        host.misbehave(message, 1, Mischief::Late(crate::SECOND_100NS));
        run(&bus, async {
            let params = small();
            let opening = bus.open(channel, &params);
            let limit = crate::SECOND_100NS / 2;
            assert!(crate::task::within(bus.hal(), limit, opening).await.is_err());
        });
        settle(&bus);
        run(
            &bus,
            crate::task::within(bus.hal(), 2 * crate::SECOND_100NS, core::future::pending::<()>()),
        )
        .unwrap_err();
        assert_eq!(host.pages_in_use(), 3, "{message:?}");
        assert!(run(&bus, bus.open(channel, &small())).is_ok());
    }
}

#[test]
fn many_channels_open_at_the_same_time() {
    let host = crate::fake::FakeHost::new();
    let offered: std::vec::Vec<_> = (0..64).map(|_| host.offer(FakeOffer::new(DEVICE))).collect();
    let bus = host.bus(BusOptions::default());
    run(&bus, async {
        bus.connect().await.unwrap();
        bus.all_offers_delivered().await.unwrap();
        let mut open = std::vec::Vec::new();
        for channel in &offered {
            open.push(bus.open(*channel, &small()).await.unwrap());
        }
        drop(open);
    });
    settle(&bus);
    assert_eq!((host.pages_in_use(), bus.counts()), (3, Default::default()));
    assert_eq!(host.count(MessageType::CLOSECHANNEL), 64);
}

#[test]
fn sub_channels_are_waited_for_and_open_like_others() {
    let (host, bus, primary) = opened(VmbusVersion::V5_3);
    let instance = primary.offer().instance;
    let sub = |index| FakeOffer::new(DEVICE).instance(instance).sub_channel(index);
    let offers = async {
        crate::task::sleep_until(bus.hal(), crate::SECOND_100NS).await;
        host.offer(sub(2));
        host.offer(sub(1));
        host.offer(FakeOffer::new(DEVICE).sub_channel(3));
    };
    let opens = async {
        for index in [1, 2] {
            let channel = primary.sub_channel(index).await.unwrap();
            let opened = bus.open(channel, &small()).await.unwrap();
            assert_eq!(opened.offer().sub_channel, index);
            assert_eq!(opened.offer().instance, instance);
        }
        let other = primary.sub_channel(3).await;
        assert_eq!(other, Err(ChannelError::NoAnswer(Request::SubChannel)), "another device's");
    };
    run(&bus, both(opens, offers));
}

#[test]
fn there_are_no_sub_channels_before_2_4() {
    let (_host, bus, primary) = opened(VmbusVersion::V1_1);
    assert_eq!(run(&bus, primary.sub_channel(1)), Err(ChannelError::NotInVersion));
}

#[test]
fn waiting_for_a_sub_channel_ends_with_the_device() {
    let (host, bus, primary) = opened(VmbusVersion::V5_3);
    let waits = async {
        assert_eq!(primary.sub_channel(1).await, Err(ChannelError::Rescinded));
    };
    run(&bus, both(waits, async { host.rescind(primary.offer().channel) }));
}

#[test]
fn signals_move_to_another_processor_as_the_version_says() {
    for version in VmbusVersion::ALL {
        let (host, bus, channel) = opened(version);
        let id = channel.offer().channel;
        let moved = run(&bus, channel.set_target_vp(1));
        if version < VmbusVersion::V4_1 {
            assert_eq!(moved, Err(ChannelError::NotInVersion));
            continue;
        }
        assert_eq!((moved, host.target_vp(id)), (Ok(()), Some(1)));
        host.misbehave(MessageType::MODIFYCHANNEL, 1, Mischief::Silence);
        let silent = run(&bus, channel.set_target_vp(2));
        if version < VmbusVersion::V5_3 {
            assert_eq!(silent, Ok(()), "there is no answer");
        } else {
            assert_eq!(silent, Err(ChannelError::NoAnswer(Request::Modify)));
            host.misbehave(MessageType::MODIFYCHANNEL, 1, Mischief::Refuse(3));
            let refused = run(&bus, channel.set_target_vp(2));
            assert_eq!(refused, Err(ChannelError::Refused(Request::Modify, 3)));
        }
    }
}
