use hv_abi::vmbus::packet::GpaRangeHeader;
use proptest::prelude::*;
use vmbus_ring::gpa::GpaRanges;
use zerocopy::FromBytes;

use super::*;

#[test]
fn no_pages_and_more_than_16_bits_can_count_are_no_gpadl() {
    for count in [0, MAX_PAGES as u64 + 1, 1 << 20] {
        let count = core::iter::repeat_n(7, count as usize);
        assert_eq!(messages(1, 2, count).err(), Some(ChannelError::BadSize));
    }
    assert_eq!(MAX_PAGES, 8190);
}

#[test]
fn the_largest_gpadl_takes_293_messages() {
    let all = messages(1, 2, core::iter::repeat_n(7, MAX_PAGES)).unwrap();
    // 26 in the first, 28 in each other.
    assert_eq!(all.len(), 1 + (8190 - 26_usize).div_ceil(28));
    let header = GpadlHeader::read_from_prefix(&all[0]).unwrap().0;
    assert_eq!(header.range_buflen, 8 + 8190 * 8);
}

proptest! {
    #[test]
    fn a_foreign_reader_finds_all_pages_in_order(first in 0_u64..1 << 40, count in 1_usize..300) {
        let pages = || (0..count).map(|page| first + page as u64 * 3);
        let all = messages(9, 0xE1E10, pages()).unwrap();
        let (header, mut list) = GpadlHeader::read_from_prefix(&all[0])
            .map(|(header, rest)| (header, rest.to_vec())).unwrap();
        for message in &all[1..] {
            let (body, rest) = GpadlBody::read_from_prefix(message).unwrap();
            prop_assert_eq!(body.gpadl, header.gpadl);
            list.extend(rest);
        }
        prop_assert!(all.iter().all(|message| message.len() <= 240));
        prop_assert_eq!(list.len(), usize::from(header.range_buflen));
        let ranges = GpaRanges::parse(header.rangecount.into(), &list).unwrap();
        let range = ranges.iter().next().unwrap();
        prop_assert_eq!((range.byte_count, range.byte_offset), (count as u32 * 4096, 0));
        prop_assert!(range.page_numbers().eq(pages()));
        prop_assert_eq!(size_of::<GpaRangeHeader>(), 8);
    }
}
