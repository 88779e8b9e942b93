//! Shared memory.

use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;
use std::vec;

use crate::fake::{HostEnd, Mischief};
use crate::hal::{DmaBuffer, Hal, OutOfRange};
use crate::testing::{opened, run, settle};
use crate::{ChannelError, Request};

fn end(host: &crate::fake::FakeHost, bus: &crate::Vmbus<crate::fake::FakeHal>) -> HostEnd {
    run(bus, host.opened(bus.offers()[0].channel))
}

#[test]
fn both_sides_see_the_same_bytes() {
    for pages in [1, 26, 27, 54, 55, 300] {
        let (host, bus, channel) = opened(VmbusVersion::V5_3);
        let end = end(&host, &bus);
        let buffer = DmaBuffer::new(bus.hal(), pages).unwrap();
        let shared = run(&bus, channel.share(buffer)).unwrap();
        let last = pages * 4096 - 5;
        shared.write(last, b"guest").unwrap();
        assert_eq!(end.read_gpadl(shared.gpadl(), last, 5), b"guest");
        end.write_gpadl(shared.gpadl(), 0, b"host!");
        let mut bytes = [0; 5];
        shared.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"host!");
        let buffer = run(&bus, shared.unshare()).unwrap();
        assert_eq!(buffer.pages(), pages);
        assert_eq!(host.gpadl(0xE1E11), None);
    }
}

#[test]
fn gpadls_have_different_numbers() {
    let (_host, bus, channel) = opened(VmbusVersion::V5_3);
    let share = || run(&bus, channel.share(DmaBuffer::new(bus.hal(), 1).unwrap())).unwrap();
    let (first, second) = (share(), share());
    assert_ne!(first.gpadl(), second.gpadl());
    let number = first.gpadl();
    run(&bus, first.unshare()).unwrap();
    assert!(share().gpadl() != number);
}

#[test]
fn a_dropped_buffer_is_taken_back_and_freed() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let shared = run(&bus, channel.share(DmaBuffer::new(bus.hal(), 7).unwrap())).unwrap();
    drop(shared);
    assert_eq!(host.pages_in_use(), 3 + 34 + 7);
    settle(&bus);
    assert_eq!(host.pages_in_use(), 3 + 34);
}

#[test]
fn a_refused_buffer_is_freed() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    for pages in [5, 500] {
        host.misbehave(MessageType::GPADL_HEADER, 1, Mischief::Refuse(7));
        let shared = run(&bus, channel.share(DmaBuffer::new(bus.hal(), pages).unwrap()));
        assert_eq!(shared.err(), Some(ChannelError::Refused(Request::Gpadl, 7)));
        assert_eq!(host.pages_in_use(), 3 + 34);
    }
}

#[test]
fn a_buffer_too_large_is_refused_before_anything_is_sent() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let before = host.messages().len();
    let shared = run(&bus, channel.share(DmaBuffer::new(bus.hal(), 8191).unwrap()));
    assert_eq!(shared.err(), Some(ChannelError::BadSize));
    assert_eq!((host.messages().len(), host.pages_in_use()), (before, 3 + 34));
}

#[test]
fn the_largest_buffer_is_shared() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let shared = run(&bus, channel.share(DmaBuffer::new(bus.hal(), 8190).unwrap())).unwrap();
    assert_eq!(host.gpadl(shared.gpadl()).map(|pages| pages.len()), Some(8190));
    run(&bus, shared.unshare()).unwrap();
}

#[test]
fn nothing_is_shared_by_a_closed_channel() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    run(&bus, channel.close()).unwrap();
    let shared = run(&bus, channel.share(DmaBuffer::new(bus.hal(), 1).unwrap()));
    assert_eq!(shared.err(), Some(ChannelError::Closed));
    drop(channel);
    assert_eq!(host.pages_in_use(), 3);
}

#[test]
fn a_buffer_may_outlive_its_channel() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let id = channel.offer().channel;
    let shared = run(&bus, channel.share(DmaBuffer::new(bus.hal(), 1).unwrap())).unwrap();
    run(&bus, channel.close()).unwrap();
    let again = run(&bus, bus.open(id, &crate::OpenParams::default()));
    assert_eq!(again.err(), Some(ChannelError::Busy), "the buffer is still the channel's");
    run(&bus, shared.unshare()).unwrap();
    assert!(run(&bus, bus.open(id, &crate::OpenParams::default())).is_ok());
    assert_eq!(host.count(MessageType::GPADL_TEARDOWN), 2);
}

#[test]
fn sharing_and_taking_back_survive_a_thousand_rounds() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    run(&bus, async {
        for round in 0..1000 {
            let buffer = DmaBuffer::new(bus.hal(), round % 60 + 1).unwrap();
            let shared = channel.share(buffer).await.unwrap();
            if round % 2 == 0 {
                shared.unshare().await.unwrap();
            }
        }
    });
    settle(&bus);
    assert_eq!((host.pages_in_use(), bus.counts()), (3 + 34, Default::default()));
}

#[test]
fn accesses_past_the_end_touch_nothing() {
    let (host, _bus, _channel) = opened(VmbusVersion::V5_3);
    let buffer = DmaBuffer::new(&host.hal(), 1).unwrap();
    buffer.write(0, &[7; 4096]).unwrap();
    for (offset, length) in [(4096, 1), (4095, 2), (0, 4097), (usize::MAX, 1), (usize::MAX, 0)] {
        let mut bytes = vec![1; length];
        assert_eq!(buffer.read(offset, &mut bytes), Err(OutOfRange));
        assert_eq!(buffer.write(offset, &bytes), Err(OutOfRange));
    }
    assert_eq!(buffer.read(4096, &mut []), Ok(()));
    let mut all = [0; 4096];
    buffer.read(0, &mut all).unwrap();
    assert_eq!(all, [7; 4096]);
    assert!(host.hal().allocate(0).is_none());
}
