//! Where parameters may lie: aligned, within one page, within memory.

use hv_abi::cpuid::Privileges;
use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};

use crate::conformance::support::calls::{Block, NO_MEMORY, raw};
use crate::conformance::support::need;
use crate::conformance::{TestResult, cases, check};

cases!(Hypercalls: [
    a_misaligned_signal_is_refused => "TLFS Alignment Requirements",
    a_signal_outside_memory_is_refused => "TLFS Hypercall Status Codes",
    a_message_that_crosses_a_page_is_refused => "TLFS Hypercall Status Codes",
    a_message_outside_memory_is_refused => "TLFS Hypercall Status Codes",
]);

fn refused(code: u16, address: u64) -> TestResult {
    let status = raw(HypercallInput::new(code), address, 0)?;
    check!(status == Err(HvError::INVALID_ALIGNMENT), "parameters at {address:#x}: {status:?}");
    Ok(())
}

fn a_misaligned_signal_is_refused() -> TestResult {
    need(Privileges::SIGNAL_EVENTS)?;
    let block = Block::new()?;
    refused(HV_CALL_SIGNAL_EVENT, block.at(1))?;
    refused(HV_CALL_SIGNAL_EVENT, block.at(4))
}

fn a_signal_outside_memory_is_refused() -> TestResult {
    need(Privileges::SIGNAL_EVENTS)?;
    refused(HV_CALL_SIGNAL_EVENT, NO_MEMORY)
}

fn a_message_that_crosses_a_page_is_refused() -> TestResult {
    need(Privileges::POST_MESSAGES | Privileges::SYNIC)?;
    // Connection, reserved, type and size of 240 bytes of payload stand before the end of the page.
    refused(HV_CALL_POST_MESSAGE, Block::new()?.at(4096 - 16))
}

fn a_message_outside_memory_is_refused() -> TestResult {
    need(Privileges::POST_MESSAGES | Privileges::SYNIC)?;
    refused(HV_CALL_POST_MESSAGE, NO_MEMORY)
}
