//! Messages and events that are sent by hypercall, through the connections of a test device.
//!
//! The device is QEMU's `hyperv-testdev` (hw/hyperv/hyperv_testdev.c), or ours: it makes connections that lead to a source of a
//! virtual processor, and raises sources. A write of 32 bits to its port: source, virtual processor, what to do, connection.

#![expect(unsafe_code, reason = "makes hypercalls, port I/O")]

use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};
use hv_abi::synic::{
    HV_MESSAGE_PAYLOAD_BYTES, HvInputPostMessage, HvInputSignalEvent, HvMessageType,
};
use hv_enlightenments::hypercall::{CallBuffer, CallError};
use hv_enlightenments::vp;
use x86_64::instructions::port::Port;

use super::support::calls::{buffer, calls};
use super::support::synic::{Source, controller, stays_quiet};
use super::support::{holds_soon, interface, need};
use super::{Problem, TestResult, cases, check, deviates, skip};
use crate::machine::cpu::CPU;
use crate::machine::{boot, cpu, hyperv};

cases!(SynIc: [
    a_message_to_no_connection_is_refused => "TLFS, HvCallPostMessage",
    an_event_to_no_connection_is_refused => "TLFS, HvCallSignalEvent",
    a_message_longer_than_its_buffer_is_refused => "TLFS, HvCallPostMessage",
    a_message_from_an_odd_address_is_refused => "TLFS, Alignment",
    a_posted_message_comes_with_type_and_payload => "TLFS, HvCallPostMessage",
    posted_messages_come_in_order => "TLFS, Reliability and Sequencing of Guest Message Buffers",
    a_message_to_a_full_slot_waits_for_the_end_of_message => "TLFS, Messages",
    a_message_without_a_buffer_is_refused => "TLFS, HvCallPostMessage",
    an_event_sets_its_flag_and_interrupts => "TLFS, Event Flag Delivery",
    an_event_whose_flag_is_set_does_not_interrupt => "TLFS, Event Flag Delivery",
    an_event_in_memory_is_the_same => "TLFS, HvCallSignalEvent",
    the_test_device_raises_a_source => "QEMU, hyperv_testdev.c",
]);

/// The device's port.
const PORT: u16 = 0x3000;
const ROUTE_CREATE: u8 = 1;
const ROUTE_DESTROY: u8 = 2;
const ROUTE_RAISE: u8 = 3;
const MESSAGES_CREATE: u8 = 4;
const MESSAGES_DESTROY: u8 = 5;
const EVENTS_CREATE: u8 = 6;
const EVENTS_DESTROY: u8 = 7;

/// Connections that cases make. The device has the flag of an event be the connection's number.
const CONNECTION: u8 = 0x21;
const BARRIER: u8 = 0x35;
/// A connection that nobody makes.
const NO_CONNECTION: u32 = 0x00AB_CDEF;
/// A type as guests use them.
const GUEST_MESSAGE: HvMessageType = HvMessageType(0x1234);

/// Something of the test device that is undone when the case is over.
struct Made {
    command: u32,
    undo: u8,
}

impl Made {
    fn new(what: u8, undo: u8, source: &Source, connection: u8) -> Result<Self, Problem> {
        let index = interface()?;
        let vp = vp::vp_index(&CPU, index).and_then(|index| u8::try_from(index).ok());
        let vp = vp.ok_or(Problem::Skip("the hypervisor does not tell our index".into()))?;
        let command = u32::from_le_bytes([source.sint.number(), vp, what, connection]);
        send(command);
        Ok(Self { command, undo })
    }

    fn messages(source: &Source) -> Result<Self, Problem> {
        need_device(Privileges::POST_MESSAGES)?;
        Self::new(MESSAGES_CREATE, MESSAGES_DESTROY, source, CONNECTION)
    }

    fn events(source: &Source, connection: u8) -> Result<Self, Problem> {
        need_device(Privileges::SIGNAL_EVENTS)?;
        Self::new(EVENTS_CREATE, EVENTS_DESTROY, source, connection)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let [sint, vp, _, connection] = self.command.to_le_bytes();
        send(u32::from_le_bytes([sint, vp, self.undo, connection]));
    }
}

fn send(command: u32) {
    // SAFETY: the device does nothing but what the command says, to sources of these cases.
    unsafe { Port::new(PORT).write(command) };
}

fn need_device(privilege: Privileges) -> TestResult {
    need(privilege | Privileges::HYPERCALL | Privileges::VP_INDEX)?;
    controller()?;
    if boot::machine().is_some_and(|machine| machine.options.testdev) {
        Ok(())
    } else {
        skip!("no test device: `testdev` is not on the command line")
    }
}

/// A message of one byte, eight times.
fn message(connection_id: u32, byte: u8) -> HvInputPostMessage {
    let mut payload = [0; HV_MESSAGE_PAYLOAD_BYTES];
    payload[..8].fill(byte);
    HvInputPostMessage {
        connection_id,
        _reserved: 0,
        message_type: GUEST_MESSAGE,
        payload_size: 8,
        payload,
    }
}

fn post(buffer: &mut CallBuffer, input: &HvInputPostMessage) -> Result<(), Problem> {
    match try_post(buffer, input)? {
        Ok(()) => Ok(()),
        Err(error) => Err(Problem::Fail(alloc::format!("a message was refused: {error}"))),
    }
}

fn try_post(
    buffer: &mut CallBuffer,
    input: &HvInputPostMessage,
) -> Result<Result<(), CallError>, Problem> {
    let mut bytes = [0; size_of::<HvInputPostMessage>()];
    let (header, payload) = bytes.split_at_mut(16);
    let words =
        [input.connection_id, 0, input.message_type.0, input.payload_size].map(u32::to_le_bytes);
    header.copy_from_slice(words.as_flattened());
    payload.copy_from_slice(&input.payload);
    let call = HypercallInput::new(HV_CALL_POST_MESSAGE);
    // SAFETY: the call only reads its input; who gets the message expects it.
    Ok(unsafe { calls()?.in_memory(call, buffer, &bytes, &mut []) })
}

/// The connection may be busy for a moment with the message before.
fn post_soon(buffer: &mut CallBuffer, input: &HvInputPostMessage) -> TestResult {
    for _ in 0..10_000 {
        match try_post(buffer, input)? {
            Ok(()) => return Ok(()),
            Err(CallError::Status(HvError::INSUFFICIENT_BUFFERS)) => cpu::pause(),
            Err(error) => return Err(Problem::Fail(alloc::format!("refused: {error}"))),
        }
    }
    Err(Problem::Fail("a connection with nothing to do stays busy".into()))
}

fn signal(connection_id: u32) -> Result<Result<(), HvError>, Problem> {
    let input = HvInputSignalEvent { connection_id, flag_number: 0, _reserved: 0 };
    // SAFETY: the call sets a flag in a page made for it.
    Ok(unsafe { calls()?.fast(HV_CALL_SIGNAL_EVENT, input.fast(), 0) })
}

fn signal_well(connection: u8) -> TestResult {
    let result = signal(connection.into())?;
    check!(result.is_ok(), "an event was refused: {result:?}");
    Ok(())
}

fn is_set(source: &Source, flag: u8) -> Result<bool, Problem> {
    Ok(controller()?.pages().flags.is_set(source.sint, flag.into()))
}

fn take_flag(source: &Source, flag: u8) -> TestResult {
    let flags = &controller()?.pages().flags;
    check!(holds_soon(|| flags.is_set(source.sint, flag.into())), "flag {flag} was not set");
    let mut taken = alloc::vec::Vec::new();
    flags.take(source.sint, |flag| taken.push(flag));
    check!(taken == [u16::from(flag)], "flags {taken:?} were set, not {flag}");
    Ok(())
}

fn a_message_to_no_connection_is_refused() -> TestResult {
    need(Privileges::POST_MESSAGES | Privileges::SYNIC)?;
    let result = try_post(&mut buffer()?, &message(NO_CONNECTION, 1))?;
    let expected = Err(CallError::Status(HvError::INVALID_CONNECTION_ID));
    check!(result == expected, "{result:?}");
    Ok(())
}

fn an_event_to_no_connection_is_refused() -> TestResult {
    need(Privileges::SIGNAL_EVENTS | Privileges::SYNIC)?;
    let result = signal(NO_CONNECTION)?;
    check!(result == Err(HvError::INVALID_CONNECTION_ID), "{result:?}");
    Ok(())
}

fn a_message_longer_than_its_buffer_is_refused() -> TestResult {
    let source = Source::counting(5)?;
    let _connection = Made::messages(&source)?;
    let mut buffer = buffer()?;
    for payload_size in [241, 0x1_0008, u32::MAX] {
        let input = HvInputPostMessage { payload_size, ..message(CONNECTION.into(), 1) };
        let result = try_post(&mut buffer, &input)?;
        check!(matches!(result, Err(CallError::Status(_))), "{payload_size} bytes: {result:?}");
    }
    check!(stays_quiet(|| source.is_full()), "a message came");
    Ok(())
}

fn a_message_from_an_odd_address_is_refused() -> TestResult {
    need(Privileges::POST_MESSAGES | Privileges::SYNIC)?;
    let page = calls()?.entry();
    let input = HypercallInput::new(HV_CALL_POST_MESSAGE);
    // SAFETY: it names memory that is only read.
    let result = unsafe {
        hv_enlightenments::Cpu::hypercall(&CPU, page, input.0, page.addr().get() as u64 + 4, 0)
    };
    let status = hv_abi::hypercall::HypercallResult(result).status();
    if status == Err(HvError::INVALID_CONNECTION_ID) && hyperv::detect().host.is_none() {
        deviates!("QEMU reads a message from any address", "TLFS, Alignment");
    }
    check!(status == Err(HvError::INVALID_ALIGNMENT), "{status:?}");
    Ok(())
}

fn a_posted_message_comes_with_type_and_payload() -> TestResult {
    let source = Source::counting(5)?;
    let _connection = Made::messages(&source)?;
    post(&mut buffer()?, &message(CONNECTION.into(), 0xA5))?;
    source.expect_interrupts(1, "one message was posted")?;
    let message = source.message("the one that was posted")?;
    check!(message.message_type() == GUEST_MESSAGE, "{message:?}");
    check!(message.payload() == [0xA5; 8], "{message:?}");
    Ok(())
}

fn posted_messages_come_in_order() -> TestResult {
    let source = Source::counting(5)?;
    let _connection = Made::messages(&source)?;
    let mut buffer = buffer()?;
    post(&mut buffer, &message(CONNECTION.into(), 1))?;
    for byte in 1..=5 {
        // One lies in the slot and one waits, so that there is an order to keep.
        check_soon(|| source.is_full(), "a message did not come")?;
        post_soon(&mut buffer, &message(CONNECTION.into(), byte + 1))?;
        let message = source.message("the one that was posted")?;
        check!(message.payload() == [byte; 8], "{message:?} and not {byte}");
    }
    let last = source.message("the last")?;
    check!(last.payload() == [6; 8], "{last:?}");
    Ok(())
}

/// A message in the slot and one that waits.
fn post_two(source: &Source) -> Result<CallBuffer, Problem> {
    let mut buffer = buffer()?;
    post(&mut buffer, &message(CONNECTION.into(), 1))?;
    check_soon(|| source.is_full(), "the first message did not come")?;
    post_soon(&mut buffer, &message(CONNECTION.into(), 2))?;
    check_soon(|| source.is_pending(), "a message to a full slot did not set MessagePending")?;
    Ok(buffer)
}

fn check_soon(condition: impl Fn() -> bool, what: &str) -> TestResult {
    check!(holds_soon(condition), "{what}");
    Ok(())
}

fn a_message_to_a_full_slot_waits_for_the_end_of_message() -> TestResult {
    let source = Source::counting(5)?;
    let _connection = Made::messages(&source)?;
    post_two(&source)?;
    let first = source.message("the first")?;
    check!(first.payload() == [1; 8], "{first:?}");
    // That has written EOM, as MessagePending was set.
    let second = source.message("the one that waited")?;
    check!(second.payload() == [2; 8], "{second:?}");
    source.expect_interrupts(2, "two messages were posted")
}

fn a_message_without_a_buffer_is_refused() -> TestResult {
    let source = Source::counting(5)?;
    let _connection = Made::messages(&source)?;
    let mut buffer = post_two(&source)?;
    // The same again: QEMU's device keeps the content of one that it refuses in place of the one that waits.
    let result = try_post(&mut buffer, &message(CONNECTION.into(), 2))?;
    let expected = Err(CallError::Status(HvError::INSUFFICIENT_BUFFERS));
    check!(result == expected, "{result:?}");
    source.message("the first")?;
    let second = source.message("the one that waited")?;
    check!(second.payload() == [2; 8], "{second:?}");
    check!(stays_quiet(|| source.is_full()), "the one that was refused came nevertheless");
    Ok(())
}

fn an_event_sets_its_flag_and_interrupts() -> TestResult {
    let source = Source::counting(6)?;
    let _connection = Made::events(&source, CONNECTION)?;
    for count in 1..=3 {
        signal_well(CONNECTION)?;
        take_flag(&source, CONNECTION)?;
        source.expect_interrupts(count, "each event came to a clear flag")?;
    }
    Ok(())
}

fn an_event_whose_flag_is_set_does_not_interrupt() -> TestResult {
    let (source, other) = (Source::counting(6)?, Source::counting(7)?);
    let _connection = Made::events(&source, CONNECTION)?;
    let _barrier = Made::events(&other, BARRIER)?;
    for _ in 0..3 {
        signal_well(CONNECTION)?;
        check!(holds_soon(|| is_set(&source, CONNECTION).unwrap_or(false)), "no flag was set");
    }
    // Whoever has delivered this one has delivered those before.
    signal_well(BARRIER)?;
    take_flag(&other, BARRIER)?;
    source.expect_interrupts(1, "the flag was set all the time")?;
    take_flag(&source, CONNECTION)?;
    signal_well(CONNECTION)?;
    take_flag(&source, CONNECTION)?;
    source.expect_interrupts(2, "the flag was clear again")
}

fn an_event_in_memory_is_the_same() -> TestResult {
    let source = Source::counting(6)?;
    let _connection = Made::events(&source, CONNECTION)?;
    let input = u64::from(CONNECTION).to_le_bytes();
    let call = HypercallInput::new(HV_CALL_SIGNAL_EVENT);
    // SAFETY: the call sets a flag in a page made for it.
    let result = unsafe { calls()?.in_memory(call, &mut buffer()?, &input, &mut []) };
    check!(result.is_ok(), "{result:?}");
    take_flag(&source, CONNECTION)
}

fn the_test_device_raises_a_source() -> TestResult {
    let source = Source::counting(8)?;
    need_device(Privileges::SYNIC)?;
    let route = Made::new(ROUTE_CREATE, ROUTE_DESTROY, &source, 0)?;
    let [sint, vp, _, _] = route.command.to_le_bytes();
    for count in 1..=3 {
        send(u32::from_le_bytes([sint, vp, ROUTE_RAISE, 0]));
        source.expect_interrupts(count, "the source was raised")?;
    }
    check!(!source.is_full(), "a message came");
    Ok(())
}
