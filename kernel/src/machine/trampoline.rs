//! The other processors' first instructions: from real mode to 64-bit Rust.
//!
//! A processor wakes in real mode at a page below 1 MiB, to which [`install`] has copied the code. In 64-bit
//! mode it asks CPUID who it is and looks itself up among [`SLOTS`], so that it gets its own stack however
//! late it comes.

#![expect(unsafe_code, reason = "start-up code in assembly")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::MAX_VPS;

use super::cpu;

/// One processor that may start.
#[repr(C)]
pub(crate) struct Slot {
    apic_id: AtomicU32,
    /// [`WAITING`] and so on.
    state: AtomicU32,
    stack_top: AtomicU64,
}

/// Not started yet.
pub(crate) const WAITING: u32 = 0;
/// Started.
pub(crate) const STARTED: u32 = 1;
/// Came too late: it must stop.
pub(crate) const GIVEN_UP: u32 = 2;

static SLOTS: [Slot; MAX_VPS] = [const {
    Slot {
        apic_id: AtomicU32::new(0),
        state: AtomicU32::new(WAITING),
        stack_top: AtomicU64::new(0),
    }
}; MAX_VPS];

global_asm!(
    r#"
    .pushsection .rodata.trampoline, "a", @progbits
    .p2align 4
    .global enl_trampoline
enl_trampoline:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    xorl %ebx, %ebx
    movw %ax, %bx
    shll $4, %ebx
    lgdtl enl_trampoline_gdt - enl_trampoline
    movl %cr0, %eax
    andl $0x9ffffff3, %eax
    orl $0x23, %eax
    movl %eax, %cr0
    ljmpl *(enl_trampoline_far32 - enl_trampoline)
    .code32
enl_trampoline_32:
    movl $0x10, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr4, %eax
    orl $0x620, %eax
    movl %eax, %cr4
    movl (enl_trampoline_root - enl_trampoline)(%ebx), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl (enl_trampoline_efer - enl_trampoline)(%ebx), %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80010000, %eax
    movl %eax, %cr0
    ljmpl *(enl_trampoline_far64 - enl_trampoline)(%ebx)
    .p2align 3
enl_trampoline_gdt:
    .word 31
    .long enl_boot_gdt
    .word 0
enl_trampoline_far32:
    .long 0
    .word 0x18
    .word 0
enl_trampoline_far64:
    .long enl_started
    .word 0x08
    .word 0
    .global enl_trampoline_root
enl_trampoline_root:
    .long 0
    .global enl_trampoline_efer
enl_trampoline_efer:
    .long 0
    .global enl_trampoline_end
enl_trampoline_end:
    .popsection

    .pushsection .text.started, "ax", @progbits
    .code64
enl_started:
    xorl %eax, %eax
    cpuid
    cmpl $0xb, %eax
    jb 1f
    movl $0xb, %eax
    xorl %ecx, %ecx
    cpuid
    testl %ebx, %ebx
    jnz 2f
1:  movl $1, %eax
    cpuid
    movl %ebx, %edx
    shrl $24, %edx
2:  leaq {slots}(%rip), %rsi
    xorl %edi, %edi
3:  cmpq $0, 8(%rsi)
    je 4f
    cmpl %edx, (%rsi)
    je 5f
4:  incl %edi
    addq ${slot_bytes}, %rsi
    cmpl ${slot_count}, %edi
    jne 3b
6:  cli
    hlt
    jmp 6b
5:  xorl %eax, %eax
    movl ${started}, %ecx
    lock cmpxchgl %ecx, 4(%rsi)
    jne 6b
    movq 8(%rsi), %rsp
    call enl_load_segments
    xorl %ebp, %ebp
    call enl_processor_main
    jmp 6b
    .popsection
"#,
    slots = sym SLOTS,
    slot_bytes = const size_of::<Slot>(),
    slot_count = const MAX_VPS,
    started = const STARTED,
    options(att_syntax)
);

unsafe extern "C" {
    static enl_trampoline: u8;
    static enl_trampoline_32: u8;
    static enl_trampoline_far32: u8;
    static enl_trampoline_root: u8;
    static enl_trampoline_efer: u8;
    static enl_trampoline_end: u8;
}

/// Copies the code to `page` and tells it the page tables.
///
/// # Safety
///
/// `page` is free RAM below 1 MiB, writable now and executable at the same address in the tables at `root`.
pub(crate) unsafe fn install(page: u64, root: u64) {
    let start = &raw const enl_trampoline;
    let offset = |symbol: *const u8| symbol.addr() - start.addr();
    let to = page as *mut u8;
    // SAFETY: the caller says that the page is free; the code is shorter than a page.
    unsafe { to.copy_from_nonoverlapping(start, offset(&raw const enl_trampoline_end)) };
    let patch = |symbol: *const u8, value: u32| {
        // SAFETY: the symbol lies within the code just copied.
        let place = unsafe { to.add(offset(symbol)) };
        // SAFETY: as above; unaligned values are allowed for.
        unsafe { place.cast::<u32>().write_unaligned(value) };
    };
    patch(
        &raw const enl_trampoline_far32,
        page as u32 + offset(&raw const enl_trampoline_32) as u32,
    );
    patch(&raw const enl_trampoline_root, root as u32);
    let (long_mode, no_execute) = (1 << 8, 1 << 11);
    let efer = if cpu::has_nx() { long_mode | no_execute } else { long_mode };
    patch(&raw const enl_trampoline_efer, efer);
}

/// Lets processor `index` start, on the stack that ends at `stack_top`.
pub(crate) fn admit(index: usize, apic_id: u32, stack_top: u64) {
    SLOTS[index].apic_id.store(apic_id, Ordering::Relaxed);
    // A slot counts from the moment it has a stack.
    SLOTS[index].stack_top.store(stack_top, Ordering::Release);
}

/// Whether processor `index` has started.
pub(crate) fn has_started(index: usize) -> bool {
    SLOTS[index].state.load(Ordering::Acquire) == STARTED
}

/// Waits for processor `index` no longer. Whether that holds: it may have started just now.
pub(crate) fn give_up(index: usize) -> bool {
    let state = &SLOTS[index].state;
    state.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
}
