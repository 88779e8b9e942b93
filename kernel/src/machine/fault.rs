//! Exceptions: reported with all registers and a backtrace, or, where one is expected, caught.

#![expect(unsafe_code, reason = "resumes interrupted code elsewhere, reads stacks")]

use core::arch::naked_asm;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kernel::backtrace;
use kernel::fixed::Text;
use x86_64::registers::control::{Cr2, Cr3};

use super::console::{self, println};
use super::interrupts::Frame;
use super::{apic, cpu, crash, exit, memory, shootdown, symbols, vp, watchdog};

const NMI: u8 = 2;
/// The vector of page faults.
pub(crate) const PAGE_FAULT: u8 = 14;
/// The vector of undefined instructions.
pub(crate) const INVALID_OPCODE: u8 = 6;
/// The vector of general protection faults.
pub(crate) const GENERAL_PROTECTION: u8 = 13;

/// An exception that was expected and came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which exception.
    pub(crate) vector: u8,
    /// Its error code.
    pub(crate) error_code: u64,
    /// CR2, if it was a page fault.
    pub(crate) address: u64,
}

/// Where code goes on after a fault.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Recovery {
    rsp: u64,
    rip: u64,
    fault: Fault,
}

/// Why an action was abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It did not return in time.
    Hung {
        /// Where it was.
        at: u64,
    },
    /// It raised an exception that it did not expect.
    Exception {
        /// Which.
        fault: Fault,
        /// Where.
        at: u64,
    },
    /// It panicked.
    Panic,
}

/// Where a processor goes on if what it does is abandoned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    rsp: u64,
    rip: u64,
    end: Option<End>,
}

/// An exception is being reported before there are blocks.
static IN_EARLY_EXCEPTION: AtomicBool = AtomicBool::new(false);
/// The processor that has begun to end everything, counted from 1, or [`NOBODY`]. The others stop when an NMI
/// comes.
static DYING: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = 0;

/// Calls `action` and gives the exception it raises, if any.
///
/// On an exception `action` ends there: what it holds is not dropped, so it should hold nothing.
pub(crate) fn expect(mut action: impl FnMut()) -> Option<Fault> {
    let faulted = call_with(&mut action, arm);
    let recovery = vp::current().recovery.take()?;
    (faulted != 0).then_some(recovery.fault)
}

/// Calls `action` and gives the reason if it is abandoned on the way ([`super::watchdog`]).
///
/// What it holds is then not dropped. Inside it, [`expect`] still catches what it expects.
pub(crate) fn guard(mut action: impl FnMut()) -> Option<End> {
    call_with(&mut action, arm_guard);
    vp::current().guard.take()?.end
}

/// Where to go on: a stack pointer and an address.
type Arm = extern "C" fn(u64, u64);

fn call_with<F: FnMut()>(action: &mut F, arm: Arm) -> u64 {
    extern "C" fn call<F: FnMut()>(action: *mut F) {
        // SAFETY: `call_with` passes a closure that it has borrowed.
        unsafe { (*action)() };
    }
    let call: extern "C" fn(*mut F) = call;
    // SAFETY: pointers to sized types are passed alike.
    let call: extern "C" fn(*mut u8) = unsafe { core::mem::transmute(call) };
    // SAFETY: the function gets the argument it was made for.
    unsafe { call_recoverably(call, (&raw mut *action).cast(), arm) }
}

/// Calls `function(argument)` after `arm` was told where to go on; returns 0, or 1 if we were brought back there.
///
/// # Safety
///
/// As calling the function.
#[unsafe(naked)]
unsafe extern "C" fn call_recoverably(
    function: extern "C" fn(*mut u8),
    argument: *mut u8,
    arm: Arm,
) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov rbx, rdi",
        "mov r12, rsi",
        "mov rdi, rsp",
        "lea rsi, [rip + 2f]",
        "call rdx",
        "mov rdi, r12",
        "call rbx",
        "xor eax, eax",
        "jmp 3f",
        "2:",
        "mov eax, 1",
        "3:",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

extern "C" fn arm(rsp: u64, rip: u64) {
    let fault = Fault { vector: 0, error_code: 0, address: 0 };
    vp::current().recovery.set(Some(Recovery { rsp, rip, fault }));
}

extern "C" fn arm_guard(rsp: u64, rip: u64) {
    vp::current().guard.set(Some(Guard { rsp, rip, end: None }));
}

/// Takes the guard of this processor, if it has one that is not in use yet, and notes why it is used.
fn use_guard(end: End) -> Option<Guard> {
    let vp = vp::try_current()?;
    let guard = vp.guard.get().filter(|guard| guard.end.is_none())?;
    vp.guard.set(Some(Guard { end: Some(end), ..guard }));
    vp.recovery.set(None);
    Some(guard)
}

/// Sends the interrupted code to its guard. Whether it has one.
pub(crate) fn abandon(frame: &mut Frame, end: End) -> bool {
    /// Interrupts on, the direction flag clear; bit 1 is always set.
    const RFLAGS: u64 = 1 << 9 | 1 << 1;
    let Some(guard) = use_guard(end) else { return false };
    frame.rip = guard.rip;
    frame.rsp = guard.rsp;
    frame.rflags = RFLAGS;
    true
}

/// Goes on at the guard of this processor; returns if it has none.
pub(crate) fn leave(end: End) {
    let Some(guard) = use_guard(end) else { return };
    // SAFETY: `call_recoverably` is still on the stack, below what is given up here; its landing pad restores
    // everything else.
    unsafe {
        core::arch::asm!("mov rsp, {}", "cld", "jmp {}", in(reg) guard.rsp, in(reg) guard.rip, options(noreturn));
    }
}

/// Handles exception `vector`.
pub(crate) fn handle(frame: &mut Frame, vector: u8) {
    if vector == NMI && DYING.load(Ordering::Relaxed) != NOBODY {
        cpu::stop();
    }
    // One NMI may stand for both.
    if vector == NMI && (shootdown::take_nmi() | watchdog::take_nmi(frame)) {
        return;
    }
    let vp = vp::try_current();
    let in_exception = vp.map_or(&IN_EARLY_EXCEPTION, |vp| &vp.in_exception);
    if in_exception.swap(true, Ordering::Relaxed) || is_dying() {
        // The report itself failed, perhaps while printing: say so in as few words as possible.
        console::seize();
        println!("exception {vector} at {:#x} while a failure was reported", frame.rip);
        exit::exit(exit::EXCEPTION);
    }
    let recovered = vp.is_some_and(|vp| recover(frame, vector, vp))
        || watchdog::is_watching() && abandon(frame, exception(frame, vector));
    if !recovered {
        die(frame, vector);
    }
    in_exception.store(false, Ordering::Relaxed);
}

fn exception(frame: &Frame, vector: u8) -> End {
    let address = if vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
    let fault = Fault { vector, error_code: frame.error_code, address };
    End::Exception { fault, at: frame.rip }
}

/// Sends the interrupted code to where it expects faults.
fn recover(frame: &mut Frame, vector: u8, vp: &vp::Vp) -> bool {
    let Some(mut recovery) = vp.recovery.get().filter(|recovery| recovery.fault.vector == 0) else {
        return false;
    };
    let address = if vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
    recovery.fault = Fault { vector, error_code: frame.error_code, address };
    vp.recovery.set(Some(recovery));
    frame.rip = recovery.rip;
    frame.rsp = recovery.rsp;
    // The saved RBP belongs to the frame in which the stack pointer was saved; the landing pad pops it.
    true
}

/// The number of this processor in [`DYING`].
fn own_number() -> u32 {
    vp::current_index() + 1
}

/// Whether this processor has begun to end everything.
pub(crate) fn is_dying() -> bool {
    DYING.load(Ordering::Relaxed) == own_number()
}

/// Stops the other processors; the first caller goes on, any other stops.
pub(crate) fn stop_others() {
    let first = DYING.compare_exchange(NOBODY, own_number(), Ordering::Relaxed, Ordering::Relaxed);
    if first.is_err() {
        cpu::stop();
    }
    // One by one: a processor that is only starting has no handler yet, and before the first is online the APICs
    // may not be in the mode that was chosen.
    for vp in vp::online().filter(|vp| vp.index != vp::current_index()) {
        apic::send_nmi(vp.apic_id);
    }
    console::seize();
}

fn die(frame: &Frame, vector: u8) -> ! {
    stop_others();
    println!(
        "exception {vector} ({}), error code {:#x}, on vp{}",
        name(vector),
        frame.error_code,
        vp::current_index()
    );
    print_registers(frame);
    println!("backtrace:");
    print_frame(frame.rip);
    // The return address may belong to the next function, the interrupted instruction does not.
    print_callers(frame.rbp);
    let mut message = Text::<64>::new();
    // What does not fit is left out.
    let _ = write!(message, "exception {vector} ({}) at {:#x}", name(vector), frame.rip);
    let vp = u64::from(vp::current_index());
    crash::report(exit::EXCEPTION, [vp, u64::from(vector)], message.as_str());
    exit::exit(exit::EXCEPTION)
}

fn print_registers(frame: &Frame) {
    println!(
        "rip {:016x}  rflags {:08x}  cs {:x}  ss {:x}",
        frame.rip, frame.rflags, frame.cs, frame.ss
    );
    println!("rax {:016x}  rbx {:016x}  rcx {:016x}", frame.rax, frame.rbx, frame.rcx);
    println!("rdx {:016x}  rsi {:016x}  rdi {:016x}", frame.rdx, frame.rsi, frame.rdi);
    println!("rbp {:016x}  rsp {:016x}  r8  {:016x}", frame.rbp, frame.rsp, frame.r8);
    println!("r9  {:016x}  r10 {:016x}  r11 {:016x}", frame.r9, frame.r10, frame.r11);
    println!("r12 {:016x}  r13 {:016x}  r14 {:016x}", frame.r12, frame.r13, frame.r14);
    let (cr3, _) = Cr3::read();
    let (cr2, cr3) = (Cr2::read_raw(), cr3.start_address().as_u64());
    println!("r15 {:016x}  cr2 {cr2:016x}  cr3 {cr3:016x}", frame.r15);
}

/// Prints the functions on the stack that were called before the one with frame pointer `rbp`.
pub(crate) fn print_callers(rbp: u64) {
    for address in callers(rbp) {
        print_frame(address - 1);
    }
}

/// Return addresses on the stack from frame pointer `rbp` on, innermost first.
pub(crate) fn callers(rbp: u64) -> impl Iterator<Item = u64> {
    let stack = vp::stack_containing(rbp).unwrap_or_else(memory::boot_stack);
    let read = |address: u64| {
        // SAFETY: `walk` asks only for aligned words within the stack, which is mapped.
        unsafe { (address as *const u64).read_volatile() }
    };
    backtrace::walk(rbp, stack, memory::text(), read)
}

/// The frame pointer of the function this is inlined into.
#[inline(always)]
pub(crate) fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags));
    };
    rbp
}

fn print_frame(address: u64) {
    match symbols::lookup(address) {
        Some((name, offset)) => println!("  {address:#x} {name}+{offset:#x}"),
        None => println!("  {address:#x}"),
    }
}

/// What exception `vector` is called.
pub(crate) fn name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        2 => "NMI",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD error",
        21 => "control protection",
        _ => "reserved",
    }
}
