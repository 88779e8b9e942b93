//! The guest-physical address map and the I/O ports: what the loader, the ACPI tables, the VP set-up
//! and the device emulation must agree on.
//!
//! RAM lies from 0 up to [`HOLE_START`] and, if there is more of it, from [`HOLE_END`] on. All that the
//! host itself writes before the guest's first instruction lies below [`LOW_RESERVED_END`] or in the
//! ACPI area, so an image loaded at 1 MiB or higher never collides with it.

use vm_memory::GuestAddress;

/// Least RAM a machine may have: low memory, and one large page above 1 MiB for an image.
pub const MIN_RAM_BYTES: u64 = 2 << 20;
/// Most RAM a machine may have (1 TiB; the host usually gives out far earlier).
pub const MAX_RAM_BYTES: u64 = 1 << 40;
/// Most virtual processors.
pub const MAX_VPS: u32 = 64;

/// First address without RAM below 4 GiB: devices' MMIO lies from here on.
pub const HOLE_START: u64 = 0xC000_0000;
/// First address after the hole; RAM that did not fit below it continues here.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// MMIO range that the `VMBUS` ACPI device offers (Hyper-V guests allocate framebuffers and PCI from it).
pub const VMBUS_MMIO_START: u64 = 0xE000_0000;
/// Bytes in the range at [`VMBUS_MMIO_START`].
pub const VMBUS_MMIO_BYTES: u64 = 128 << 20;
/// Interrupt of the `VMBUS` ACPI device. Linux on x86 wants one to be there and uses a vector instead.
pub const VMBUS_IRQ: u32 = 5;

/// Where regions of PCI functions lie that are memory: between RAM's end and [`VMBUS_MMIO_START`].
pub const PCI_MMIO_START: u64 = HOLE_START;
/// Last address of the range at [`PCI_MMIO_START`].
pub const PCI_MMIO_LAST: u64 = VMBUS_MMIO_START - 1;
/// Memory-mapped configuration space of PCI bus 0.
pub const PCI_ECAM_START: u64 = VMBUS_MMIO_START + VMBUS_MMIO_BYTES;
/// Bytes of the range at [`PCI_ECAM_START`]: one bus.
pub const PCI_ECAM_BYTES: u64 = 1 << 20;
/// Where regions of PCI functions lie that are I/O ports, behind those of ISA.
pub const PCI_IO_START: u16 = 0xC000;
/// Last port of the range at [`PCI_IO_START`].
pub const PCI_IO_LAST: u16 = 0xFFFF;
/// Slot of the host bridge.
pub const PCI_HOST_BRIDGE_SLOT: u8 = 0;
/// Slot of the ISA bridge (function 0) and the IDE controller (function 1).
pub const PCI_PIIX4_SLOT: u8 = 1;
/// Function of the IDE controller.
pub const PCI_IDE_FUNCTION: u8 = 1;
/// Slot of the first network card; the others follow.
pub const PCI_FIRST_CARD_SLOT: u8 = 2;
/// Interrupts that PCI slots share, by turns.
pub const PCI_GSIS: [u8; 2] = [10, 11];

/// The interrupt of a slot's interrupt pin, 1 to 4 for INTA# to INTD#. Pins of neighbouring slots are wired one further, as on
/// PC main boards.
pub const fn pci_gsi(slot: u8, pin: u8) -> u8 {
    let turn = (slot as u32 + (pin as u32).saturating_sub(1)) % 2;
    PCI_GSIS[turn as usize]
}

/// The in-kernel IOAPIC.
pub const IOAPIC_ADDRESS: u64 = 0xFEC0_0000;
/// APIC id that the MADT gives the IOAPIC.
pub const IOAPIC_ID: u8 = 0;
/// The local APICs.
pub const LAPIC_ADDRESS: u64 = 0xFEE0_0000;
/// Three pages that KVM on Intel takes for itself (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS_ADDRESS: u64 = 0xFFFB_D000;
/// One page that KVM on Intel takes for itself (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const KVM_IDENTITY_MAP_ADDRESS: u64 = 0xFFFB_C000;

/// The GDT that a VP starts with.
pub const BOOT_GDT: GuestAddress = GuestAddress(0x500);
/// `hvm_start_info` of the PVH protocol; its module list and memory map follow in the same page.
pub const PVH_START_INFO: GuestAddress = GuestAddress(0x6000);
/// `boot_params` of the Linux protocol (one page).
pub const LINUX_BOOT_PARAMS: GuestAddress = GuestAddress(0x7000);
/// Top of a small stack for the first VP; grows down to the end of `boot_params`.
pub const BOOT_STACK_TOP: GuestAddress = GuestAddress(0x8FF0);
/// PML4, then one PDPT, then four page directories: the low 4 GiB in 2 MiB pages (24 KiB).
pub const BOOT_PAGE_TABLES: GuestAddress = GuestAddress(0x9000);
/// The kernel's command line, terminated by a zero byte.
pub const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
/// Most bytes of command line, the terminating zero included.
pub const COMMAND_LINE_MAX_BYTES: usize = 0x1_0000;
/// First address of low memory that the host writes nothing to.
pub const LOW_RESERVED_END: u64 = 0x3_0000;

/// What a Multiboot kernel is handed: descriptor table, information, modules, memory map, strings. Such
/// kernels may be linked at low addresses, so it lies as high as low memory allows.
pub const MULTIBOOT_DATA: GuestAddress = GuestAddress(0x9_0000);
/// End of the data at [`MULTIBOOT_DATA`].
pub const MULTIBOOT_DATA_END: u64 = 0x9_F000;
/// The GDT that a VP starts with under Multiboot.
pub const MULTIBOOT_GDT: GuestAddress = MULTIBOOT_DATA;

/// End of the RAM below 640 KiB that a guest may use.
pub const LOW_RAM_END: u64 = 0x9_FC00;
/// The ACPI tables: RSDP first. Reserved in the memory map; guests without a pointer scan it.
pub const ACPI_START: GuestAddress = GuestAddress(0xE_0000);
/// End of the area for ACPI tables.
pub const ACPI_END: GuestAddress = GuestAddress(0x10_0000);
/// Where RAM becomes plain again, and the least address of a segment of an image.
pub const HIGH_RAM_START: GuestAddress = GuestAddress(0x10_0000);

/// COM1.
pub const COM1_PORT: u16 = 0x3F8;
/// Interrupt of COM1.
pub const COM1_IRQ: u32 = 4;

/// ACPI sleep control register (`SLEEP_CONTROL_REG` of a hardware-reduced FADT; 8 bits).
pub const ACPI_SLEEP_CONTROL_PORT: u16 = 0x0600;
/// ACPI sleep status register (`SLEEP_STATUS_REG`; 8 bits).
pub const ACPI_SLEEP_STATUS_PORT: u16 = 0x0601;
/// ACPI reset register (`RESET_REG`; 8 bits).
pub const ACPI_RESET_PORT: u16 = 0x0602;
/// Value that resets when written to [`ACPI_RESET_PORT`] (`RESET_VALUE`).
pub const ACPI_RESET_VALUE: u8 = 1;
/// The power management registers of machines with PCI, laid out as the PIIX4's (82371AB data sheet, §7.2).
pub const ACPI_PM_PORT: u16 = 0x0640;
/// ACPI's interrupt in machines with PCI, a PC's usual one.
pub const ACPI_SCI: u8 = 9;
/// `SLP_TYP` for soft-off, the first value of the DSDT's `_S5` package.
pub const ACPI_S5_SLEEP_TYPE: u8 = 5;
