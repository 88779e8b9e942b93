//! Pieces against a model that goes byte by byte.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::storvsc::buffer::IoBuffer;

const PAGE: usize = HV_PAGE_SIZE;

/// Bytes at `offset` in memory of their own; the rest of it is leaked, since tests are short.
fn buffer_at(offset: usize, len: usize) -> IoBuffer {
    let memory = IoBuffer::zeroed(offset + len + 1).unwrap();
    let memory: &'static mut IoBuffer = Box::leak(Box::new(memory));
    IoBuffer::from_static(&mut memory[offset..offset + len])
}

fn lent(shapes: &[(usize, usize)]) -> Lent {
    Lent::Shared(Arc::new(shapes.iter().map(|(offset, len)| buffer_at(*offset, *len)).collect()))
}

fn pieces(lent: &Lent, limits: Limits) -> Vec<Piece> {
    let mut position = Position::default();
    let mut all = Vec::new();
    while let Some((piece, next)) = next_piece(lent, position, limits) {
        all.push(piece);
        position = next;
    }
    all
}

/// The addresses of all bytes, in order.
fn bytes_of(lent: &Lent) -> Vec<usize> {
    let mut all = Vec::new();
    let mut index = 0;
    while let Some(segment) = lent.segment(index) {
        all.extend((0..segment.len).map(|byte| segment.address as usize + byte));
        index += 1;
    }
    all
}

/// A translation that keeps the place in a page and nothing else.
fn scrambled(address: usize) -> u64 {
    let page = (address / PAGE) as u64;
    (page.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24) * PAGE as u64 + (address % PAGE) as u64
}

/// The bytes that a host finds by a range.
fn host_view(byte_offset: u32, pages: &[u64], bytes: u32) -> Vec<u64> {
    let place = |byte: u32| byte_offset as usize + byte as usize;
    (0..bytes)
        .map(|byte| pages[place(byte) / PAGE] * PAGE as u64 + (place(byte) % PAGE) as u64)
        .collect()
}

const LIMITS: Limits = Limits { block_bytes: 512, max_bytes: 64 << 10 };

#[test]
fn an_unaligned_buffer_is_one_range_with_an_offset() {
    let lent = lent(&[(100, 2 * PAGE)]);
    let found = pieces(&lent, LIMITS);
    assert_eq!(found, [Piece::whole(2 * PAGE as u32)]);
    let mut pages = Vec::new();
    let offset =
        page_numbers(&lent, found[0], |address| Some(scrambled(address as usize)), &mut pages);
    assert_eq!((offset, pages.len()), (Some(100), 3));
}

#[test]
fn buffers_that_meet_at_page_boundaries_share_a_request() {
    let found = pieces(&lent(&[(PAGE - 512, 512), (0, 2 * PAGE), (0, 512)]), LIMITS);
    assert_eq!(found, [Piece::whole(2 * PAGE as u32 + 1024)]);
}

#[test]
fn buffers_that_meet_elsewhere_do_not() {
    let found = pieces(&lent(&[(0, 512), (512, 512), (0, PAGE)]), LIMITS);
    assert_eq!(found.iter().map(|piece| piece.bytes).collect::<Vec<_>>(), [512, 512, PAGE as u32]);
}

#[test]
fn a_large_buffer_is_cut_at_the_limit_rounded_down_to_blocks() {
    let limits = Limits { block_bytes: 4096, max_bytes: 10_000 };
    let found = pieces(&lent(&[(0, 5 * 4096)]), limits);
    assert_eq!(found.iter().map(|piece| piece.bytes).collect::<Vec<_>>(), [8192, 8192, 4096]);
}

#[test]
fn limits_below_a_block_give_nothing_instead_of_a_loop() {
    assert_eq!(pieces(&lent(&[(0, 4096)]), Limits { block_bytes: 4096, max_bytes: 4095 }), []);
    assert_eq!(pieces(&lent(&[(0, 4096)]), Limits { block_bytes: 0, max_bytes: 4096 }), []);
}

#[test]
fn no_memory_and_empty_buffers_are_no_request() {
    assert_eq!(pieces(&Lent::Nothing, LIMITS), []);
    assert_eq!(pieces(&lent(&[(0, 0), (7, 0)]), LIMITS), []);
}

#[test]
fn unmapped_memory_and_memory_that_is_too_short_are_refused() {
    let lent = lent(&[(0, 512)]);
    assert_eq!(page_numbers(&lent, Piece::whole(512), |_| None, &mut Vec::new()), None);
    assert_eq!(page_numbers(&lent, Piece::whole(513), |_| Some(0), &mut Vec::new()), None);
}

#[test]
fn zeros_are_one_page_again_and_again() {
    let mut pages = Vec::new();
    let piece = Piece::whole(3 * PAGE as u32 + 512);
    let at = |address: *const u8| Some(address.addr() as u64);
    assert_eq!(page_numbers(&Lent::Zeros, piece, at, &mut pages), Some(0));
    assert_eq!(pages, vec![pages[0]; 4]);
}

proptest! {
    #[test]
    fn pieces_are_the_buffers_bytes_in_order(
        shapes in prop::collection::vec(
            (prop_oneof![Just(0), Just(PAGE - 512), 0..PAGE], 0usize..20).prop_map(|(offset, blocks)| (offset, blocks * 512)),
            0..6,
        ),
        max_bytes in 512u32..40_000,
    ) {
        let lent = lent(&shapes);
        let limits = Limits { block_bytes: 512, max_bytes };
        let expected: Vec<u64> = bytes_of(&lent).into_iter().map(scrambled).collect();
        let mut seen = Vec::new();
        let mut pages = Vec::new();
        for piece in pieces(&lent, limits) {
            pages.clear();
            prop_assert!(piece.bytes > 0 && piece.bytes <= max_bytes && piece.bytes.is_multiple_of(512));
            let offset = page_numbers(&lent, piece, |address| Some(scrambled(address as usize)), &mut pages);
            let offset = offset.unwrap();
            prop_assert_eq!(pages.len(), (offset as usize + piece.bytes as usize).div_ceil(PAGE));
            seen.extend(host_view(offset, &pages, piece.bytes));
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn no_two_neighbours_would_have_fitted_into_one(
        shapes in prop::collection::vec((prop_oneof![Just(0), Just(512)], 1usize..20).prop_map(|(offset, blocks)| (offset, blocks * 512)), 1..5),
    ) {
        let lent = lent(&shapes);
        let found = pieces(&lent, LIMITS);
        for pair in found.windows(2) {
            let joined = Piece { bytes: pair[0].bytes + pair[1].bytes, ..pair[0] };
            let mut pages = Vec::new();
            let offset = page_numbers(&lent, joined, |address| Some(scrambled(address as usize)), &mut pages).unwrap();
            let reach = (offset as usize + joined.bytes as usize).div_ceil(PAGE);
            let as_one = reach == pages.len() && host_view(offset, &pages, joined.bytes) == bytes_from(&lent, joined);
            prop_assert!(joined.bytes > LIMITS.max_bytes || !as_one);
        }
    }
}

fn bytes_from(lent: &Lent, piece: Piece) -> Vec<u64> {
    let before: usize =
        (0..piece.start.segment).map(|index| lent.segment(index).unwrap().len).sum();
    let bytes = bytes_of(lent).into_iter().skip(before + piece.start.offset);
    bytes.take(piece.bytes as usize).map(scrambled).collect()
}
