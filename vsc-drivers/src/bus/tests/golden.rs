//! The bytes of each message that the guest sends, written down from Linux's structures (`include/linux/hyperv.h`), not
//! from ours.

use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;
use std::vec::Vec;

use crate::OpenParams;
use crate::fake::{FakeHost, GPA_OFFSET};
use crate::hal::DmaBuffer;
use crate::testing::{connected, opened, run, settle};

/// The last message of that type.
fn last(host: &FakeHost, kind: u32) -> Vec<u8> {
    let all = host.messages();
    let is = |bytes: &&Vec<u8>| bytes[..4] == kind.to_le_bytes();
    all.iter().map(|(_, bytes)| bytes).rfind(is).expect("such a message").clone()
}

#[track_caller]
fn assert_words(bytes: &[u8], words: &[u32]) {
    let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(bytes, expected);
}

#[test]
fn initiate_contact_from_5_0_on_names_the_source() {
    let (host, _bus, _) = connected(VmbusVersion::V5_2);
    let bytes = last(&host, 14);
    // header, version 5.2, virtual processor 3, SINT 2 and padding.
    assert_words(&bytes[..24], &[14, 0, 0x0005_0002, 3, 2, 0]);
    // Two addresses of monitor pages.
    assert_eq!(bytes.len(), 40);
}

#[test]
fn initiate_contact_before_5_0_has_the_interrupt_page() {
    let (host, _bus, _) = connected(VmbusVersion::V4_1);
    let bytes = last(&host, 14);
    assert_words(&bytes[..16], &[14, 0, 0x0004_0001, 3]);
    let page = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    assert_eq!(page, GPA_OFFSET + (page - GPA_OFFSET));
    assert_eq!((page % 4096, bytes.len()), (0, 40));
}

#[test]
fn requestoffers_and_unload_are_headers() {
    let (host, bus, _) = connected(VmbusVersion::V3_0);
    assert_words(&last(&host, 3), &[3, 0]);
    run(&bus, bus.unload()).unwrap();
    assert_words(&last(&host, 16), &[16, 0]);
}

#[test]
fn a_small_gpadl_is_one_message() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let buffer = DmaBuffer::new(bus.hal(), 2).unwrap();
    let page = buffer.gpa().0 / 4096;
    let shared = run(&bus, channel.share(buffer)).unwrap();
    let bytes = last(&host, 8);
    // header, channel 1, GPADL; range_buflen 24 and rangecount 1; byte_count 8192, byte_offset 0; two page numbers.
    assert_words(&bytes[..28], &[8, 0, 1, shared.gpadl(), 24 | 1 << 16, 8192, 0]);
    assert_eq!(bytes[28..36], page.to_le_bytes());
    assert_eq!(bytes[36..], (page + 1).to_le_bytes());
}

#[test]
fn a_large_gpadl_goes_on_in_bodies() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let buffer = DmaBuffer::new(bus.hal(), 26 + 28 + 1).unwrap();
    let page = buffer.gpa().0 / 4096;
    let before = host.messages().len();
    let shared = run(&bus, channel.share(buffer)).unwrap();
    let messages = &host.messages()[before..];
    let lengths: Vec<_> = messages.iter().map(|(_, bytes)| bytes.len()).collect();
    // 20 + 8 + 26 × 8 in the header; 16 + 28 × 8 in a body.
    assert_eq!(lengths, [236, 240, 24]);
    let (first, body, last) = (&messages[0].1, &messages[1].1, &messages[2].1);
    assert_words(&first[..28], &[8, 0, 1, shared.gpadl(), (8 + 55 * 8) | 1 << 16, 55 * 4096, 0]);
    assert_words(&body[..16], &[9, 0, 0, shared.gpadl()]);
    assert_eq!(body[16..24], (page + 26).to_le_bytes());
    assert_words(&last[..16], &[9, 0, 0, shared.gpadl()]);
    assert_eq!(last[16..], (page + 54).to_le_bytes());
}

#[test]
fn openchannel_has_the_rings_and_the_drivers_bytes() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    let params = OpenParams {
        send_bytes: 4096,
        receive_bytes: 8192,
        user_data: &[0xAB, 0xCD],
        target_vp: Some(9),
        ..OpenParams::default()
    };
    let _open = run(&bus, bus.open(channel, &params)).unwrap();
    let gpadl = last(&host, 8);
    let gpadl_id = u32::from_le_bytes(gpadl[12..16].try_into().unwrap());
    // 2 pages to the host and 3 from it.
    assert_words(&gpadl[16..28], &[(8 + 5 * 8) | 1 << 16, 5 * 4096, 0]);
    let bytes = last(&host, 5);
    // header, channel, open id, GPADL, target, where the host's ring begins; 120 bytes.
    assert_words(&bytes[..28], &[5, 0, 1, 1, gpadl_id, 9, 2]);
    assert_eq!((&bytes[28..31], bytes.len()), (&[0xAB, 0xCD, 0][..], 148));
}

#[test]
fn the_processor_of_a_channel_is_0_before_2_4_and_the_buss_by_default() {
    for version in VmbusVersion::ALL {
        let (host, _bus, _channel) = opened(version);
        let expected = if version >= VmbusVersion::V2_4 { 3_u32 } else { 0 };
        assert_eq!(last(&host, 5)[20..24], expected.to_le_bytes(), "version {version}");
    }
}

#[test]
fn teardown_closechannel_and_modifychannel_name_the_channel() {
    let (host, bus, channel) = opened(VmbusVersion::V5_3);
    let buffer = DmaBuffer::new(bus.hal(), 1).unwrap();
    let shared = run(&bus, channel.share(buffer)).unwrap();
    let gpadl = shared.gpadl();
    run(&bus, shared.unshare()).unwrap();
    assert_words(&last(&host, 11), &[11, 0, 1, gpadl]);
    run(&bus, channel.set_target_vp(2)).unwrap();
    assert_words(&last(&host, 22), &[22, 0, 1, 2]);
    run(&bus, channel.close()).unwrap();
    assert_words(&last(&host, 7), &[7, 0, 1]);
}

#[test]
fn relid_released_names_the_channel() {
    let (host, bus, channel) = connected(VmbusVersion::V5_3);
    host.rescind(channel);
    settle(&bus);
    assert_words(&last(&host, 13), &[13, 0, 1]);
    assert_eq!(host.count(MessageType::RELID_RELEASED), 1);
}
