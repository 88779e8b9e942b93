//! Device interrupts: the pins of the I/O APICs, and who is called when one interrupts.
//!
//! *Theory.* A pin's redirection entry says which vector which processor gets (82093AA data sheet, §3.2). An edge is told once. A pin
//! that is level-triggered interrupts again for as long as its level lasts: the handler has its device take it back, and the end of the
//! interrupt at the local APIC, which comes behind the handler, goes on to the I/O APIC by itself (Intel SDM vol. 3 §11.8.5).
//!
//! *Practice.* Each pin has a vector of its own, from [`FIRST_VECTOR`] on, and interrupts the boot processor. Several devices may share a
//! pin: all their handlers are called.

#![expect(unsafe_code, reason = "device registers, and functions kept as pointers")]

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::PAGE_SIZE;
use kernel::acpi::{Interrupts, IoApic, Signal};
use kernel::memory_map::Range;
use spin::mutex::SpinMutex;
use volatile::VolatilePtr;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::{boot, cpu, interrupts, memory, vp};

/// What a device's interrupt does. It is told the pin.
pub(crate) type Handler = fn(u32);

/// Pin 0's vector; those of the others follow.
const FIRST_VECTOR: u8 = 0x80;
/// Pins that are used: one I/O APIC's, and some of a second.
const PINS: usize = 48;
/// Devices that share a pin at most.
const SHARERS: usize = 4;

/// The register that names another, and that other (82093AA data sheet, §3.1).
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// Bits 23:16: the number of the last pin (§3.2.2).
const VERSION: u32 = 0x01;
/// The lower half of pin 0's entry; the upper half and the other pins follow (§3.2.4).
const REDIRECTION: u32 = 0x10;
const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// Bits of the upper half: the processor's APIC identifier.
const DESTINATION_SHIFT: u32 = 24;

/// Why a device has no interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoInterrupt {
    /// The MADT names no I/O APIC that has the pin.
    NoIoApic(u32),
    /// The I/O APIC's registers can't be mapped.
    NotMapped,
    /// The boot processor's identifier does not fit into an entry.
    Processor,
    /// Too many devices share the pin.
    TooMany,
}

impl fmt::Display for NoInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIoApic(gsi) => write!(f, "no I/O APIC has pin {gsi}"),
            Self::NotMapped => f.write_str("the I/O APIC can't be mapped"),
            Self::Processor => f.write_str("the I/O APIC can't name the boot processor"),
            Self::TooMany => f.write_str("too many devices share the pin"),
        }
    }
}

/// For each pin, [`Handler`]s or null.
static HANDLERS: [[AtomicPtr<()>; SHARERS]; PINS] =
    [const { [const { AtomicPtr::new(core::ptr::null_mut()) }; SHARERS] }; PINS];
/// Whoever is at an I/O APIC's registers, which take two accesses each.
static REGISTERS: SpinMutex<()> = SpinMutex::new(());

/// Lets `handler` serve the device on `line`: ISA's number of its interrupt, as in a PCI function's register. `bus` is what the device's
/// bus does; the MADT may know better. The same handler twice counts once. The pin.
///
/// # Errors
/// [`NoInterrupt`]: the device can only be polled.
pub(crate) fn connect(line: u8, bus: Signal, handler: Handler) -> Result<u32, NoInterrupt> {
    let processors = boot::machine().and_then(|machine| machine.processors);
    let all: Interrupts = processors.map(|found| found.interrupts).unwrap_or_default();
    let (gsi, signal) = all.pin(line, bus);
    let none = NoInterrupt::NoIoApic(gsi);
    let handlers = HANDLERS.get(gsi as usize).ok_or(none)?;
    let (io_apic, pin) = all.io_apic(gsi).ok_or(none)?;
    let to = vp::get(0).and_then(|vp| u8::try_from(vp.apic_id).ok());
    let to = to.ok_or(NoInterrupt::Processor)?;
    map(io_apic)?;
    without_interrupts(|| {
        let _turn = REGISTERS.lock();
        if pin > read(io_apic, VERSION) >> 16 & 0xFF {
            return Err(none);
        }
        add(handlers, handler)?;
        let vector = FIRST_VECTOR + gsi as u8;
        interrupts::set_handler(vector, Some(on_interrupt));
        // Masked while it is half written.
        write(io_apic, REDIRECTION + 2 * pin, MASKED);
        write(io_apic, REDIRECTION + 2 * pin + 1, u32::from(to) << DESTINATION_SHIFT);
        let level = if signal.level { LEVEL } else { 0 };
        let polarity = if signal.active_low { ACTIVE_LOW } else { 0 };
        write(io_apic, REDIRECTION + 2 * pin, level | polarity | u32::from(vector));
        Ok(gsi)
    })
}

fn add(handlers: &[AtomicPtr<()>; SHARERS], handler: Handler) -> Result<(), NoInterrupt> {
    let new = handler as *mut ();
    let place = handlers.iter().find(|place| {
        let old = place.load(Ordering::Acquire);
        old.is_null() || old == new
    });
    place.ok_or(NoInterrupt::TooMany)?.store(new, Ordering::Release);
    Ok(())
}

fn on_interrupt(vector: u8) {
    let gsi = vector.wrapping_sub(FIRST_VECTOR);
    let Some(handlers) = HANDLERS.get(usize::from(gsi)) else { return };
    for place in handlers {
        let handler = place.load(Ordering::Acquire);
        if !handler.is_null() {
            // SAFETY: only `add` stores there, and it stores such functions.
            let handler: Handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
            handler(gsi.into());
        }
    }
}

/// Maps an I/O APIC's registers, unless they are.
fn map(io_apic: IoApic) -> Result<(), NoInterrupt> {
    let page = u64::from(io_apic.address) & !(PAGE_SIZE - 1);
    // RAM is mapped otherwise, and holds no registers.
    let uncached = Flags::NO_CACHE | Flags::WRITE_THROUGH;
    match memory::flags(page) {
        Some(flags) if flags.contains(uncached) => return Ok(()),
        Some(_) => return Err(NoInterrupt::NotMapped),
        None => {}
    }
    let nx = if cpu::has_nx() { Flags::NO_EXECUTE } else { Flags::empty() };
    let flags = Flags::WRITABLE | nx | uncached;
    // Nothing was there, so nobody has anything to forget.
    memory::with_map(|map| map.map(Range::new(page, PAGE_SIZE), flags))
        .map_err(|_| NoInterrupt::NotMapped)
}

fn read(io_apic: IoApic, register: u32) -> u32 {
    put(io_apic, SELECT, register);
    window(io_apic, WINDOW).map_or(0, |window| window.read())
}

fn write(io_apic: IoApic, register: u32, value: u32) {
    put(io_apic, SELECT, register);
    put(io_apic, WINDOW, value);
}

fn put(io_apic: IoApic, offset: u64, value: u32) {
    if let Some(window) = window(io_apic, offset) {
        window.write(value);
    }
}

fn window(io_apic: IoApic, offset: u64) -> Option<VolatilePtr<'static, u32>> {
    let pointer = NonNull::new((u64::from(io_apic.address & !0xF) + offset) as *mut u32)?;
    // SAFETY: `map` has mapped the page for ever, and `REGISTERS` guards it.
    Some(unsafe { VolatilePtr::new(pointer) })
}
