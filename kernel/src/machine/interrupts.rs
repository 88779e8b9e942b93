//! All 256 vectors: stubs that save the interrupted code's state, and what is done with each vector.
//!
//! Every vector has an IST stack and saves XMM registers, because the interrupted code may use the red zone
//! and SSE. Handlers run with interrupts off, so that no IST stack is entered twice.

#![expect(unsafe_code, reason = "interrupt entry in assembly")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicPtr, Ordering};

use spin::Once;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::idt::{Entry, HandlerFunc};
use x86_64::{PrivilegeLevel, VirtAddr};

use super::segments::{IST_DOUBLE_FAULT, IST_EXCEPTION, IST_INTERRUPT, IST_NMI};
use super::{apic, fault, shootdown, vp, watchdog};

/// Ends a halt; what there is to do stands in memory.
pub(crate) const WAKE_VECTOR: u8 = 0x40;
/// Counted for tests.
pub(crate) const TEST_VECTOR: u8 = 0x41;
/// The watchdog's timer. In the highest class, which no other interrupt in service holds up.
pub(crate) const WATCHDOG_VECTOR: u8 = 0xF1;
/// Timers are due.
pub(crate) const TIMER_VECTOR: u8 = 0x48;
/// Another processor wants translations forgotten.
pub(crate) const FLUSH_VECTOR: u8 = 0x42;
/// The local APIC's spurious vector: no end of interrupt belongs to it.
pub(crate) const SPURIOUS_VECTOR: u8 = 0xFF;

const NMI: u8 = 2;
const DOUBLE_FAULT: u8 = 8;
const MACHINE_CHECK: u8 = 18;
const FIRST_INTERRUPT: u8 = 32;

/// What the stubs leave on the stack: the interrupted code's registers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rbp: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rbx: u64,
    pub(crate) rax: u64,
    pub(crate) vector: u64,
    pub(crate) error_code: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

// One 16-byte stub for each vector. Those with an error code from the processor: 8, 10 to 14, 17, 21, 29, 30
// (Intel SDM vol. 3 §6.13, AMD APM vol. 2 §8.2).
global_asm!(
    r#"
    .pushsection .text.interrupts, "ax", @progbits
    .p2align 4
    .global enl_interrupt_stubs
enl_interrupt_stubs:
    .set vector, 0
    .rept 256
    .p2align 4
    .if (vector == 8) | ((vector >= 10) & (vector <= 14)) | (vector == 17) | (vector == 21) | (vector == 29) | (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp enl_interrupt_common
    .set vector, vector + 1
    .endr

    .p2align 4
enl_interrupt_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    movq %rsp, %rbx
    xorl %ebp, %ebp
    subq $512, %rsp
    andq $-16, %rsp
    fxsave64 (%rsp)
    call enl_handle_interrupt
    fxrstor64 (%rsp)
    movq %rbx, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq
    .popsection
"#,
    options(att_syntax)
);

unsafe extern "C" {
    /// 256 stubs of 16 bytes each.
    static enl_interrupt_stubs: [[u8; 16]; 256];
}

type Idt = [Entry<HandlerFunc>; 256];

static IDT: Once<Idt> = Once::new();

fn build() -> Idt {
    let mut idt = [Entry::missing(); 256];
    for vector in 0..=u8::MAX {
        let ist = match vector {
            NMI => IST_NMI,
            DOUBLE_FAULT | MACHINE_CHECK => IST_DOUBLE_FAULT,
            0..FIRST_INTERRUPT => IST_EXCEPTION,
            _ => IST_INTERRUPT,
        };
        let index = usize::from(vector);
        // SAFETY: the address only is taken.
        let stub = unsafe { &raw const enl_interrupt_stubs[index] };
        // SAFETY: the stub is an interrupt handler for this vector.
        let options = unsafe { idt[index].set_handler_addr(VirtAddr::from_ptr(stub)) };
        options.set_privilege_level(PrivilegeLevel::Ring0);
        // SAFETY: every processor's TSS has a stack for the index before it takes interrupts.
        unsafe { options.set_stack_index(ist) };
    }
    idt
}

/// Installs the handlers on the processor that runs this. Its TSS is loaded already.
pub(crate) fn install() {
    let idt = IDT.call_once(build);
    let pointer = DescriptorTablePointer {
        limit: (size_of::<Idt>() - 1) as u16,
        base: VirtAddr::from_ptr(idt),
    };
    // SAFETY: the table stays for ever; its stubs preserve what they interrupt.
    unsafe { lidt(&pointer) };
}

/// What a vector's interrupt does, beside being counted and ended.
pub(crate) type Handler = fn(u8);

/// For each vector a [`Handler`], or null.
static HANDLERS: [AtomicPtr<()>; 256] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 256];

/// Lets `handler` serve a vector from [`FIRST_INTERRUPT`] on, on all processors; `None` for nobody.
pub(crate) fn set_handler(vector: u8, handler: Option<Handler>) {
    let handler = handler.map_or(core::ptr::null_mut(), |handler| handler as *mut ());
    HANDLERS[usize::from(vector)].store(handler, Ordering::Release);
}

fn call_handler(vector: u8) {
    let handler = HANDLERS[usize::from(vector)].load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: only `set_handler` stores there, and it stores such functions.
        let handler: Handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
        handler(vector);
    }
}

/// What the stubs call.
#[unsafe(no_mangle)]
extern "C" fn enl_handle_interrupt(frame: &mut Frame) {
    match frame.vector as u8 {
        vector @ 0..FIRST_INTERRUPT => fault::handle(frame, vector),
        SPURIOUS_VECTOR => {}
        vector => {
            let vp = vp::current();
            vp.interrupts.fetch_add(1, Ordering::Relaxed);
            match vector {
                TEST_VECTOR => {
                    vp.test_interrupts.fetch_add(1, Ordering::Relaxed);
                }
                FLUSH_VECTOR => shootdown::serve(),
                _ => {}
            }
            call_handler(vector);
            apic::end_of_interrupt();
            if vector == WATCHDOG_VECTOR {
                watchdog::tick(frame);
            }
        }
    }
}
