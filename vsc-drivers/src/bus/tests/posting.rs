//! The hypervisor takes messages late, or not at all.

use core::num::NonZeroU16;

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;

use crate::bus::{BusError, BusOptions};
use crate::hal::{DmaBuffer, Hal};
use crate::testing::{connected, machine, opened, run, settle};
use crate::{ChannelError, OpenParams};

#[test]
fn a_message_that_finds_no_room_is_posted_again() {
    for status in [HvError::INSUFFICIENT_BUFFERS, HvError::INSUFFICIENT_MEMORY] {
        let (host, bus, _) = machine(BusOptions::default());
        host.refuse_posts([status; 10]);
        assert_eq!(run(&bus, bus.connect()), Ok(VmbusVersion::V6_0));
        assert_eq!(bus.counts().post_retries, 10);
    }
}

#[test]
fn waits_between_attempts_grow() {
    let (host, bus, _) = machine(BusOptions::default());
    host.refuse_posts([HvError::INSUFFICIENT_BUFFERS; 8]);
    let before = bus.hal().now_100ns();
    run(&bus, bus.connect()).unwrap();
    // 10 µs × (1 + 2 + … + 128).
    assert_eq!(bus.hal().now_100ns() - before, 100 * 255);
}

#[test]
fn a_host_that_never_has_room_is_a_named_error_within_the_time_limit() {
    let (host, bus, _) = machine(BusOptions::default());
    host.refuse_posts([HvError::INSUFFICIENT_BUFFERS; 1000]);
    let before = bus.hal().now_100ns();
    let error = run(&bus, bus.connect()).unwrap_err();
    assert!(matches!(error, BusError::Post(HvError::INSUFFICIENT_BUFFERS) | BusError::NoAnswer(_)));
    assert!(bus.hal().now_100ns() - before <= 6 * crate::SECOND_100NS);
    assert!(bus.counts().post_retries < 100);
}

#[test]
fn other_refusals_are_final() {
    let (host, bus, _) = machine(BusOptions::default());
    let unknown = HvError(NonZeroU16::new(0x77).unwrap());
    for status in [HvError::ACCESS_DENIED, HvError::INVALID_PARAMETER, unknown] {
        host.refuse_posts([status]);
        assert_eq!(run(&bus, bus.connect()), Err(BusError::Post(status)));
    }
    assert_eq!(bus.counts().post_retries, 0);
}

#[test]
fn a_connection_that_seems_missing_is_tried_again_but_not_for_first_contact() {
    let (host, bus, _) = machine(BusOptions::default());
    host.refuse_posts([HvError::INVALID_CONNECTION_ID]);
    assert_eq!(run(&bus, bus.connect()), Ok(VmbusVersion::V5_3), "the next version");

    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    host.refuse_posts([HvError::INVALID_CONNECTION_ID; 3]);
    run(&bus, bus.open(channel, &OpenParams::default())).unwrap();
    assert_eq!(bus.counts().post_retries, 3);
}

#[test]
fn a_gpadl_whose_message_is_refused_frees_its_buffer() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let buffer = DmaBuffer::new(bus.hal(), 100).unwrap();
    host.forgive();
    host.refuse_posts([HvError::ACCESS_DENIED]);
    let shared = run(&bus, channel.share(buffer));
    assert_eq!(shared.err(), Some(ChannelError::Post(HvError::ACCESS_DENIED)));
    settle(&bus);
    assert_eq!(host.count(MessageType::GPADL_TEARDOWN), 0, "the host never knew it");
    assert_eq!((host.pages_in_use(), bus.counts().kept_pages), (3 + 34, 0));
}

#[test]
fn what_the_buss_own_task_can_not_post_is_counted() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    host.refuse_posts([HvError::ACCESS_DENIED]);
    host.rescind(channel);
    settle(&bus);
    assert_eq!(bus.counts().failed_posts, 1);
    assert_eq!(bus.offers(), []);
}
