//! The state in which a VP executes its first instruction, and how registers print.

use std::fmt::{self, Write};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::layout::{BOOT_GDT, BOOT_PAGE_TABLES, BOOT_STACK_TOP, MULTIBOOT_GDT};
use crate::loader::{BOOTLOADER_MAGIC, Boot};

const CR0_PROTECTED: u64 = 1 << 0;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
const RFLAGS_RESERVED: u64 = 1 << 1;

const PAGE_PRESENT_WRITABLE: u64 = 0b11;
const PAGE_LARGE: u64 = 1 << 7;

/// Selectors of `__BOOT_CS` and `__BOOT_DS` (Linux, Documentation/x86/boot.rst, 64-bit protocol).
const SELECTOR_CODE: u16 = 0x10;
const SELECTOR_DATA: u16 = 0x18;
const SELECTOR_TSS: u16 = 0x20;

/// What a segment register holds, and the descriptor that would load it.
#[derive(Debug, Clone, Copy)]
struct Segment {
    selector: u16,
    kind: u8,
    system: bool,
    long: bool,
    limit: u32,
}

impl Segment {
    const DATA: Self =
        Self { selector: SELECTOR_DATA, kind: 0x3, system: false, long: false, limit: !0 };
    const TSS: Self =
        Self { selector: SELECTOR_TSS, kind: 0xB, system: true, long: false, limit: 0x67 };

    const fn code(long: bool) -> Self {
        Self { selector: SELECTOR_CODE, kind: 0xB, system: false, long, limit: !0 }
    }

    /// Limits beyond 1 MiB count in pages.
    fn pages(self) -> bool {
        self.limit > 0xF_FFFF
    }

    fn register(self) -> kvm_segment {
        kvm_segment {
            base: 0,
            limit: self.limit,
            selector: self.selector,
            type_: self.kind,
            present: 1,
            s: (!self.system).into(),
            l: self.long.into(),
            db: (!self.system && !self.long).into(),
            g: self.pages().into(),
            ..Default::default()
        }
    }

    /// The 8-byte descriptor (Intel SDM 3A, figure 3-8), base 0.
    fn descriptor(self) -> u64 {
        let limit = u64::from(if self.pages() { self.limit >> 12 } else { self.limit });
        let access = u64::from(self.kind) | u64::from(!self.system) << 4 | 1 << 7;
        let size = u64::from(self.long) << 1 | u64::from(!self.system && !self.long) << 2;
        let flags = size | u64::from(self.pages()) << 3;
        (limit & 0xFFFF) | access << 40 | (limit >> 16) << 48 | flags << 52
    }
}

/// Sets the first VP up for `boot`, starting from the registers after reset. Writes the descriptor
/// table, and for the Linux protocol the page tables, into guest RAM.
///
/// # Errors
/// Low memory is not RAM.
pub fn set_up(
    memory: &GuestMemoryMmap,
    boot: Boot,
    sregs: &mut kvm_sregs,
) -> Result<kvm_regs, GuestMemoryError> {
    match boot {
        Boot::Pvh { entry, start_info } => {
            enter_protected_mode(memory, sregs, BOOT_GDT)?;
            Ok(kvm_regs {
                rip: entry.into(),
                rbx: start_info.0,
                rflags: RFLAGS_RESERVED,
                ..Default::default()
            })
        }
        // Multiboot Specification 0.6.96, §3.2; the A20 gate is always open.
        Boot::Multiboot { entry, info } => {
            enter_protected_mode(memory, sregs, MULTIBOOT_GDT)?;
            Ok(kvm_regs {
                rip: entry.into(),
                rax: BOOTLOADER_MAGIC.into(),
                rbx: info.0,
                rflags: RFLAGS_RESERVED,
                ..Default::default()
            })
        }
        Boot::Linux64 { entry, boot_params } => {
            set_segments(memory, sregs, Segment::code(true), BOOT_GDT)?;
            sregs.cr3 = write_page_tables(memory)?.0;
            sregs.cr4 = CR4_PAE;
            sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE | CR0_PAGING;
            sregs.efer = EFER_LONG_MODE;
            Ok(kvm_regs {
                rip: entry,
                rsi: boot_params.0,
                rsp: BOOT_STACK_TOP.0,
                rflags: RFLAGS_RESERVED,
                ..Default::default()
            })
        }
    }
}

/// 32-bit, flat, without paging.
fn enter_protected_mode(
    memory: &GuestMemoryMmap,
    sregs: &mut kvm_sregs,
    gdt: GuestAddress,
) -> Result<(), GuestMemoryError> {
    set_segments(memory, sregs, Segment::code(false), gdt)?;
    sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE;
    sregs.cr4 = 0;
    Ok(())
}

fn set_segments(
    memory: &GuestMemoryMmap,
    sregs: &mut kvm_sregs,
    code: Segment,
    gdt: GuestAddress,
) -> Result<(), GuestMemoryError> {
    let descriptors =
        [0, 0, code.descriptor(), Segment::DATA.descriptor(), Segment::TSS.descriptor(), 0];
    for (slot, descriptor) in (0_u64..).zip(descriptors) {
        memory.write_obj(descriptor, GuestAddress(gdt.0 + slot * 8))?;
    }
    sregs.gdt.base = gdt.0;
    sregs.gdt.limit = (size_of_val(&descriptors) - 1) as u16;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cs = code.register();
    sregs.tr = Segment::TSS.register();
    let data = Segment::DATA.register();
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    Ok(())
}

/// Maps the low 4 GiB to themselves in 2 MiB pages; gives the address of the PML4.
fn write_page_tables(memory: &GuestMemoryMmap) -> Result<GuestAddress, GuestMemoryError> {
    const TABLE_BYTES: u64 = 4096;
    let table = |index: u64| BOOT_PAGE_TABLES.0 + index * TABLE_BYTES;
    let entry = |of: u64, index: u64| GuestAddress(table(of) + index * 8);
    memory.write_obj(table(1) | PAGE_PRESENT_WRITABLE, entry(0, 0))?;
    for gigabyte in 0..4 {
        memory.write_obj(table(2 + gigabyte) | PAGE_PRESENT_WRITABLE, entry(1, gigabyte))?;
        for large_page in 0..512 {
            let address = gigabyte << 30 | large_page << 21;
            let value = address | PAGE_LARGE | PAGE_PRESENT_WRITABLE;
            memory.write_obj(value, entry(2 + gigabyte, large_page))?;
        }
    }
    Ok(BOOT_PAGE_TABLES)
}

/// Prints the general registers for a person.
pub struct General<'a>(pub &'a kvm_regs);

/// Prints the registers that only a kernel sees.
pub struct Special<'a>(pub &'a kvm_sregs);

impl fmt::Display for General<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        let rows = [
            [("rip", r.rip), ("rfl", r.rflags), ("rsp", r.rsp)],
            [("rax", r.rax), ("rbx", r.rbx), ("rcx", r.rcx)],
            [("rdx", r.rdx), ("rsi", r.rsi), ("rdi", r.rdi)],
            [("rbp", r.rbp), ("r8 ", r.r8), ("r9 ", r.r9)],
            [("r10", r.r10), ("r11", r.r11), ("r12", r.r12)],
            [("r13", r.r13), ("r14", r.r14), ("r15", r.r15)],
        ];
        write_rows(f, &rows)
    }
}

impl fmt::Display for Special<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        let rows = [
            [("cr0", s.cr0), ("cr2", s.cr2), ("cr3", s.cr3)],
            [("cr4", s.cr4), ("efr", s.efer), ("apc", s.apic_base)],
            [("gdt", s.gdt.base), ("idt", s.idt.base), ("tr ", s.tr.base)],
        ];
        write_rows(f, &rows)?;
        write!(f, "  cs {:04x} ss {:04x} ds {:04x}", s.cs.selector, s.ss.selector, s.ds.selector)?;
        let mode = match (s.cs.l, s.cr0 & CR0_PROTECTED) {
            (1, _) => "64-bit mode",
            (_, 0) => "real mode",
            _ => "protected mode",
        };
        write!(f, "  {mode}, ring {}", s.cs.dpl)
    }
}

fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[[(&str, u64); 3]]) -> fmt::Result {
    for row in rows {
        for (name, value) in row {
            write!(f, "  {name} {value:016x}")?;
        }
        f.write_char('\n')?;
    }
    Ok(())
}

/// Whether a VP is as it was before its first instruction: at the reset vector, in real mode.
pub fn is_reset(regs: &kvm_regs, sregs: &kvm_sregs) -> bool {
    regs.rip == 0xFFF0 && sregs.cs.base == 0xFFFF_0000 && sregs.cr0 & CR0_PROTECTED == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap()
    }

    #[test]
    fn descriptors_are_those_of_linux_boot_code() {
        // GDT_ENTRY(0xc09b, 0, 0xfffff), GDT_ENTRY(0xc093, …), GDT_ENTRY(0xa09b, …) and
        // GDT_ENTRY(0x008b, 0, 0x67) (Linux, arch/x86/include/asm/segment.h).
        assert_eq!(Segment::code(false).descriptor(), 0x00CF_9B00_0000_FFFF);
        assert_eq!(Segment::DATA.descriptor(), 0x00CF_9300_0000_FFFF);
        assert_eq!(Segment::code(true).descriptor(), 0x00AF_9B00_0000_FFFF);
        assert_eq!(Segment::TSS.descriptor(), 0x0000_8B00_0000_0067);
    }

    #[test]
    fn pvh_starts_in_flat_protected_mode() {
        let mut sregs = kvm_sregs::default();
        let boot = Boot::Pvh { entry: 0x10_0000, start_info: GuestAddress(0x6000) };
        let regs = set_up(&memory(), boot, &mut sregs).unwrap();
        assert_eq!((regs.rip, regs.rbx, regs.rflags), (0x10_0000, 0x6000, 2));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x11, 0, 0));
        assert_eq!((sregs.cs.limit, sregs.cs.db, sregs.cs.l), (u32::MAX, 1, 0));
        assert_eq!((sregs.tr.limit, sregs.tr.type_), (0x67, 0xB));
    }

    #[test]
    fn multiboot_starts_as_its_specification_says() {
        let mut sregs = kvm_sregs::default();
        let boot = Boot::Multiboot { entry: 0x40_000C, info: GuestAddress(0x9_0040) };
        let regs = set_up(&memory(), boot, &mut sregs).unwrap();
        assert_eq!((regs.rip, regs.rax, regs.rbx), (0x40_000C, 0x2BAD_B002, 0x9_0040));
        assert_eq!(regs.rflags & (1 << 9 | 1 << 17), 0, "interrupts off, not virtual 8086");
        assert_eq!(sregs.cr0 & (1 | 1 << 31), 1, "protected, without paging");
        assert_eq!((sregs.cs.base, sregs.cs.limit, sregs.cs.type_ & 0xA), (0, u32::MAX, 0xA));
        for data in [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] {
            assert_eq!((data.base, data.limit, data.type_ & 0xA), (0, u32::MAX, 0x2));
        }
    }

    #[test]
    fn linux_starts_in_long_mode_with_the_low_4_gib_mapped() {
        let (mut sregs, memory) = (kvm_sregs::default(), memory());
        let boot = Boot::Linux64 { entry: 0x100_0200, boot_params: GuestAddress(0x7000) };
        let regs = set_up(&memory, boot, &mut sregs).unwrap();
        assert_eq!((regs.rip, regs.rsi), (0x100_0200, 0x7000));
        assert_eq!(sregs.efer & 1 << 10, 1 << 10);
        assert_eq!((sregs.cs.selector, sregs.ds.selector, sregs.cs.l), (0x10, 0x18, 1));
        for address in [0_u64, 0x20_0000, 0xBFFF_F123, 0xFFFF_FFFF] {
            assert_eq!(walk(&memory, sregs.cr3, address), address);
        }
    }

    /// Translates an address as the processor does, with 2 MiB pages only.
    fn walk(memory: &GuestMemoryMmap, root: u64, address: u64) -> u64 {
        let mut table = root;
        for shift in [39, 30, 21] {
            let slot = GuestAddress(table + (address >> shift & 0x1FF) * 8);
            let entry: u64 = memory.read_obj(slot).unwrap();
            assert_eq!(entry & 3, 3, "present and writable");
            table = entry & !0xFFF;
            assert_eq!(entry >> 7 & 1, u64::from(shift == 21), "large pages at the last level");
        }
        table | address & 0x1F_FFFF
    }

    #[test]
    fn a_dump_names_the_mode_and_the_instruction() {
        let regs = kvm_regs { rip: 0xDEAD_BEEF, ..Default::default() };
        let text = General(&regs).to_string();
        assert!(text.contains("rip 00000000deadbeef"), "{text}");
        let text = Special(&kvm_sregs::default()).to_string();
        assert!(text.contains("real mode"), "{text}");
    }
}
