//! What disks say, truthfully and not; bytes laid out by hand from SPC-4 and SBC-3.

use alloc::vec;

use proptest::prelude::*;

use super::*;

#[rustfmt::skip]
const DISK: [u8; 36] = [
    0x00, 0, 5, 2, 31, 0, 0, 2,
    b'M', b's', b'f', b't', b' ', b' ', b' ', b' ',
    b'V', b'i', b'r', b't', b'u', b'a', b'l', b' ', b'D', b'i', b's', b'k', b' ', b' ', b' ', b' ',
    b'1', b'.', b'0', b' ',
];

#[test]
fn a_disk_is_known_by_its_names() {
    let identity = inquiry(&DISK).unwrap();
    assert_eq!((&*identity.vendor, &*identity.product), ("Msft", "Virtual Disk"));
    assert_eq!(identity.revision, "1.0");
}

#[test]
fn other_types_absent_units_and_short_answers_are_no_disks() {
    for peripheral in [0x05, 0x0C, 0x1F, 0x20, 0x60, 0x7F] {
        let mut bytes = DISK;
        bytes[0] = peripheral;
        assert_eq!(inquiry(&bytes), None, "{peripheral:#x}");
    }
    assert_eq!(inquiry(&DISK[..35]), None);
    assert_eq!(inquiry(&[]), None);
}

#[test]
fn names_are_printable_whatever_the_host_says() {
    let mut bytes = DISK;
    bytes[8..16].copy_from_slice(&[0x1B, b'[', b'2', b'J', 0, 0xFF, b'\n', 7]);
    assert_eq!(inquiry(&bytes).unwrap().vendor, "[2J");
}

#[test]
fn capacities_are_the_last_block_and_one() {
    let known = |blocks| Some(Capacity10::Known(Geometry { block_bytes: 512, blocks }));
    assert_eq!(capacity_10(&[0, 0, 7, 0xFF, 0, 0, 2, 0]), known(0x800));
    assert_eq!(capacity_10(&[0xFF, 0xFF, 0xFF, 0xFE, 0, 0, 2, 0]), known(0xFFFF_FFFF));
    assert_eq!(capacity_10(&[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0]), Some(Capacity10::TooLarge));
}

#[test]
fn block_sizes_that_are_none_are_refused() {
    for block_bytes in [0u32, 1, 256, 513, 520, 1000, 131_072, 0x8000_0000, u32::MAX] {
        assert_eq!(Geometry::new(9, block_bytes), None, "{block_bytes}");
    }
    for block_bytes in [512, 2048, 4096, 65_536] {
        assert!(Geometry::new(9, block_bytes).is_some(), "{block_bytes}");
    }
}

#[test]
fn counts_that_overflow_are_refused() {
    assert_eq!(Geometry::new(u64::MAX, 512), None);
    assert_eq!(Geometry::new(u64::MAX / 512, 512), None);
    assert!(Geometry::new(u64::MAX / 512 - 1, 512).is_some());
}

#[test]
fn the_long_capacity_tells_of_physical_blocks_and_provisioning() {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 3, 0x80, 0]);
    let capacity = capacity_16(&bytes).unwrap();
    assert_eq!(capacity.geometry, Geometry { block_bytes: 512, blocks: 0x1_0000_0001 });
    assert_eq!((capacity.physical_block_bytes, capacity.provisioned), (4096, true));
    assert_eq!(capacity_16(&bytes[..16]), Some(capacity));
    assert_eq!(capacity_16(&bytes[..15]), None);
}

#[test]
fn sparse_unit_lists_are_read_sorted_and_without_doubles() {
    let mut bytes = vec![0, 0, 0, 32, 0, 0, 0, 0];
    for entry in [[0, 63], [0, 0], [0x40, 17], [0, 63]] {
        bytes.extend(entry);
        bytes.extend([0; 6]);
    }
    assert_eq!(luns(&bytes), Some(vec![0, 17, 63]));
}

#[test]
fn unit_lists_that_lie_about_their_length_end_with_the_bytes() {
    let mut bytes = vec![0xFF; 4];
    bytes.extend([0; 4]);
    bytes.extend([0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(luns(&bytes), Some(vec![1]));
    assert_eq!(luns(&[0; 7]), None);
}

#[test]
fn units_without_a_number_in_the_protocol_are_left_out() {
    let mut bytes = vec![0, 0, 0, 24, 0, 0, 0, 0];
    bytes.extend([0x41, 0, 0, 0, 0, 0, 0, 0]); // Flat, 256.
    bytes.extend([0xC1, 1, 0, 0, 0, 0, 0, 0]); // A well-known unit.
    bytes.extend([0, 3, 0, 1, 0, 0, 0, 0]); // Two levels.
    assert_eq!(luns(&bytes), Some(vec![]));
}

#[test]
fn write_protection_and_unit_access_are_flags_of_the_mode_header() {
    let facts = |device_specific| mode(&[3, 0, device_specific, 0]).unwrap();
    assert_eq!(facts(0x90), ModeFacts { read_only: true, unit_access: true });
    assert_eq!(facts(0x10), ModeFacts { read_only: false, unit_access: true });
    assert_eq!(facts(0x6F), ModeFacts::default());
    assert_eq!(mode(&[3, 0, 0]), None);
}

/// Block limits: UNMAP of 0x1000 blocks in 4 descriptors, granularity 8, alignment 3; WRITE SAME of 0x100 blocks.
fn limits() -> [u8; 64] {
    let mut page = [0; 64];
    page[..4].copy_from_slice(&[0, 0xB0, 0, 60]);
    page[20..36].copy_from_slice(&[0, 0, 0x10, 0, 0, 0, 0, 4, 0, 0, 0, 8, 0x80, 0, 0, 3]);
    page[36..44].copy_from_slice(&[0, 0, 0, 0, 0, 0, 1, 0]);
    page
}

#[test]
fn discard_is_by_unmap_where_the_disk_has_it() {
    let found = provisioning(&limits(), &[0, 0xB2, 0, 4, 0, 0xC0, 2, 0], true);
    assert_eq!(found.by, Some(DiscardBy::Unmap));
    assert_eq!(found.max_discard_blocks, 0x1000);
    assert_eq!((found.granularity_blocks, found.alignment_blocks), (8, 3));
}

#[test]
fn discard_is_by_write_same_where_the_disk_has_only_that() {
    let found = provisioning(&limits(), &[0, 0xB2, 0, 4, 0, 0x40, 2, 0], true);
    assert_eq!((found.by, found.max_discard_blocks), (Some(DiscardBy::WriteSame), 0x100));
}

#[test]
fn disks_that_are_not_provisioned_or_say_nothing_can_discard_nothing() {
    let pages = [0, 0xB2, 0, 4, 0, 0xC0, 2, 0];
    assert_eq!(provisioning(&limits(), &pages, false).by, None);
    assert_eq!(provisioning(&limits(), &[], true).by, None);
    let silent = provisioning(&[], &pages, true);
    assert_eq!((silent.by, silent.granularity_blocks), (Some(DiscardBy::WriteSame), 1));
}

#[test]
fn another_page_than_asked_for_is_not_taken() {
    assert_eq!(vpd(&[0, 0x80, 0, 1, b'x'], 0x83), None);
    assert!(lists_page(&[0, 0, 0, 2, 0x00, 0xB0], 0xB0));
    assert!(!lists_page(&[0, 0, 0, 1, 0x00, 0xB0], 0xB0));
    assert_eq!(serial(&[0, 0x80, 0xFF, 0xFF, b' ', b'4', b'2', 0]).as_deref(), Some("42"));
}

proptest! {
    #[test]
    fn nothing_that_a_host_says_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), page: u8) {
        let _ = (inquiry(&bytes), mode(&bytes), luns(&bytes), serial(&bytes), vpd(&bytes, page));
        for geometry in [
            capacity_16(&bytes).map(|capacity| capacity.geometry),
            match capacity_10(&bytes) {
                Some(Capacity10::Known(geometry)) => Some(geometry),
                _ => None,
            },
        ].into_iter().flatten() {
            prop_assert!(geometry.blocks.checked_mul(geometry.block_bytes.into()).is_some());
        }
        let found = provisioning(&bytes, &bytes, true);
        prop_assert!(found.granularity_blocks > 0 && found.max_write_same > 0);
    }
}
