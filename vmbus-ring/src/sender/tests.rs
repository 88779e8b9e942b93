use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use super::*;
use crate::gpa::GpaError;
use crate::{GpaRange, LocalMemory};

const DATA: u32 = 4096;
/// What a packet without payload takes: descriptor and trailer.
const LEAST: u32 = 24;

fn memory() -> LocalMemory {
    LocalMemory::new(DATA).unwrap()
}

fn set(memory: &LocalMemory, word: Control, value: u32) {
    memory.control(word).store(value, Ordering::Relaxed);
}

fn get(memory: &LocalMemory, word: Control) -> u32 {
    memory.control(word).load(Ordering::Relaxed)
}

/// Sends a packet that takes `bytes` in the ring.
fn send(sender: &mut RingSender<&LocalMemory>, bytes: u32) -> Result<bool, SendError> {
    let payload = std::vec![7; (bytes - LEAST) as usize];
    sender.send(&OutgoingPacket::in_band(1, &[&payload])).map(Signal::needed)
}

#[test]
fn a_new_sender_says_what_it_knows_and_asks_for_nothing() {
    let memory = memory();
    set(&memory, Control::PendingSendSize, 99);
    let sender = RingSender::new(&memory).unwrap();
    assert_eq!(get(&memory, Control::FeatureBits), 1);
    assert_eq!(get(&memory, Control::PendingSendSize), 0);
    assert_eq!(sender.capacity(), DATA - 8);
}

#[test]
fn only_the_first_packet_in_an_empty_ring_signals() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    assert_eq!(send(&mut sender, LEAST), Ok(true));
    assert_eq!(send(&mut sender, LEAST), Ok(false));
    // The consumer has read one of two: it is awake.
    set(&memory, Control::ReadIndex, LEAST);
    assert_eq!(send(&mut sender, LEAST), Ok(false));
    set(&memory, Control::ReadIndex, 3 * LEAST);
    assert_eq!(send(&mut sender, LEAST), Ok(true));
}

#[test]
fn a_masked_consumer_is_not_signalled() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    for mask in [1, 2, u32::MAX] {
        set(&memory, Control::InterruptMask, mask);
        assert_eq!(send(&mut sender, LEAST), Ok(false));
        set(&memory, Control::ReadIndex, get(&memory, Control::WriteIndex));
    }
    set(&memory, Control::InterruptMask, 0);
    assert_eq!(send(&mut sender, LEAST), Ok(true));
}

#[test]
fn a_batch_is_seen_at_once_and_signals_once() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    let mut batch = sender.batch();
    for id in 0..5 {
        batch.push(&OutgoingPacket::in_band(id, &[b"12345678"])).unwrap();
        assert_eq!(get(&memory, Control::WriteIndex), 0);
    }
    assert!(batch.publish().needed());
    assert_eq!(get(&memory, Control::WriteIndex), 5 * 32);
    let mut batch = sender.batch();
    batch.push(&OutgoingPacket::in_band(5, &[])).unwrap();
    assert!(!batch.publish().needed());
}

#[test]
fn a_batch_without_packets_or_dropped_was_never_there() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    assert!(!sender.batch().publish().needed());
    let mut batch = sender.batch();
    batch.push(&OutgoingPacket::in_band(0, &[])).unwrap();
    drop(batch);
    assert_eq!(get(&memory, Control::WriteIndex), 0);
    assert_eq!(sender.free_bytes(), Ok(DATA - 8));
    assert_eq!(send(&mut sender, LEAST), Ok(true));
    assert_eq!(get(&memory, Control::WriteIndex), LEAST);
}

#[test]
fn what_does_not_fit_any_more_leaves_the_batch_as_it_was() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    let mut batch = sender.batch();
    batch.push(&OutgoingPacket::in_band(0, &[&[0; 3000]])).unwrap();
    assert_eq!(batch.push(&OutgoingPacket::in_band(1, &[&[0; 2000]])), Err(SendError::Full));
    batch.push(&OutgoingPacket::in_band(2, &[])).unwrap();
    assert!(batch.publish().needed());
    assert_eq!(get(&memory, Control::WriteIndex), 3024 + LEAST);
}

#[test]
fn the_ring_never_becomes_quite_full() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    assert_eq!(send(&mut sender, DATA), Err(SendError::TooLarge));
    // Linux: `bytes_avail_towrite <= totalbytes_towrite` is full.
    assert_eq!(send(&mut sender, DATA - 8), Ok(true));
    assert_eq!(sender.free_bytes(), Ok(0));
    assert_eq!(send(&mut sender, LEAST), Err(SendError::Full));
    set(&memory, Control::ReadIndex, DATA - 8);
    assert_eq!(sender.free_bytes(), Ok(DATA - 8));
}

#[test]
fn every_place_in_the_ring_can_be_filled_and_emptied() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    for start in (0..DATA).step_by(8) {
        assert_eq!(get(&memory, Control::WriteIndex), start);
        assert_eq!(send(&mut sender, DATA - 16), Ok(true));
        assert_eq!(send(&mut sender, LEAST), Err(SendError::Full));
        assert_eq!(sender.free_bytes(), Ok(8));
        // 24 bytes more than once around makes 8 in all.
        set(&memory, Control::ReadIndex, get(&memory, Control::WriteIndex));
        assert_eq!(send(&mut sender, LEAST), Ok(true));
        set(&memory, Control::ReadIndex, get(&memory, Control::WriteIndex));
    }
}

#[test]
fn room_is_asked_for_in_whole_units_and_looked_for_again() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    assert_eq!(send(&mut sender, DATA - 8), Ok(true));
    assert_eq!(sender.await_room(33), Ok(false));
    assert_eq!(get(&memory, Control::PendingSendSize), 40);
    set(&memory, Control::ReadIndex, 32);
    assert_eq!(sender.await_room(33), Ok(false));
    set(&memory, Control::ReadIndex, 40);
    assert_eq!(sender.await_room(33), Ok(true));
    // Whoever else waits must not lose its request.
    assert_eq!(send(&mut sender, 40), Ok(false));
    assert_eq!(get(&memory, Control::PendingSendSize), 40);
    sender.stop_awaiting();
    assert_eq!(get(&memory, Control::PendingSendSize), 0);
}

#[test]
fn more_room_than_there_can_be_is_an_empty_ring() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    assert_eq!(sender.await_room(u32::MAX), Ok(true));
    assert_eq!(get(&memory, Control::PendingSendSize), DATA - 8);
    assert_eq!(send(&mut sender, LEAST), Ok(true));
    assert_eq!(sender.await_room(u32::MAX), Ok(false));
}

#[test]
fn packets_that_can_never_be_sent_are_too_large() {
    let memory = LocalMemory::new(1 << 20).unwrap();
    let mut sender = RingSender::new(&memory).unwrap();
    // The length has 16 bits, in units of 8 bytes.
    let payload = std::vec![0; 0xffff * 8 - 16];
    let slices: [&[u8]; 1] = [&payload];
    let packet = OutgoingPacket::in_band(0, &slices);
    assert_eq!(packet.ring_bytes(), Ok(0xffff * 8 + 8));
    assert!(sender.send(&packet).is_ok());
    let slices: Vec<&[u8]> = std::vec![&payload, &[0]];
    let packet = OutgoingPacket::in_band(0, &slices);
    assert_eq!(packet.ring_bytes(), Err(SendError::TooLarge));
    assert_eq!(sender.send(&packet), Err(SendError::TooLarge));
    // Lengths that overflow 32 bits when added.
    let many: Vec<&[u8]> = std::vec![&payload; 10_000];
    assert_eq!(OutgoingPacket::in_band(0, &many).ring_bytes(), Err(SendError::TooLarge));
    let range = GpaRange { byte_count: 1, byte_offset: 0, pages: &[1] };
    let many = std::vec![range; 40_000];
    assert_eq!(OutgoingPacket::gpa_direct(0, &many, &[]).ring_bytes(), Err(SendError::TooLarge));
}

#[test]
fn ranges_that_are_none_are_not_sent() {
    let memory = memory();
    let mut sender = RingSender::new(&memory).unwrap();
    let range = GpaRange { byte_count: 5000, byte_offset: 0, pages: &[1] };
    let refused = sender.send(&OutgoingPacket::gpa_direct(0, &[range], &[]));
    assert_eq!(refused, Err(SendError::Ranges(GpaError::PageCount)));
    let refused = sender.send(&OutgoingPacket::gpa_direct(0, &[], &[]));
    assert_eq!(refused, Err(SendError::Ranges(GpaError::NoRanges)));
    assert_eq!(get(&memory, Control::WriteIndex), 0);
}

#[test]
fn indices_that_are_none_make_no_sender() {
    for (word, index, error) in [
        (Control::WriteIndex, DATA, RingError::WriteIndexOutside(DATA)),
        (Control::WriteIndex, 4, RingError::WriteIndexMisaligned(4)),
        (Control::ReadIndex, u32::MAX, RingError::ReadIndexOutside(u32::MAX)),
        (Control::ReadIndex, 9, RingError::ReadIndexMisaligned(9)),
    ] {
        let memory = memory();
        set(&memory, word, index);
        assert_eq!(RingSender::new(&memory).unwrap_err(), error);
    }
}
