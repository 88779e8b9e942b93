//! The local APIC in both its modes: registers in memory (xAPIC) or model-specific (x2APIC).

#![expect(unsafe_code, reason = "device registers")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use volatile::VolatilePtr;
use x86_64::instructions::interrupts;
use x86_64::registers::model_specific::Msr;

use super::interrupts::SPURIOUS_VECTOR;
use super::{cpu, eoi};

const IA32_APIC_BASE: u32 = 0x1B;
const APIC_BASE_ENABLE: u64 = 1 << 11;
const APIC_BASE_X2APIC: u64 = 1 << 10;
const APIC_BASE_ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// x2APIC register n is MSR `0x800 + n`, and lies at byte `n << 4` of the xAPIC page (Intel SDM vol. 3 §11.12).
const X2APIC_MSRS: u32 = 0x800;

const ID: u32 = 0x02;
const EOI: u32 = 0x0B;
const SPURIOUS: u32 = 0x0F;
const ICR_LOW: u32 = 0x30;
const ICR_HIGH: u32 = 0x31;
const IN_SERVICE: u32 = 0x10;
const LVT_TIMER: u32 = 0x32;
const LVT_LINT0: u32 = 0x35;
const TIMER_COUNT: u32 = 0x38;
const TIMER_CURRENT: u32 = 0x39;
const TIMER_DIVIDE: u32 = 0x3E;

const SPURIOUS_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_PERIODIC: u32 = 1 << 17;
/// [`TIMER_DIVIDE`] for [`TIMER_DIVISOR`] (Intel SDM vol. 3, figure 11-10).
const DIVIDE_BY_128: u32 = 0b1010;
const ICR_PENDING: u32 = 1 << 12;
const ICR_ASSERT: u32 = 1 << 14;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;

/// 0: not set up; 1: x2APIC; else the address of the xAPIC's registers.
static MODE: AtomicU64 = AtomicU64::new(0);
const X2APIC: u64 = 1;

/// Decides on a mode for all processors: x2APIC, or registers at the address.
pub(crate) fn choose(xapic_address: Option<u64>) {
    MODE.store(xapic_address.unwrap_or(X2APIC), Ordering::Relaxed);
}

/// Whether x2APIC mode was chosen.
pub(crate) fn is_x2apic() -> bool {
    MODE.load(Ordering::Relaxed) == X2APIC
}

/// Where the registers lie in memory, in the mode that has them there.
pub(crate) fn registers() -> Option<u64> {
    Some(MODE.load(Ordering::Relaxed)).filter(|&mode| mode > X2APIC)
}

/// Turns the local APIC of the processor that runs this on, in the chosen mode.
pub(crate) fn enable() {
    let mut base = Msr::new(IA32_APIC_BASE);
    // SAFETY: every 64-bit processor has the register.
    let old = unsafe { base.read() };
    if old & APIC_BASE_ENABLE == 0 {
        // SAFETY: a valid change of mode: off to xAPIC, from where x2APIC can be reached.
        unsafe { base.write(old | APIC_BASE_ENABLE) };
    }
    if is_x2apic() && old & APIC_BASE_X2APIC == 0 {
        // SAFETY: a valid change of mode: xAPIC to x2APIC, which the processor has.
        unsafe { base.write(old | APIC_BASE_ENABLE | APIC_BASE_X2APIC) };
    }
    // The 8259s are not used; their line must stay silent.
    write(LVT_LINT0, LVT_MASKED);
    write(SPURIOUS, SPURIOUS_ENABLE | u32::from(SPURIOUS_VECTOR));
}

/// Whether firmware has left the APIC in x2APIC mode, which there is no easy way back from.
pub(crate) fn is_already_x2apic() -> bool {
    base() & APIC_BASE_X2APIC != 0
}

/// Where this processor has its APIC's registers in xAPIC mode.
pub(crate) fn address() -> u64 {
    base() & APIC_BASE_ADDRESS
}

fn base() -> u64 {
    // SAFETY: every 64-bit processor has the register.
    unsafe { Msr::new(IA32_APIC_BASE).read() }
}

/// The identifier of this processor's APIC.
pub(crate) fn id() -> u32 {
    if is_x2apic() { read(ID) } else { read(ID) >> 24 }
}

/// Tells the APIC that an interrupt has been handled, or does without if the hypervisor allows it.
pub(crate) fn end_of_interrupt() {
    let by_register = || match eoi::msrs().filter(|_| !is_x2apic()) {
        Some(msrs) => msrs.end_of_interrupt(),
        None => write(EOI, 0),
    };
    eoi::end_of_interrupt(by_register);
}

/// Ends every interrupt that is in service, after the code that handled them was abandoned.
pub(crate) fn end_all_interrupts() {
    let in_service = || (0..8).any(|word| read(IN_SERVICE + word) != 0);
    // There are no more than 256 to end.
    for _ in 0..256 {
        if !in_service() {
            return;
        }
        end_of_interrupt();
    }
}

/// By how much the timer's clock is divided.
pub(crate) const TIMER_DIVISOR: u32 = 128;

/// Has the timer of this processor raise `vector` each time `count` ticks have passed.
pub(crate) fn start_timer(vector: u8, count: u32) {
    write(TIMER_DIVIDE, DIVIDE_BY_128);
    write(LVT_TIMER, LVT_PERIODIC | u32::from(vector));
    write(TIMER_COUNT, count);
}

/// Stops the timer of this processor.
pub(crate) fn stop_timer() {
    write(LVT_TIMER, LVT_MASKED);
    write(TIMER_COUNT, 0);
}

/// Has the timer of this processor raise `vector` once, when `count` ticks have passed.
pub(crate) fn start_timer_once(vector: u8, count: u32) {
    write(TIMER_DIVIDE, DIVIDE_BY_128);
    write(LVT_TIMER, vector.into());
    write(TIMER_COUNT, count);
}

/// As [`start_timer_once`], without an interrupt.
pub(crate) fn start_timer_masked(count: u32) {
    write(TIMER_DIVIDE, DIVIDE_BY_128);
    write(LVT_TIMER, LVT_MASKED);
    write(TIMER_COUNT, count);
}

/// Where the timer of this processor stands.
pub(crate) fn timer_count() -> u32 {
    read(TIMER_CURRENT)
}

/// Sends interrupt `vector` to the processor with APIC identifier `to`.
pub(crate) fn send(to: u32, vector: u8) {
    send_command(to, ICR_ASSERT | u32::from(vector));
}

/// Resets a processor so that it waits for [`send_startup`].
pub(crate) fn send_init(to: u32) {
    send_command(to, ICR_ASSERT | DELIVER_INIT);
}

/// Starts a processor that waits, in real mode at `page`, below 1 MiB.
pub(crate) fn send_startup(to: u32, page: u64) {
    send_command(to, ICR_ASSERT | DELIVER_STARTUP | (page >> 12) as u32 & 0xFF);
}

/// Sends an NMI to the processor with APIC identifier `to`.
pub(crate) fn send_nmi(to: u32) {
    send_command(to, ICR_ASSERT | DELIVER_NMI);
}

fn send_command(to: u32, command: u32) {
    if is_x2apic() {
        let mut icr = Msr::new(X2APIC_MSRS + ICR_LOW);
        // Unlike a write to memory, this one does not wait for earlier stores (Intel SDM vol. 3 §11.12.3).
        core::sync::atomic::fence(Ordering::SeqCst);
        // SAFETY: a valid interrupt command in x2APIC mode.
        unsafe { icr.write(u64::from(to) << 32 | u64::from(command)) };
        return;
    }
    if let (Some(msrs), Ok(to)) = (eoi::msrs(), u8::try_from(to)) {
        core::sync::atomic::fence(Ordering::SeqCst);
        // SAFETY: a valid interrupt command in xAPIC mode.
        unsafe { msrs.send(to, command) };
        return;
    }
    // The command is two writes, which an interrupt handler's own command must not come between.
    interrupts::without_interrupts(|| {
        write(ICR_HIGH, to << 24);
        write(ICR_LOW, command);
        while read(ICR_LOW) & ICR_PENDING != 0 {
            cpu::pause();
        }
    });
}

fn write(register: u32, value: u32) {
    if is_x2apic() {
        // SAFETY: the register exists in x2APIC mode and takes the value.
        unsafe { Msr::new(X2APIC_MSRS + register).write(value.into()) };
    } else if let Some(register) = mapped(register) {
        register.write(value);
    }
}

fn read(register: u32) -> u32 {
    if is_x2apic() {
        // SAFETY: the register exists in x2APIC mode.
        return unsafe { Msr::new(X2APIC_MSRS + register).read() } as u32;
    }
    mapped(register).map_or(0, |register| register.read())
}

fn mapped(register: u32) -> Option<VolatilePtr<'static, u32>> {
    let base = MODE.load(Ordering::Relaxed);
    let pointer = NonNull::new((base + u64::from(register << 4)) as *mut u32)?;
    // SAFETY: the page of registers is mapped for ever, and nothing else uses it.
    (base != 0).then_some(unsafe { VolatilePtr::new(pointer) })
}
