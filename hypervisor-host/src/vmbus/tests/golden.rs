//! Messages byte by byte, written down from Linux 6.1's structures (`include/linux/hyperv.h`, little-endian).

use hv_abi::guid::Guid;
use hv_abi::vmbus::offer::OfferFlags;

use super::echo::Echo;
use crate::vmbus::DeviceOffer;
use crate::vmbus::testing::TestGuest;

/// Words of a message as they lie in memory.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `struct vmbus_channel_initiate_contact`: header, version, target_vcpu, interrupt_page (or SINT in its first
/// byte), monitor_page1, monitor_page2.
fn contact(version: u32, target: u32) -> Vec<u8> {
    words(&[14, 0, version, 0, target, 0, 0x3000, 0, 0x4000, 0])
}

#[test]
fn versions_are_answered() {
    let guest = TestGuest::new();
    // 5.3 as Linux asks: SINT 2. The answer: header, version_supported, connection_state, padding, msg_conn_id.
    guest.post_by(4, &contact(0x0005_0003, 2));
    assert_eq!(guest.take_bytes(), words(&[15, 0, 1, 1]));
    // 4.0 with an interrupt page: the version again.
    guest.post_by(1, &contact(0x0004_0000, 0x2000));
    assert_eq!(guest.take_bytes(), words(&[15, 0, 1, 0x0004_0000]));
    // 6.0, which has features (OpenVMM, `VersionResponse2`): all asked for, two granted. The client's number is behind.
    let mut with_client = words(&[14, 0, 0x0006_0000, 0, 2, 0x3F, 0x3000, 0, 0x4000, 0]);
    with_client.extend([0x77; 16]);
    guest.post_by(4, &with_client);
    assert_eq!(guest.take_bytes(), words(&[15, 0, 1, 1, 0b1001]));
    // None of Hyper-V's.
    guest.post_by(4, &contact(0x0007_0000, 2));
    assert_eq!(guest.take_bytes(), words(&[15, 0, 0, 0]));
}

#[test]
fn a_channels_life_in_bytes() {
    let guest = TestGuest::new();
    let device = Echo::with(DeviceOffer {
        flags: OfferFlags::ENUMERATE_DEVICE_INTERFACE | OfferFlags::NAMED_PIPE_MODE,
        mmio_megabytes: 8,
        user_defined: [0x11; 120],
        monitored: true,
        ..DeviceOffer::new(
            "golden",
            Guid::new(0x0102_0304, 0x0506, 0x0708, 0x090A_0B0C_0D0E_0F10),
            Guid::new(0x2122_2324, 0x2526, 0x2728, 0x292A_2B2C_2D2E_2F30),
        )
    });
    let id = guest.server.add(std::sync::Arc::new(device)).unwrap();
    guest.post_by(4, &contact(0x0005_0003, 2));
    guest.take_bytes();

    guest.post_bytes(&words(&[3, 0]));
    // `struct vmbus_channel_offer_channel`: header, the offer's two GUIDs, 16 bytes, flags, MiB, 120 bytes, sub-channel, reserved;
    // then child_relid, monitorid, monitor_allocated, is_dedicated_interrupt, connection_id.
    let mut offer = words(&[1, 0]);
    offer.extend([4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16]);
    offer.extend([0x24, 0x23, 0x22, 0x21, 0x26, 0x25, 0x28, 0x27]);
    offer.extend([0x29, 0x2A, 0x2B, 0x2C, 0x2D, 0x2E, 0x2F, 0x30]);
    offer.extend([0; 16]);
    offer.extend([0x11, 0, 8, 0]);
    offer.extend([0x11; 120]);
    offer.extend([0; 4]);
    offer.extend([1, 0, 0, 0, 0, 1, 1, 0, 0x01, 0x20, 0, 0]);
    assert_eq!(offer.len(), 196);
    assert_eq!(guest.take_bytes(), offer);
    assert_eq!(guest.take_bytes(), words(&[4, 0]));

    // `struct vmbus_channel_gpadl_header`: header, child_relid, gpadl, range_buflen, rangecount; byte_count,
    // byte_offset, page numbers. Four pages from 0x200 on.
    let pages = [0x200, 0, 0x201, 0, 0x202, 0, 0x203, 0];
    guest
        .post_bytes(&[words(&[8, 0, 1, 0xE1E10, 40 | 1 << 16, 0x4000, 0]), words(&pages)].concat());
    // `struct vmbus_channel_gpadl_created`: header, child_relid, gpadl, creation_status.
    assert_eq!(guest.take_bytes(), words(&[10, 0, 1, 0xE1E10, 0]));

    // `struct vmbus_channel_open_channel`: header, child_relid, openid, gpadl, target_vp, offset of the host's ring, 120
    // bytes.
    guest.post_bytes(&[words(&[5, 0, 1, 0x0D, 0xE1E10, 1, 2]), vec![0; 120]].concat());
    // `struct vmbus_channel_open_result`: header, child_relid, openid, status.
    assert_eq!(guest.take_bytes(), words(&[6, 0, 1, 0x0D, 0]));

    // `struct vmbus_channel_modifychannel`, and its response: child_relid, status.
    guest.post_bytes(&words(&[22, 0, 1, 0]));
    assert_eq!(guest.take_bytes(), words(&[24, 0, 1, 0]));

    // `struct vmbus_channel_close_channel` has no answer, `struct vmbus_channel_gpadl_teardown` has: header, gpadl.
    guest.post_bytes(&words(&[7, 0, 1]));
    guest.post_bytes(&words(&[11, 0, 1, 0xE1E10]));
    assert_eq!(guest.take_bytes(), words(&[12, 0, 0xE1E10]));

    // `struct vmbus_channel_rescind_offer`, `struct vmbus_channel_relid_released`.
    guest.server.remove(id);
    assert_eq!(guest.take_bytes(), words(&[2, 0, 1]));
    guest.post_bytes(&words(&[13, 0, 1]));

    guest.post_bytes(&words(&[16, 0]));
    assert_eq!(guest.take_bytes(), words(&[17, 0]));
    assert!(guest.server.report().errors.is_empty());
}

#[test]
fn a_gpadl_of_many_messages() {
    let guest = TestGuest::new();
    guest.server.add(Echo::new(1)).unwrap();
    guest.post_by(4, &contact(0x0005_0003, 2));
    guest.take_bytes();
    assert_eq!(guest.request_offers().len(), 1);
    // 60 pages: 26 in the header (Linux, `create_gpadl_header`), 28 in a body, 6 in another.
    let page_words = |pages: std::ops::Range<u32>| -> Vec<u8> {
        pages.flat_map(|page| (0x300 + u64::from(page)).to_le_bytes()).collect()
    };
    let header = words(&[8, 0, 1, 5, (8 + 60 * 8) | 1 << 16, 60 << 12, 0]);
    guest.post_bytes(&[header, page_words(0..26)].concat());
    guest.post_bytes(&[words(&[9, 0, 1, 5]), page_words(26..54)].concat());
    guest.expect_silence();
    guest.post_bytes(&[words(&[9, 0, 2, 5]), page_words(54..60)].concat());
    assert_eq!(guest.take_bytes(), words(&[10, 0, 1, 5, 0]));
}
