//! Both ends of a VMBus ring, driven by a script, with a third who may write anywhere in its memory at any time.
//!
//! Until the third does something, what is received is what was sent. From then on either end may only find the ring corrupt, and
//! stay with that.

#![no_main]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use libfuzzer_sys::fuzz_target;
use vmbus_ring::gpa::GpaRanges;
use vmbus_ring::{
    Control, GpaRange, LocalMemory, OutgoingKind, OutgoingPacket, Packet, ReceiveError, RingError,
    RingMemory, RingReceiver, RingSender, SendError,
};

const DATA: u32 = 4096;
const WORDS: [Control; 5] = [
    Control::WriteIndex,
    Control::ReadIndex,
    Control::InterruptMask,
    Control::PendingSendSize,
    Control::FeatureBits,
];

fuzz_target!(|bytes: &[u8]| {
    let _ = GpaRanges::parse(u32::from(bytes.first().copied().unwrap_or(0)), bytes)
        .map(|ranges| ranges.iter().for_each(|range| check_pieces(&range)));
    let memory = Watched {
        memory: LocalMemory::new(DATA).expect("a page"),
        lie: RefCell::new(None),
        lied: Cell::new(false),
    };
    // Anywhere in the ring, so that packets wrap around.
    let start = u32::from(bytes.last().copied().unwrap_or(0)) * 16;
    memory.control(Control::WriteIndex).store(start, Ordering::Relaxed);
    memory.control(Control::ReadIndex).store(start, Ordering::Relaxed);
    let sender = RingSender::new(&memory).expect("a good ring");
    let receiver = RingReceiver::new(&memory).expect("a good ring");
    let ends = Ends {
        memory: &memory,
        sender,
        receiver,
        sent: VecDeque::new(),
        sender_found: None,
        receiver_found: None,
    };
    ends.run(Script(bytes));
});

fn check_pieces(range: &vmbus_ring::gpa::ParsedRange<'_>) {
    let total: u64 = range.pieces().map(|piece| u64::from(piece.length)).sum();
    assert_eq!(total, u64::from(range.byte_count));
    assert!(range.pieces().all(|piece| piece.length > 0 && piece.offset + piece.length <= 4096));
}

/// Memory that checks where it is read and written, and may change as soon as it was read.
struct Watched {
    memory: LocalMemory,
    /// What appears at which offset after the next reading.
    lie: RefCell<Option<(u32, Vec<u8>)>>,
    lied: Cell<bool>,
}

impl RingMemory for Watched {
    fn control(&self, word: Control) -> &AtomicU32 {
        self.memory.control(word)
    }

    fn data_len(&self) -> u32 {
        DATA
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        assert!(offset as usize + bytes.len() <= DATA as usize);
        self.memory.read(offset, bytes);
        if let Some((offset, bytes)) = self.lie.borrow_mut().take() {
            self.lied.set(true);
            self.memory.write(offset, &bytes);
        }
    }

    fn write(&self, offset: u32, bytes: &[u8]) {
        assert!(offset as usize + bytes.len() <= DATA as usize);
        self.memory.write(offset, bytes);
    }
}

/// Bytes that say what happens.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }
}

struct Ends<'m> {
    memory: &'m Watched,
    sender: RingSender<&'m Watched>,
    receiver: RingReceiver<&'m Watched>,
    /// Kind and payload of what is in the ring.
    sent: VecDeque<(u16, Vec<u8>)>,
    sender_found: Option<RingError>,
    receiver_found: Option<RingError>,
}

impl Ends<'_> {
    fn run(mut self, mut script: Script<'_>) {
        while self.step(&mut script).is_some() {}
    }

    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.byte()? % 10 {
            0 | 1 => self.send(script)?,
            2 | 3 => self.receive(script.byte()?),
            4 => {
                let _ = self.receiver.release();
            }
            5 => {
                let result = self.sender.await_room(script.number()?).map(drop);
                self.sender_says(result);
            }
            6 => {
                let _ = self.receiver.release();
                let result = self.receiver.unmask().map(drop);
                self.receiver_says(result);
            }
            7 => self.receiver.mask(),
            8 => {
                let word = WORDS[usize::from(script.byte()?) % WORDS.len()];
                self.memory.lied.set(true);
                self.memory.control(word).store(script.number()?, Ordering::Relaxed);
            }
            _ => self.lie(script)?,
        }
        Some(())
    }

    fn lie(&mut self, script: &mut Script<'_>) -> Option<()> {
        let now = script.byte()? % 2 == 0;
        let bytes = script.bytes()?.to_vec();
        let offset = script.number()? % (DATA - bytes.len() as u32);
        if now {
            self.memory.lied.set(true);
            self.memory.memory.write(offset, &bytes);
        } else {
            *self.memory.lie.borrow_mut() = Some((offset, bytes));
        }
        Some(())
    }

    fn send(&mut self, script: &mut Script<'_>) -> Option<()> {
        let kind = script.byte()?;
        let (first, second) = (script.bytes()?, script.bytes()?);
        let pages: Vec<u64> = first.iter().map(|byte| u64::from(*byte)).collect();
        let byte_count = pages.len() as u32 * 4096;
        let ranges = [GpaRange { byte_count, byte_offset: 0, pages: &pages }];
        let (kind, number) = match kind % 4 {
            0 => (OutgoingKind::InBand, 6),
            1 => (OutgoingKind::Completion, 11),
            2 => (OutgoingKind::GpaDirect(&ranges), 9),
            _ => (OutgoingKind::Gpadl(7), 8),
        };
        let slices = [first, second];
        match self.sender.send(&OutgoingPacket::new(kind, 5, &slices)) {
            Ok(_) => {
                self.sender_says(Ok(()));
                let mut payload = slices.concat();
                payload.resize(payload.len().next_multiple_of(8), 0);
                self.sent.push_back((number, payload));
            }
            Err(SendError::Corrupt(error)) => self.sender_says(Err(error)),
            Err(SendError::Ranges(_)) => assert!(pages.is_empty()),
            Err(SendError::Full) => {}
            Err(SendError::TooLarge) => panic!("no packet here is"),
        }
        Some(())
    }

    fn receive(&mut self, room: u8) {
        let mut buffer = [0; DATA as usize];
        // Sometimes too little.
        let room = if room < 8 { usize::from(room) * 32 } else { buffer.len() };
        let expected = self.sent.front();
        let received = self.receiver.receive(&mut buffer[..room]);
        let honest = !self.memory.lied.get();
        match received {
            Ok(Some(packet)) => {
                look(&packet);
                if honest {
                    let (kind, payload) = expected.expect("nothing comes that was not sent");
                    assert_eq!((packet.kind().0, packet.payload()), (*kind, &payload[..]));
                }
                self.sent.pop_front();
                self.receiver_says(Ok(()));
            }
            Ok(None) => {
                assert!(!honest || expected.is_none());
                self.receiver_says(Ok(()));
            }
            Err(ReceiveError::BufferTooSmall { needed }) => assert!(needed > room),
            Err(ReceiveError::Corrupt(error)) => self.receiver_says(Err(error)),
        }
    }

    fn sender_says(&mut self, result: Result<(), RingError>) {
        says(&mut self.sender_found, result, self.memory.lied.get());
    }

    fn receiver_says(&mut self, result: Result<(), RingError>) {
        says(&mut self.receiver_found, result, self.memory.lied.get());
    }
}

/// An end that found the ring corrupt finds nothing else any more; only a lie makes it so.
fn says(found: &mut Option<RingError>, result: Result<(), RingError>, lied: bool) {
    assert!(result.is_ok() || lied, "{result:?}");
    match found {
        Some(error) => assert_eq!(result, Err(*error)),
        None => *found = result.err(),
    }
}

/// What a driver would look at.
fn look(packet: &Packet<'_>) {
    if let Ok(ranges) = packet.gpa_ranges() {
        ranges.iter().for_each(|range| check_pieces(&range));
    }
    if let Ok(pages) = packet.transfer_pages() {
        assert!(pages.ranges().count() <= DATA as usize / 8);
    }
    let _ = (packet.gpadl(), packet.completion_requested());
}
