//! The SynIC against a fake of KVM's lines, in plain memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};
use hv_abi::synic::HvMessage;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::{FromBytes, IntoBytes};

use super::connections::ConnectError;
use super::lines::{Line, SintLines};
use super::{MessageFeed, PostError, Registers, RouteError, RouteUse, Sint, Synic};

const MESSAGES: u64 = 0x3000;
const FLAGS: u64 = 0x4000;
const PAGE_ENABLE: u64 = 1;
const SINT: Sint = Sint { vp: 1, number: 2 };
const SLOT: u64 = MESSAGES + 2 * 256;

/// Interrupts that are written nowhere; the test keeps duplicates of both ends.
#[derive(Default, Clone)]
struct Fake(Arc<Mutex<Vec<Ends>>>);

/// What interrupts, and what is told of the interrupt's end.
type Ends = (EventFd, Option<EventFd>);

impl SintLines for Fake {
    fn connect(&self, _: Sint, use_: RouteUse) -> Result<Line, errno::Error> {
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let acknowledged =
            (use_ == RouteUse::Messages).then(|| EventFd::new(libc::EFD_NONBLOCK).unwrap());
        let twin = |event: &EventFd| event.try_clone().unwrap();
        self.0.lock().unwrap().push((twin(&interrupt), acknowledged.as_ref().map(twin)));
        Ok(Line { interrupt, acknowledged })
    }

    fn disconnect(&self, _: Sint, _: &Line) {
        self.0.lock().unwrap().pop();
    }

    fn connect_event(&self, _: u32, _: &EventFd) -> Result<(), errno::Error> {
        Err(errno::Error::new(libc::ENOTTY))
    }

    fn disconnect_event(&self, _: u32, _: &EventFd) {}
}

struct Machine {
    synic: Synic,
    memory: GuestMemoryMmap,
    lines: Fake,
    kicks: Arc<AtomicU32>,
}

impl Machine {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000)]).unwrap();
        let (lines, kicks) = (Fake::default(), Arc::new(AtomicU32::new(0)));
        let count = kicks.clone();
        let kick = Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let synic = Synic::new(memory.clone(), 2, Box::new(lines.clone()), kick);
        Self { synic, memory, lines, kicks }
    }

    fn ready() -> Self {
        let machine = Self::new();
        machine.enable(MESSAGES, FLAGS);
        machine.synic.add_route(SINT, RouteUse::Messages).unwrap();
        machine
    }

    fn enable(&self, messages: u64, flags: u64) {
        let (message_page, event_page) = (messages | PAGE_ENABLE, flags | PAGE_ENABLE);
        self.synic.registers_changed(1, Registers { control: 1, message_page, event_page });
        self.synic.work(1);
    }

    fn post(&self, payload: u8) -> Result<(), PostError> {
        let result = self.synic.post_message(SINT, &message(payload));
        self.synic.work(1);
        result
    }

    fn slot(&self) -> HvMessage {
        let mut bytes = [0; 256];
        self.memory.read_slice(&mut bytes, GuestAddress(SLOT)).unwrap();
        HvMessage::read_from_bytes(&bytes).unwrap()
    }

    /// What a guest does: takes the message, empties the slot, tells whether it has to write EOM.
    fn take(&self) -> (u8, bool) {
        let slot = self.slot();
        self.memory.write_obj(0_u32, GuestAddress(SLOT)).unwrap();
        (slot.payload[0], slot.header.message_flags & 1 != 0)
    }

    fn interrupts(&self) -> u64 {
        self.lines.0.lock().unwrap()[0].0.read().unwrap_or(0)
    }

    fn end_of_message(&self) {
        let kicks = self.kicks.load(Ordering::SeqCst);
        self.lines.0.lock().unwrap()[0].1.as_ref().unwrap().write(1).unwrap();
        while self.kicks.load(Ordering::SeqCst) == kicks {
            std::thread::yield_now();
        }
        self.synic.work(1);
    }

    fn call(&self, code: u16, parameter: u64) -> Result<(), HvError> {
        self.synic.hypercall(HypercallInput::new(code), parameter)
    }

    /// Puts the input of `HvCallPostMessage` at 0x1000.
    fn input(&self, connection: u32, message_type: u32, size: u32) {
        let head = [connection, 0, message_type, size];
        self.memory.write_slice(head.as_bytes(), GuestAddress(0x1000)).unwrap();
    }
}

fn message(payload: u8) -> HvMessage {
    let mut bytes = [payload; 256];
    bytes[..16].copy_from_slice(&[1, 0, 0, 0, 8, 0xFF, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    HvMessage::read_from_bytes(&bytes).unwrap()
}

#[test]
fn a_message_lies_in_its_slot_and_interrupts_once() {
    let machine = Machine::ready();
    machine.memory.write_slice(&[0x55; 256], GuestAddress(SLOT)).unwrap();
    machine.memory.write_obj(0_u32, GuestAddress(SLOT)).unwrap();
    machine.post(9).unwrap();
    let mut bytes = [0; 256];
    machine.memory.read_slice(&mut bytes, GuestAddress(SLOT)).unwrap();
    // HV_MESSAGE_HEADER: type, size, flags, reserved, port; then what counts of the payload.
    assert_eq!(bytes[..16], [1, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((bytes[23], bytes[24]), (9, 0x55), "only the payload's size is written");
    assert_eq!(machine.interrupts(), 1);
}

#[test]
fn an_occupied_slot_sets_message_pending_and_keeps_one_message() {
    let machine = Machine::ready();
    machine.post(1).unwrap();
    machine.post(2).unwrap();
    assert_eq!(machine.post(3), Err(PostError::Busy));
    assert_eq!(machine.interrupts(), 1, "nothing new lies in the slot");
    assert_eq!(machine.take(), (1, true));
    machine.end_of_message();
    assert_eq!(machine.interrupts(), 1);
    assert_eq!(machine.take(), (2, false));
    machine.post(4).unwrap();
    assert_eq!(machine.take(), (4, false));
}

#[test]
fn an_end_of_interrupt_while_the_slot_is_full_changes_nothing() {
    let machine = Machine::ready();
    machine.post(1).unwrap();
    machine.post(2).unwrap();
    machine.end_of_message();
    assert_eq!(machine.take(), (1, true));
    machine.end_of_message();
    assert_eq!(machine.take(), (2, false));
}

#[test]
fn messages_need_a_route_and_an_enabled_page() {
    let machine = Machine::new();
    assert_eq!(machine.post(1), Err(PostError::NoRoute));
    machine.synic.add_route(SINT, RouteUse::Events).unwrap();
    assert_eq!(machine.post(1), Err(PostError::Disabled));
    machine.enable(MESSAGES, FLAGS);
    assert_eq!(machine.post(1), Err(PostError::NoRoute), "an event route carries no messages");
    machine.synic.add_route(SINT, RouteUse::Messages).unwrap();
    assert_eq!(machine.post(1), Ok(()));
    let off = Registers { control: 0, message_page: 0x3001, event_page: 0x4001 };
    machine.synic.registers_changed(1, off);
    assert_eq!(machine.post(1), Err(PostError::Disabled));
    assert_eq!(machine.synic.signal_event(SINT, 0), Err(PostError::Disabled));
}

#[test]
fn a_message_that_waits_follows_a_moved_page() {
    let machine = Machine::ready();
    machine.enable(0x10_0000, FLAGS);
    machine.post(5).unwrap();
    assert_eq!(machine.interrupts(), 0, "no RAM is there");
    machine.enable(MESSAGES, FLAGS);
    assert_eq!(machine.take(), (5, false));
}

#[test]
fn a_flag_interrupts_only_when_it_was_clear() {
    let machine = Machine::ready();
    assert_eq!(machine.synic.signal_event(SINT, 2047), Ok(true));
    assert_eq!(machine.synic.signal_event(SINT, 2047), Ok(false));
    assert_eq!(machine.interrupts(), 1);
    let last: u8 = machine.memory.read_obj(GuestAddress(FLAGS + 3 * 256 - 1)).unwrap();
    assert_eq!(last, 0x80);
    assert_eq!(machine.synic.signal_event(SINT, 2048), Err(PostError::Invalid));
    assert_eq!(machine.synic.signal_event(SINT, 0), Ok(true));
}

/// A feed of a few messages, and how many of them are in their slot.
#[derive(Default)]
struct Feed {
    messages: Mutex<Vec<u8>>,
    delivered: AtomicU32,
}

impl MessageFeed for Feed {
    fn next(&self) -> Option<HvMessage> {
        let mut messages = self.messages.lock().unwrap();
        (!messages.is_empty()).then(|| message(messages.remove(0)))
    }

    fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_feed_is_asked_whenever_the_slot_can_take_a_message() {
    let machine = Machine::ready();
    let feed = Arc::new(Feed { messages: Mutex::new(vec![1, 2, 3]), ..Feed::default() });
    machine.synic.feed_messages(SINT, feed.clone()).unwrap();
    machine.synic.work(1);
    assert_eq!(feed.delivered.load(Ordering::SeqCst), 1);
    assert_eq!(machine.take(), (1, true), "the guest is told of the second");
    machine.end_of_message();
    assert_eq!(machine.take(), (2, true));
    machine.end_of_message();
    assert_eq!(machine.take(), (3, false));
    assert_eq!(feed.delivered.load(Ordering::SeqCst), 3);
    // One that comes later is asked for.
    feed.messages.lock().unwrap().push(4);
    machine.synic.messages_wait(SINT);
    machine.synic.work(1);
    assert_eq!(machine.take(), (4, false));
    assert_eq!(machine.interrupts(), 4);
}

#[test]
fn a_feed_that_is_taken_away_leaves_nothing_behind() {
    let machine = Machine::ready();
    let feed = Arc::new(Feed { messages: Mutex::new(vec![1, 2, 3]), ..Feed::default() });
    machine.synic.feed_messages(SINT, feed.clone()).unwrap();
    machine.synic.work(1);
    machine.synic.stop_feeding(SINT);
    assert_eq!(machine.take(), (1, true));
    machine.post(9).unwrap();
    assert_eq!(machine.take(), (9, false));
    assert_eq!(feed.delivered.load(Ordering::SeqCst), 1);
}

#[test]
fn a_feed_needs_a_route_for_messages() {
    let machine = Machine::new();
    let feed = || Arc::new(Feed::default());
    assert_eq!(machine.synic.feed_messages(SINT, feed()), Err(PostError::NoRoute));
    machine.synic.add_route(SINT, RouteUse::Events).unwrap();
    assert_eq!(machine.synic.feed_messages(SINT, feed()), Err(PostError::NoRoute));
    machine.synic.stop_feeding(SINT);
}

#[test]
fn sources_that_no_machine_has_are_refused() {
    let machine = Machine::new();
    for sint in [Sint { vp: 2, number: 0 }, Sint { vp: 0, number: 16 }] {
        let refused = machine.synic.add_route(sint, RouteUse::Messages);
        assert_eq!(refused, Err(RouteError::NoSuchSint));
        assert_eq!(machine.synic.raise(sint), Err(PostError::NoRoute));
        assert_eq!(machine.synic.post_message(sint, &message(0)), Err(PostError::NoRoute));
        machine.synic.remove_route(sint);
        machine.synic.work(sint.vp);
    }
}

#[test]
fn a_route_lives_as_long_as_its_last_user() {
    let machine = Machine::ready();
    machine.synic.add_route(SINT, RouteUse::Events).unwrap();
    machine.synic.remove_route(SINT);
    machine.synic.raise(SINT).unwrap();
    assert_eq!(machine.interrupts(), 1);
    machine.synic.remove_route(SINT);
    assert_eq!(machine.synic.raise(SINT), Err(PostError::NoRoute));
    assert!(machine.lines.0.lock().unwrap().is_empty());
}

#[test]
fn calls_on_unknown_connections_are_refused() {
    let machine = Machine::new();
    machine.input(7, 1, 8);
    let unknown = Err(HvError::INVALID_CONNECTION_ID);
    assert_eq!(machine.call(HV_CALL_POST_MESSAGE, 0x1000), unknown);
    assert_eq!(machine.call(HV_CALL_SIGNAL_EVENT, 7), unknown);
}

#[test]
fn a_message_reaches_the_handler_of_its_connection() {
    let machine = Machine::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let handler = Arc::new(move |message: &hv_abi::synic::HvInputPostMessage| {
        notes.lock().unwrap().push((message.message_type.0, message.payload_size));
        Err(HvError::INSUFFICIENT_BUFFERS)
    });
    machine.synic.connect_messages(7, handler.clone()).unwrap();
    let again = machine.synic.connect_messages(7, handler.clone());
    assert_eq!(again, Err(ConnectError::Exists(7)));
    let large = machine.synic.connect_messages(1 << 24, handler);
    assert_eq!(large, Err(ConnectError::Number(1 << 24)));
    machine.input(7, 0x1234, 240);
    let answer = machine.call(HV_CALL_POST_MESSAGE, 0x1000);
    assert_eq!(answer, Err(HvError::INSUFFICIENT_BUFFERS));
    assert_eq!(*seen.lock().unwrap(), [(0x1234, 240)]);
    assert!(machine.synic.disconnect_messages(7));
    assert!(!machine.synic.disconnect_messages(7));
}

#[test]
fn malformed_messages_never_reach_a_handler() {
    let machine = Machine::new();
    let handler = Arc::new(|_: &hv_abi::synic::HvInputPostMessage| panic!("reached"));
    machine.synic.connect_messages(7, handler).unwrap();
    for (message_type, size) in [(0, 8), (0x8000_0001, 8), (1, 241), (1, u32::MAX)] {
        machine.input(7, message_type, size);
        let answer = machine.call(HV_CALL_POST_MESSAGE, 0x1000);
        assert_eq!(answer, Err(HvError::INVALID_PARAMETER), "{message_type:#x}, {size}");
    }
    machine.input(7, 1, 8);
    for address in [0x1001, 0x1004, 0x1F08] {
        let answer = machine.call(HV_CALL_POST_MESSAGE, address);
        assert_eq!(answer, Err(HvError::INVALID_ALIGNMENT), "{address:#x}");
    }
    for outside in [0x8000, !0xFFF] {
        let answer = machine.call(HV_CALL_POST_MESSAGE, outside);
        assert_eq!(answer, Err(HvError::INVALID_ALIGNMENT), "{outside:#x}");
    }
    let fast = HypercallInput::new(HV_CALL_POST_MESSAGE).fast();
    let answer = machine.synic.hypercall(fast, 7);
    assert_eq!(answer, Err(HvError::INVALID_HYPERCALL_INPUT));
}

#[test]
fn signals_carry_their_flag_number() {
    let machine = Machine::new();
    let last = Arc::new(AtomicU32::new(0));
    let note = last.clone();
    let handler = Arc::new(move |flag: u16| {
        note.store(flag.into(), Ordering::SeqCst);
        Ok(())
    });
    machine.synic.connect_events(7, handler).unwrap();
    assert_eq!(machine.call(HV_CALL_SIGNAL_EVENT, 0x5_0000_0007), Ok(()));
    assert_eq!(last.load(Ordering::SeqCst), 5);
    for reserved in [0x0100_0007, 1 << 48 | 7, 1 << 63 | 7] {
        let answer = machine.call(HV_CALL_SIGNAL_EVENT, reserved);
        assert_eq!(answer, Err(HvError::INVALID_HYPERCALL_INPUT), "{reserved:#x}");
    }
}

#[test]
fn an_event_descriptor_is_written_by_us_where_kvm_does_not() {
    let machine = Machine::new();
    let event = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
    machine.synic.connect_event_fd(7, event.clone()).unwrap();
    assert_eq!(machine.call(HV_CALL_SIGNAL_EVENT, 7), Ok(()));
    assert_eq!(event.read().unwrap(), 1);
    let flagged = machine.call(HV_CALL_SIGNAL_EVENT, 1 << 32 | 7);
    assert_eq!(flagged, Err(HvError::INVALID_PARAMETER));
    assert!(machine.synic.disconnect_events(7));
    assert_eq!(machine.call(HV_CALL_SIGNAL_EVENT, 7), Err(HvError::INVALID_CONNECTION_ID));
}

proptest! {
    #[test]
    fn any_call_of_a_guest_gets_an_answer(input: u64, parameter: u64, page: u64, bytes: [u8; 16]) {
        let machine = Machine::ready();
        machine.memory.write_slice(&bytes, GuestAddress(0x1000)).unwrap();
        machine.enable(page, page.rotate_left(9));
        let _ = machine.synic.hypercall(HypercallInput(input), parameter);
        let _ = machine.synic.hypercall(HypercallInput(0x5C), 0x1000);
        let _ = machine.synic.signal_event(SINT, parameter as u16);
        let _ = machine.post(1);
    }
}
