use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// `struct gpa_range` by hand: 0x1800 bytes from 0x200 in page 0x1234 on, the rest in page 9.
const TWO_PAGES: [u8; 24] = [
    0x00, 0x18, 0, 0, 0x00, 0x02, 0, 0, // byte_count, byte_offset
    0x34, 0x12, 0, 0, 0, 0, 0, 0, // pfn_array[0]
    9, 0, 0, 0, 0, 0, 0, 0, // pfn_array[1]
];

fn range(byte_count: u32, byte_offset: u32, pages: &[u64]) -> GpaRange<'_> {
    GpaRange { byte_count, byte_offset, pages }
}

fn list(words: &[(u32, u32)]) -> Vec<u8> {
    words.iter().flat_map(|(low, high)| [low.to_le_bytes(), high.to_le_bytes()].concat()).collect()
}

fn error(count: u32, words: &[(u32, u32)]) -> GpaError {
    GpaRanges::parse(count, &list(words)).unwrap_err()
}

#[test]
fn a_list_reads_as_linux_writes_it() {
    let ranges = GpaRanges::parse(1, &TWO_PAGES).unwrap();
    let [range] = ranges.iter().collect::<Vec<_>>()[..] else { panic!("one range") };
    assert_eq!((range.byte_count, range.byte_offset), (0x1800, 0x200));
    assert_eq!(range.page_numbers().collect::<Vec<_>>(), [0x1234, 9]);
    let pieces: Vec<_> = range.pieces().collect();
    assert_eq!(
        pieces,
        [
            Piece { page: 0x1234, offset: 0x200, length: 0xe00 },
            Piece { page: 9, offset: 0, length: 0xa00 },
        ]
    );
    assert_eq!(pieces[0].address(), 0x123_4200);
    assert_eq!((ranges.count(), ranges.byte_count(), ranges.list_bytes()), (1, 0x1800, 24));
}

#[test]
fn a_list_is_written_as_linux_reads_it() {
    let mut buffer = [0xff; 32];
    let ranges = [range(0x1800, 0x200, &[0x1234, 9])];
    assert_eq!(encode(&ranges, &mut buffer), Ok(24));
    assert_eq!(buffer[..24], TWO_PAGES);
    assert_eq!(buffer[24..], [0xff; 8]);
    let bytes: Vec<u8> = words(&ranges).flat_map(u64::to_le_bytes).collect();
    assert_eq!(bytes, TWO_PAGES);
}

#[test]
fn what_lies_behind_the_last_range_means_nothing() {
    let bytes = [&TWO_PAGES[..], &[0xff; 40]].concat();
    let ranges = GpaRanges::parse(1, &bytes).unwrap();
    assert_eq!(ranges.list_bytes(), 24);
    assert_eq!(ranges.into_iter().count(), 1);
}

#[test]
fn a_list_that_is_cut_anywhere_is_refused() {
    let bytes = [TWO_PAGES, TWO_PAGES].concat();
    for length in 0..bytes.len() {
        let refused = GpaRanges::parse(2, &bytes[..length]).unwrap_err();
        assert_eq!(refused, GpaError::Truncated, "{length}");
    }
    assert!(GpaRanges::parse(2, &bytes).is_ok());
    assert_eq!(GpaRanges::parse(3, &bytes).unwrap_err(), GpaError::Truncated);
    assert_eq!(GpaRanges::parse(u32::MAX, &bytes).unwrap_err(), GpaError::Truncated);
}

#[test]
fn ranges_that_are_none_are_refused() {
    assert_eq!(error(0, &[(1, 0), (1, 0)]), GpaError::NoRanges);
    assert_eq!(error(1, &[(0, 0), (1, 0)]), GpaError::EmptyRange);
    assert_eq!(error(1, &[(1, 4096), (1, 0)]), GpaError::Offset(4096));
    assert_eq!(error(1, &[(1, u32::MAX), (1, 0)]), GpaError::Offset(u32::MAX));
    assert_eq!(error(1, &[(u32::MAX, 4095), (1, 0)]), GpaError::Truncated);
    assert_eq!(error(1, &[(2, 4095), (1, 0)]), GpaError::Truncated);
    let page = MAX_PAGE_NUMBER + 1;
    assert_eq!(error(1, &[(1, 0), (0, (page >> 32) as u32)]), GpaError::PageNumber(page));
}

#[test]
fn ranges_to_send_are_checked_too() {
    let check = |ranges: &[GpaRange<'_>]| encode(ranges, &mut [0; 64]).unwrap_err();
    assert_eq!(check(&[]), GpaError::NoRanges);
    assert_eq!(check(&[range(0, 0, &[])]), GpaError::EmptyRange);
    assert_eq!(check(&[range(1, 4096, &[1])]), GpaError::Offset(4096));
    assert_eq!(check(&[range(1, 0, &[])]), GpaError::PageCount);
    assert_eq!(check(&[range(1, 0, &[1, 2])]), GpaError::PageCount);
    assert_eq!(check(&[range(4096, 1, &[1])]), GpaError::PageCount);
    assert_eq!(check(&[range(1, 0, &[u64::MAX])]), GpaError::PageNumber(u64::MAX));
    let ok = range(1, 0, &[1]);
    assert_eq!(encode(&[ok], &mut [0; MIN_RANGE_BYTES - 1]), Err(GpaError::Truncated));
    assert_eq!(encode(&[ok], &mut [0; MIN_RANGE_BYTES]), Ok(MIN_RANGE_BYTES));
}

#[test]
fn limits_are_what_the_fields_can_hold() {
    assert_eq!(MAX_RANGE_PAGES, 0x10_0001);
    assert_eq!(MAX_PAGE_NUMBER, 0xf_ffff_ffff_ffff);
    let last = Piece { page: MAX_PAGE_NUMBER, offset: MAX_BYTE_OFFSET, length: 1 };
    assert_eq!(last.address(), u64::MAX);
}

#[test]
fn errors_say_what_is_wrong() {
    assert_eq!(alloc::format!("{}", GpaError::EmptyRange), "a range is empty");
}

fn some_range() -> impl Strategy<Value = (u32, u32, Vec<u64>)> {
    (1u32..40_000, 0..=MAX_BYTE_OFFSET).prop_flat_map(|(bytes, offset)| {
        let numbers = vec(0..=MAX_PAGE_NUMBER, pages(bytes, offset) as usize);
        (Just(bytes), Just(offset), numbers)
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        ranges in vec(some_range(), 1..6),
        slack in vec(any::<u8>(), 0..20),
    ) {
        let sent: Vec<_> = ranges.iter().map(|(bytes, at, pages)| range(*bytes, *at, pages)).collect();
        let mut bytes = vec![0; encoded_bytes(&sent).unwrap()];
        prop_assert_eq!(encode(&sent, &mut bytes), Ok(bytes.len()));
        let length = bytes.len();
        bytes.extend(slack);
        let parsed = GpaRanges::parse(sent.len() as u32, &bytes).unwrap();
        prop_assert_eq!(parsed.list_bytes(), length);
        prop_assert_eq!(parsed.iter().count(), sent.len());
        for (sent, parsed) in sent.iter().zip(&parsed) {
            prop_assert!(parsed.page_numbers().eq(sent.pages.iter().copied()));
            let pieces: Vec<_> = parsed.pieces().collect();
            prop_assert_eq!(pieces.len(), sent.pages.len());
            let total: u32 = pieces.iter().map(|piece| piece.length).sum();
            prop_assert_eq!((total, pieces[0].offset), (sent.byte_count, sent.byte_offset));
            prop_assert!(pieces.iter().all(|piece| piece.length > 0 && piece.offset + piece.length <= 4096));
        }
    }

    #[test]
    fn any_bytes_are_a_list_or_refused(count in 0u32..9, bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(ranges) = GpaRanges::parse(count, &bytes) {
            prop_assert_eq!(ranges.iter().count(), count as usize);
            prop_assert!(ranges.list_bytes() <= bytes.len());
            for range in ranges {
                prop_assert!(range.pieces().map(|piece| piece.length).sum::<u32>() == range.byte_count);
            }
        }
    }
}
