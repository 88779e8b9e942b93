//! VMBus on this machine: what `vsc-drivers` needs of the kernel, the interrupt that serves the bus, and tasks.
//!
//! - [`mod@hal`]: memory, calls, time
//! - [`alarm`]: tasks that are woken at a time
//! - [`tasks`]: polls futures; a processor without anything to do halts
//!
//! The bus's source interrupts whichever processor a channel is bound to; the handler copies messages and flags to the
//! bus, which wakes tasks.

mod alarm;
mod hal;
pub(crate) mod tasks;

pub(crate) use hal::KernelHal;

use hv_abi::cpuid::Privileges;
use hv_abi::vmbus::{VMBUS_MESSAGE_SINT, VMBUS_MESSAGE_TYPE};
use hv_enlightenments::synic::Sint;
use spin::{Once, RwLock};
use vsc_drivers::{BusOptions, Vmbus};
use x86_64::instructions::interrupts::without_interrupts;

use super::{hyperv, jobs, synic};

/// The bus of this machine.
pub(crate) type Bus = Vmbus<KernelHal>;

/// The source of the bus's messages and of all signals.
const SINT: Sint = Sint::new(VMBUS_MESSAGE_SINT).unwrap();
/// What a hypervisor must offer for a bus.
const NEEDED: Privileges = Privileges::HYPERCALL
    .union(Privileges::SYNIC)
    .union(Privileges::POST_MESSAGES)
    .union(Privileges::SIGNAL_EVENTS);

/// Whoever takes part in interrupts only reads it.
static BUS: RwLock<Option<Bus>> = RwLock::new(None);
static HAL: Once<KernelHal> = Once::new();
static PLAIN_HAL: Once<KernelHal> = Once::new();

/// What the drivers need of this kernel, or why there can be no bus. Connects the bus's source on all processors, the first
/// time on the boot processor.
pub(crate) fn hal() -> Result<KernelHal, &'static str> {
    if let Some(&hal) = HAL.get() {
        return Ok(hal);
    }
    let hv = hyperv::interface().ok_or("no Hyper-V interface")?;
    if !hv.privileges().contains(NEEDED) {
        return Err("the hypervisor does not let its guests post messages and signal events");
    }
    if hyperv::calls().is_none() || synic::current().is_none() {
        return Err("hypercalls or the SynIC are not enabled");
    }
    let hal = *HAL.call_once(KernelHal::new);
    jobs::run_on_all(|_| {
        if let Err(error) = synic::connect(SINT, on_interrupt) {
            log::warn!("no interrupts of VMBus on vp{}: {error}", super::vp::current_index());
        }
    });
    Ok(hal)
}

/// What drivers of other devices need of this kernel, which is the same without a bus.
pub(crate) fn hal_without_bus() -> KernelHal {
    *PLAIN_HAL.call_once(KernelHal::new)
}

/// A new bus, which gets the interrupts from now on. It is connected to the host by [`Vmbus::connect`].
pub(crate) fn replace(hal: KernelHal, options: BusOptions) -> Bus {
    let bus = Vmbus::new(hal, options);
    set(Some(bus.clone()));
    bus
}

/// Gives nobody the interrupts any longer.
pub(crate) fn forget() {
    set(None);
}

fn set(bus: Option<Bus>) {
    let old = without_interrupts(|| core::mem::replace(&mut *BUS.write(), bus));
    // With interrupts on: it may be the last.
    drop(old);
}

/// A message or a flag has come for the processor that runs this.
fn on_interrupt(sint: Sint) {
    let bus = BUS.read();
    let (Some(bus), Some(synic)) = (&*bus, synic::current()) else { return };
    synic.pages().flags.take(sint, |flag| bus.on_event(flag));
    while let Some(message) = synic.take_message(sint) {
        // A malformed one has been counted as lost by whoever waits for it: there is an answer missing.
        if let Ok(message) = message
            && message.message_type().0 == VMBUS_MESSAGE_TYPE
        {
            bus.on_message(message.payload());
        }
    }
}
