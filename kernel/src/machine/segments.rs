//! A processor's GDT and TSS.

#![expect(unsafe_code, reason = "loads descriptor tables")]

use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use super::stacks::{Stack, Stacks};

/// IST index of the stack for interrupts (as the TSS counts, from 0).
pub(crate) const IST_INTERRUPT: u16 = 0;
/// IST index of the stack for exceptions.
pub(crate) const IST_EXCEPTION: u16 = 1;
/// IST index of the stack for NMIs.
pub(crate) const IST_NMI: u16 = 2;
/// IST index of the stack for double faults and machine checks.
pub(crate) const IST_DOUBLE_FAULT: u16 = 3;

/// One processor's tables.
pub(crate) struct Segments {
    gdt: GlobalDescriptorTable,
    tss: TaskStateSegment,
}

impl Segments {
    /// Tables with nothing in them yet.
    pub(crate) fn new() -> Self {
        Self { gdt: GlobalDescriptorTable::new(), tss: TaskStateSegment::new() }
    }

    /// Fills the tables and loads them on the processor that runs this.
    pub(crate) fn load(&'static mut self, stacks: &Stacks) {
        let stack_of = |ist| match ist {
            IST_INTERRUPT => Stack::Interrupt,
            IST_EXCEPTION => Stack::Exception,
            IST_NMI => Stack::Nmi,
            _ => Stack::DoubleFault,
        };
        self.load_with(|ist| stacks.range(stack_of(ist)).end);
    }

    /// As [`Segments::load`], with the ends of the stacks by IST index.
    fn load_with(&'static mut self, stack_end: impl Fn(u16) -> u64) {
        for ist in [IST_INTERRUPT, IST_EXCEPTION, IST_NMI, IST_DOUBLE_FAULT] {
            self.tss.interrupt_stack_table[usize::from(ist)] = VirtAddr::new(stack_end(ist));
        }
        self.gdt = GlobalDescriptorTable::new();
        let code = self.gdt.append(Descriptor::kernel_code_segment());
        let data = self.gdt.append(Descriptor::kernel_data_segment());
        // SAFETY: the TSS lies beside the GDT, for ever.
        let tss =
            self.gdt.append(unsafe { Descriptor::tss_segment_unchecked(&raw const self.tss) });
        // SAFETY: the tables stay for ever, and their segments are flat like those in use.
        unsafe { self.gdt.load_unsafe() };
        // SAFETY: a 64-bit code segment at the same place as in the boot GDT.
        unsafe { CS::set_reg(code) };
        // SAFETY: a flat data segment.
        unsafe { SS::set_reg(data) };
        // SAFETY: as above.
        unsafe { DS::set_reg(data) };
        // SAFETY: as above.
        unsafe { ES::set_reg(data) };
        // SAFETY: the selector is that of a TSS which stays for ever.
        unsafe { load_tss(tss) };
    }
}

/// The boot processor's tables until it has a block, and one stack for whatever happens then.
struct Early {
    segments: Segments,
    stack: Stack16,
}

#[repr(align(16))]
struct Stack16(#[expect(dead_code, reason = "only its place matters")] [u8; 12 << 10]);

struct EarlyCell(UnsafeCell<MaybeUninit<Early>>);

// SAFETY: only the boot processor uses it, before there are others.
unsafe impl Sync for EarlyCell {}

static EARLY: EarlyCell = EarlyCell(UnsafeCell::new(MaybeUninit::zeroed()));

/// Loads tables for the boot processor, so that exceptions can be reported from the beginning.
///
/// # Safety
///
/// Called once, first thing.
pub(crate) unsafe fn load_early() {
    // SAFETY: the caller says that nobody else is there.
    let early = unsafe { &mut *EARLY.0.get() };
    let end = (&raw const *early).addr() + offset_of!(Early, stack) + size_of::<Stack16>();
    let segments = early.as_mut_ptr().cast::<u8>().wrapping_add(offset_of!(Early, segments)).cast();
    // SAFETY: in place, properly aligned, used by nobody.
    unsafe { core::ptr::write(segments, Segments::new()) };
    // SAFETY: just written, and never moved.
    let segments: &'static mut Segments = unsafe { &mut *segments };
    segments.load_with(|_| end as u64);
}
