//! The other end lies, in every word and at every moment: nothing panics, nothing is read twice or outside the ring, and
//! what is wrong has a name that stays.

#![cfg(not(loom))]

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use vmbus_ring::{
    Control, GpaRange, LocalMemory, OutgoingPacket, ReceiveError, RingError, RingMemory,
    RingReceiver, RingSender, SendError,
};

const DATA: u32 = 4096;
const LEAST: u32 = 24;

/// A memory in which somebody else writes whenever we have looked.
struct Liar<F> {
    memory: LocalMemory,
    /// Called after every reading of data, with where it was.
    lie: RefCell<F>,
    readings: Cell<u32>,
}

impl<F: FnMut(&LocalMemory, u32, usize)> Liar<F> {
    fn new(lie: F) -> Self {
        let memory = LocalMemory::new(DATA).unwrap();
        Self { memory, lie: RefCell::new(lie), readings: Cell::new(0) }
    }
}

impl<F: FnMut(&LocalMemory, u32, usize)> RingMemory for Liar<F> {
    fn control(&self, word: Control) -> &AtomicU32 {
        self.memory.control(word)
    }

    fn data_len(&self) -> u32 {
        self.memory.data_len()
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        assert!(u64::from(offset) + bytes.len() as u64 <= DATA.into(), "outside the ring");
        self.memory.read(offset, bytes);
        self.readings.set(self.readings.get() + 1);
        (self.lie.borrow_mut())(&self.memory, offset, bytes.len());
    }

    fn write(&self, offset: u32, bytes: &[u8]) {
        assert!(u64::from(offset) + bytes.len() as u64 <= DATA.into(), "outside the ring");
        self.memory.write(offset, bytes);
    }
}

fn set(memory: &impl RingMemory, word: Control, value: u32) {
    memory.control(word).store(value, Ordering::Relaxed);
}

/// A ring with a packet of `bytes` in it at `start`, where both indices had come.
fn with_packet(start: u32, bytes: u32) -> LocalMemory {
    let memory = LocalMemory::new(DATA).unwrap();
    set(&memory, Control::WriteIndex, start);
    set(&memory, Control::ReadIndex, start);
    let payload = vec![0x55; (bytes - LEAST) as usize];
    let mut sender = RingSender::new(&memory).unwrap();
    assert!(sender.send(&OutgoingPacket::in_band(1, &[&payload])).unwrap().needed());
    memory
}

/// A ring with one packet whose descriptor says so of its offset and length.
fn with_lengths(offset8: u16, len8: u16, available: u32) -> LocalMemory {
    let memory = LocalMemory::new(DATA).unwrap();
    memory.write(0, &6u16.to_le_bytes());
    memory.write(2, &offset8.to_le_bytes());
    memory.write(4, &len8.to_le_bytes());
    set(&memory, Control::WriteIndex, available);
    memory
}

fn receive_error(memory: &impl RingMemory) -> RingError {
    let mut receiver = RingReceiver::new(memory).unwrap();
    let ReceiveError::Corrupt(error) = receiver.receive(&mut [0; 8192]).unwrap_err() else {
        panic!("the ring is corrupt");
    };
    // However right everything looks from now on.
    set(memory, Control::WriteIndex, 0);
    set(memory, Control::ReadIndex, 0);
    assert_eq!(receiver.receive(&mut []).unwrap_err(), ReceiveError::Corrupt(error));
    assert_eq!(receiver.unmask(), Err(error));
    assert!(!receiver.release().needed());
    error
}

#[test]
fn lengths_that_lie_are_named() {
    use RingError::{PacketLength, PacketOffset, PacketTruncated};
    for (offset8, len8, available, error) in [
        (2, 0, 64, PacketLength(0)),
        (2, 1, 64, PacketLength(8)),
        (2, 8, 64, PacketLength(64)),
        (2, 0xffff, 64, PacketLength(0xffff * 8)),
        (2, 0xffff, DATA - 8, PacketLength(0xffff * 8)),
        (0, 7, 64, PacketOffset(0)),
        (1, 7, 64, PacketOffset(8)),
        (8, 7, 64, PacketOffset(64)),
        (0xffff, 7, 64, PacketOffset(0xffff * 8)),
        (2, 2, 8, PacketTruncated(8)),
        (2, 2, 16, PacketTruncated(16)),
        (0, 0, DATA - 8, PacketLength(0)),
    ] {
        let seen = receive_error(&with_lengths(offset8, len8, available));
        assert_eq!(seen, error, "{offset8} {len8} {available}");
    }
    // The largest and the smallest that are none.
    for (offset8, len8, available) in [(7, 7, 64), (2, 2, 24), (2, 510, DATA - 8)] {
        let memory = with_lengths(offset8, len8, available);
        let mut receiver = RingReceiver::new(&memory).unwrap();
        assert!(receiver.receive(&mut [0; 8192]).unwrap().is_some());
    }
}

#[test]
fn write_indices_that_lie_are_named() {
    use RingError::{WriteIndexMisaligned, WriteIndexMoved, WriteIndexOutside};
    for (index, error) in [
        (DATA, WriteIndexOutside(DATA)),
        (u32::MAX, WriteIndexOutside(u32::MAX)),
        (u32::MAX - 7, WriteIndexOutside(u32::MAX - 7)),
        (68, WriteIndexMisaligned(68)),
        // Backwards, into what was read and not given back, or was not read yet.
        (0, WriteIndexMoved(0)),
        (56, WriteIndexMoved(56)),
    ] {
        let memory = with_packet(0, 64);
        let mut receiver = RingReceiver::new(&memory).unwrap();
        assert!(receiver.receive(&mut [0; 64]).unwrap().is_some());
        set(&memory, Control::WriteIndex, index);
        let refused = receiver.receive(&mut [0; 64]).unwrap_err();
        assert_eq!(refused, ReceiveError::Corrupt(error), "{index}");
        set(&memory, Control::WriteIndex, 64);
        assert_eq!(receiver.receive(&mut [0; 64]).unwrap_err(), refused);
    }
}

#[test]
fn what_was_given_back_may_be_written_and_no_more() {
    let memory = with_packet(4032, 64);
    let mut receiver = RingReceiver::new(&memory).unwrap();
    assert!(receiver.receive(&mut [0; 64]).unwrap().is_some());
    assert!(!receiver.release().needed());
    // All the way around but for 8 bytes: there are zeros, which are no packet.
    set(&memory, Control::WriteIndex, DATA - 8);
    assert_eq!(receiver.unmask(), Ok(true));
    set(&memory, Control::WriteIndex, 0);
    assert_eq!(receiver.unmask(), Err(RingError::WriteIndexMoved(0)));
}

#[test]
fn read_indices_that_lie_are_named() {
    use RingError::{ReadIndexMisaligned, ReadIndexMoved, ReadIndexOutside};
    for (index, error) in [
        (DATA, ReadIndexOutside(DATA)),
        (u32::MAX, ReadIndexOutside(u32::MAX)),
        (132, ReadIndexMisaligned(132)),
        // Backwards, and beyond what was written.
        (56, ReadIndexMoved(56)),
        (200, ReadIndexMoved(200)),
        (DATA - 8, ReadIndexMoved(DATA - 8)),
    ] {
        let memory = LocalMemory::new(DATA).unwrap();
        let mut sender = RingSender::new(&memory).unwrap();
        for _ in 0..3 {
            let _ = sender.send(&OutgoingPacket::in_band(1, &[&[0; 40]])).unwrap();
        }
        set(&memory, Control::ReadIndex, 64);
        assert_eq!(sender.free_bytes(), Ok(DATA - 8 - 128));
        set(&memory, Control::ReadIndex, index);
        assert_eq!(sender.free_bytes(), Err(error), "{index}");
        set(&memory, Control::ReadIndex, 64);
        assert_eq!(sender.free_bytes(), Err(error));
        assert_eq!(sender.await_room(8), Err(error));
        let refused = sender.send(&OutgoingPacket::in_band(1, &[])).unwrap_err();
        assert_eq!(refused, SendError::Corrupt(error));
    }
}

#[test]
fn a_lie_about_room_is_found_only_when_it_matters_and_does_no_harm() {
    let memory = LocalMemory::new(DATA).unwrap();
    let mut sender = RingSender::new(&memory).unwrap();
    set(&memory, Control::ReadIndex, 3);
    assert!(!sender.send(&OutgoingPacket::in_band(1, &[&[0; 3000]])).unwrap().needed());
    let refused = sender.send(&OutgoingPacket::in_band(1, &[&[0; 3000]]));
    assert_eq!(refused, Err(SendError::Corrupt(RingError::ReadIndexMisaligned(3))));
}

#[test]
fn our_own_indices_in_memory_are_never_believed() {
    let memory = LocalMemory::new(DATA).unwrap();
    let mut sender = RingSender::new(&memory).unwrap();
    let mut receiver = RingReceiver::new(&memory).unwrap();
    let mut buffer = [0; 64];
    for id in 0..500u64 {
        // Garbage, in place of what we wrote ourselves.
        let good = memory.control(Control::WriteIndex).swap(u32::MAX, Ordering::Relaxed);
        assert!(sender.send(&OutgoingPacket::in_band(id, &[&id.to_le_bytes()])).is_ok());
        assert_eq!(memory.control(Control::WriteIndex).load(Ordering::Relaxed), (good + 32) % DATA);
        let good = memory.control(Control::ReadIndex).swap(5, Ordering::Relaxed);
        let packet = receiver.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(packet.payload(), id.to_le_bytes());
        assert!(!receiver.release().needed());
        assert_eq!(memory.control(Control::ReadIndex).load(Ordering::Relaxed), (good + 32) % DATA);
    }
}

#[test]
fn an_index_that_lies_when_room_is_released_is_kept_for_later() {
    let memory = with_packet(0, 64);
    let mut receiver = RingReceiver::new(&memory).unwrap();
    assert!(receiver.receive(&mut [0; 64]).unwrap().is_some());
    set(&memory, Control::PendingSendSize, DATA - 8);
    set(&memory, Control::WriteIndex, 63);
    assert!(!receiver.release().needed());
    let corrupt = RingError::WriteIndexMisaligned(63);
    assert_eq!(receiver.receive(&mut []).unwrap_err(), ReceiveError::Corrupt(corrupt));
}

#[test]
fn trailers_mean_nothing() {
    for lie in [0, 1, u64::MAX, 0xffff_ffff_0000_0000] {
        let memory = with_packet(0, 64);
        memory.write(56, &lie.to_le_bytes());
        let mut receiver = RingReceiver::new(&memory).unwrap();
        assert!(receiver.receive(&mut [0; 64]).unwrap().is_some());
        assert!(receiver.receive(&mut [0; 64]).unwrap().is_none());
    }
}

#[test]
fn what_changes_after_the_check_changes_nothing() {
    // As soon as the descriptor was read, it says something else; so does the payload.
    let liar = Liar::new(|memory, offset, length| {
        memory.write(offset, &vec![0xff; length]);
    });
    let bytes = [6u8, 0, 2, 0, 4, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    liar.memory.write(0, &bytes);
    liar.memory.write(16, &[0x11; 16]);
    set(&liar, Control::WriteIndex, 40);
    let mut receiver = RingReceiver::new(&liar).unwrap();
    let mut buffer = [0; 64];
    let packet = receiver.receive(&mut buffer).unwrap().unwrap();
    assert_eq!((packet.transaction_id(), packet.payload()), (7, &[0x11; 16][..]));
    assert!(packet.completion_requested());
    // The descriptor once, the rest once.
    assert_eq!(liar.readings.get(), 2);
    assert!(!receiver.release().needed());
    assert_eq!(liar.control(Control::ReadIndex).load(Ordering::Relaxed), 40);
}

#[test]
fn no_byte_is_read_twice() {
    let read = RefCell::new(vec![0u32; DATA as usize]);
    let liar = Liar::new(|_: &LocalMemory, offset: u32, length| {
        let mut read = read.borrow_mut();
        read[offset as usize..][..length].iter_mut().for_each(|count| *count += 1);
    });
    set(&liar, Control::WriteIndex, 4000);
    set(&liar, Control::ReadIndex, 4000);
    let mut sender = RingSender::new(&liar).unwrap();
    let mut receiver = RingReceiver::new(&liar).unwrap();
    for id in 0..60 {
        let range = GpaRange { byte_count: 1, byte_offset: 0, pages: &[3] };
        let _ = sender.send(&OutgoingPacket::gpa_direct(id, &[range], &[&[1; 3]])).unwrap();
    }
    let mut buffer = [0; 64];
    while let Some(packet) = receiver.receive(&mut buffer).unwrap() {
        assert_eq!(packet.gpa_ranges().unwrap().byte_count(), 1);
    }
    assert!(read.borrow().iter().all(|count| *count <= 1));
}

/// What the other end may do next.
#[derive(Debug, Clone)]
enum Lie {
    Control(usize, u32),
    Data(u32, Vec<u8>),
    Nothing,
}

fn lie() -> impl Strategy<Value = Lie> {
    let index = prop_oneof![(0..DATA / 8).prop_map(|unit| unit * 8), 0..=DATA, any::<u32>(),];
    prop_oneof![
        (0..5usize, index).prop_map(|(word, value)| Lie::Control(word, value)),
        (0..DATA - 16, prop::collection::vec(0u8..12, 1..16))
            .prop_map(|(at, bytes)| Lie::Data(at, bytes)),
        Just(Lie::Nothing),
    ]
}

impl Lie {
    fn tell(&self, memory: &LocalMemory) {
        let words = [
            Control::WriteIndex,
            Control::ReadIndex,
            Control::InterruptMask,
            Control::PendingSendSize,
            Control::FeatureBits,
        ];
        match self {
            Self::Control(word, value) => set(memory, words[*word], *value),
            Self::Data(at, bytes) => memory.write(*at, bytes),
            Self::Nothing => {}
        }
    }
}

proptest! {
    #[test]
    fn any_lies_end_with_a_name_at_worst(lies in prop::collection::vec(lie(), 1..200)) {
        let told = Cell::new(0);
        let tell = |memory: &LocalMemory| {
            if let Some(lie) = lies.get(told.replace(told.get() + 1)) {
                lie.tell(memory);
            }
        };
        let liar = Liar::new(|memory: &LocalMemory, _, _| tell(memory));
        let mut sender = RingSender::new(&liar).unwrap();
        let mut receiver = RingReceiver::new(&liar).unwrap();
        let mut buffer = [0; DATA as usize];
        let mut broken = (None, None);
        for id in 0..100 {
            tell(&liar.memory);
            let sent = sender.send(&OutgoingPacket::in_band(id, &[&[0; 90]]));
            if let Some(error) = broken.0 {
                prop_assert_eq!(sent, Err(error));
            } else if let Err(error @ SendError::Corrupt(_)) = sent {
                broken.0 = Some(error);
            }
            let received = receiver.receive(&mut buffer).map(|packet| {
                packet.map(|packet| {
                    let _ = (packet.gpa_ranges().is_ok(), packet.transfer_pages().is_ok());
                    packet.payload().len()
                })
            });
            if let Some(error) = broken.1 {
                prop_assert_eq!(received, Err(error));
            } else if let Err(error) = received {
                broken.1 = Some(error);
            }
            let _ = receiver.release();
            let _ = (sender.free_bytes(), sender.await_room(id as u32), receiver.unmask());
        }
    }
}
