//! A processor's GDT and TSS.

#![expect(unsafe_code, reason = "loads descriptor tables")]

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
        let top = |stack| VirtAddr::new(stacks.range(stack).end);
        self.tss.interrupt_stack_table[usize::from(IST_INTERRUPT)] = top(Stack::Interrupt);
        self.tss.interrupt_stack_table[usize::from(IST_EXCEPTION)] = top(Stack::Exception);
        self.tss.interrupt_stack_table[usize::from(IST_NMI)] = top(Stack::Nmi);
        self.tss.interrupt_stack_table[usize::from(IST_DOUBLE_FAULT)] = top(Stack::DoubleFault);
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
