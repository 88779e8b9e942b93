//! The host takes back what it offered, at any moment.

use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;

use crate::fake::{FakeOffer, Mischief};
use crate::hal::DmaBuffer;
use crate::task::both;
use crate::testing::{DEVICE, connected, much_later, opened, run, settle};
use crate::{ChannelError, OpenParams};

#[test]
fn a_channel_that_nobody_uses_is_released_at_once() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    host.rescind(channel);
    settle(&bus);
    assert!(!host.has(channel));
    let opened = run(&bus, bus.open(channel, &OpenParams::default()));
    assert_eq!(opened.err(), Some(ChannelError::NoChannel));
}

#[test]
fn an_open_channel_is_released_when_it_is_closed() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    host.rescind(id);
    settle(&bus);
    assert_eq!(channel.check(), Err(ChannelError::Rescinded));
    assert!(host.has(id), "still in use");
    run(&bus, channel.close()).unwrap();
    settle(&bus);
    assert!(!host.has(id));
    assert_eq!(host.count(MessageType::RELID_RELEASED), 1);
    assert_eq!(host.count(MessageType::GPADL_TEARDOWN), 1);
}

#[test]
fn a_host_that_says_nothing_of_memory_after_it_took_a_channel_back_is_not_waited_for_long() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    host.misbehave(MessageType::GPADL_TEARDOWN, 2, Mischief::Silence);
    host.rescind(id);
    assert_eq!(run(&bus, channel.close()), Ok(()));
    drop(channel);
    settle(&bus);
    assert!(!host.has(id));
    assert_eq!((host.pages_in_use(), bus.counts().kept_pages), (3, 0));
}

#[test]
fn memory_is_not_freed_before_a_host_that_took_its_channel_back_has_done_with_it() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    host.misbehave(MessageType::GPADL_TEARDOWN, 1, Mischief::Late(crate::SECOND_100NS));
    host.rescind(channel.offer().channel);
    drop(channel);
    settle(&bus);
    assert_eq!(host.pages_in_use(), 3 + 34);
    run(&bus, crate::task::sleep_until(bus.hal(), 2 * crate::SECOND_100NS));
    assert_eq!(host.pages_in_use(), 3);
}

#[test]
fn an_open_channel_is_released_when_it_is_dropped() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    host.rescind(id);
    drop(channel);
    settle(&bus);
    assert!(!host.has(id));
    assert_eq!(host.pages_in_use(), 3);
}

#[test]
fn a_channel_is_not_released_while_memory_is_shared_by_it() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    let buffer = DmaBuffer::new(bus.hal(), 4).unwrap();
    let shared = run(&bus, channel.share(buffer)).unwrap();
    host.rescind(id);
    run(&bus, channel.close()).unwrap();
    settle(&bus);
    assert!(host.has(id));
    let buffer = run(&bus, shared.unshare()).unwrap();
    settle(&bus);
    assert!(!host.has(id));
    assert_eq!(buffer.pages(), 4);
}

#[test]
fn whoever_waits_for_packets_is_told() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let waits = async { assert_eq!(channel.wait().await, Err(ChannelError::Rescinded)) };
    let takes = async { host.rescind(channel.offer().channel) };
    run(&bus, both(waits, takes));
}

#[test]
fn the_number_may_be_used_again_afterwards() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    host.rescind(id);
    run(&bus, channel.close()).unwrap();
    settle(&bus);
    let again = host.offer(FakeOffer::new(DEVICE));
    assert_eq!(again, id);
    settle(&bus);
    let again = run(&bus, bus.open(again, &OpenParams::default())).unwrap();
    assert_eq!((again.check(), channel.check()), (Ok(()), Err(ChannelError::Closed)));
}

#[test]
fn opening_ends_when_the_channel_is_taken_back_meanwhile() {
    for message in [MessageType::GPADL_HEADER, MessageType::OPENCHANNEL] {
        for mischief in [Mischief::Rescind, Mischief::AnswerAndRescind] {
            let (host, bus, channel) = connected(VmbusVersion::V5_3);
            host.misbehave(message, 1, mischief.clone());
            let opened = run(&bus, bus.open(channel, &OpenParams::default()));
            match opened {
                Err(error) => assert_eq!(error, ChannelError::Rescinded, "{mischief:?}"),
                // The answer was there before the channel was taken back.
                Ok(opened) => assert_eq!(opened.check(), Err(ChannelError::Rescinded)),
            }
            much_later(&bus);
            assert!(!host.has(channel), "{message:?} {mischief:?}");
            assert_eq!((host.pages_in_use(), bus.counts().kept_pages), (3, 0));
        }
    }
}

#[test]
fn sharing_ends_when_the_channel_is_taken_back_meanwhile() {
    for (message, pages) in [(MessageType::GPADL_HEADER, 1), (MessageType::GPADL_BODY, 100)] {
        let (host, bus, channel) = opened(VmbusVersion::V5_3);
        let id = channel.offer().channel;
        if message == MessageType::GPADL_BODY {
            // A body does not name the channel.
            let message = [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0].to_vec();
            host.misbehave(MessageType::GPADL_BODY, 1, Mischief::Instead([message].into()));
        } else {
            host.misbehave(message, 1, Mischief::Rescind);
        }
        let buffer = DmaBuffer::new(bus.hal(), pages).unwrap();
        let shared = run(&bus, channel.share(buffer));
        assert_eq!(shared.err(), Some(ChannelError::Rescinded));
        assert_eq!(channel.check(), Err(ChannelError::Rescinded));
        drop(channel);
        much_later(&bus);
        assert_eq!(host.pages_in_use(), 3);
        assert_eq!(host.has(id), message == MessageType::GPADL_BODY, "if the host meant it");
    }
}

#[test]
fn closing_ends_when_the_channel_is_taken_back_meanwhile() {
    for message in [MessageType::CLOSECHANNEL, MessageType::GPADL_TEARDOWN] {
        let (host, bus, channel) = opened(VmbusVersion::V5_3);
        let id = channel.offer().channel;
        host.misbehave(message, 1, Mischief::Rescind);
        assert_eq!(run(&bus, channel.close()), Ok(()), "{message:?}");
        settle(&bus);
        assert!(!host.has(id));
        drop(channel);
        assert_eq!((host.pages_in_use(), bus.counts().kept_pages), (3, 0));
    }
}

#[test]
fn moving_signals_ends_when_the_channel_is_taken_back_meanwhile() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    host.misbehave(MessageType::MODIFYCHANNEL, 1, Mischief::Rescind);
    assert_eq!(run(&bus, channel.set_target_vp(1)), Err(ChannelError::Rescinded));
}

#[test]
fn one_channel_taken_back_leaves_the_others_alone() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let other = host.offer(FakeOffer::new(DEVICE));
    settle(&bus);
    let other = run(&bus, bus.open(other, &OpenParams::default())).unwrap();
    host.rescind(channel.offer().channel);
    settle(&bus);
    assert_eq!((channel.check(), other.check()), (Err(ChannelError::Rescinded), Ok(())));
    run(&bus, other.close()).unwrap();
}
