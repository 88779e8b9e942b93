//! Conventional PCI as a guest sees it: addresses, the configuration header, and the two ways to it.
//!
//! *PCI 3.0* is the PCI Local Bus Specification, revision 3.0; *PCI Firmware 3.0* its firmware specification. Class codes are
//! those of PCI 3.0, appendix D. Identities of devices are from their data sheets, named beside them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Devices on a bus.
pub const PCI_SLOTS: u8 = 32;
/// Functions of a device.
pub const PCI_FUNCTIONS: u8 = 8;
/// Bytes of a function's configuration space.
pub const PCI_CONFIG_BYTES: usize = 256;
/// Bytes of a function's configuration space with the extended part that only ECAM reaches (PCI Express Base 2.0, §7.2.2).
pub const PCI_EXTENDED_CONFIG_BYTES: usize = 4096;
/// Base address registers of a function with an ordinary header.
pub const PCI_BARS: usize = 6;

/// Where a function is: bus in bits 15:8, device in 7:3, function in 2:0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress(pub u16);

impl PciAddress {
    /// Bits of `slot` and `function` that do not belong there are dropped.
    pub const fn new(bus: u8, slot: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | (slot as u16 & 0x1F) << 3 | (function as u16 & 7))
    }

    /// Number of the bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Number of the device on its bus, 0 to 31.
    pub const fn slot(self) -> u8 {
        (self.0 >> 3) as u8 & 0x1F
    }

    /// Number of the function of its device, 0 to 7.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }
}

/// `CONFIG_ADDRESS` of configuration mechanism 1 (PCI 3.0 §3.2.2.3.2). Only an access of 32 bits reaches it.
pub const PCI_CONFIG_ADDRESS_PORT: u16 = 0xCF8;
/// `CONFIG_DATA`: the 32-bit register that [`PCI_CONFIG_ADDRESS_PORT`] names; bytes and words of it at the ports that follow.
pub const PCI_CONFIG_DATA_PORT: u16 = 0xCFC;

/// The value of `CONFIG_ADDRESS` (PCI 3.0 §3.2.2.3.2): bits 31 enable, 23:16 bus, 15:11 device, 10:8 function, 7:2 register;
/// the others are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PciConfigAddress(pub u32);

impl PciConfigAddress {
    /// Accesses of `CONFIG_DATA` are accesses of configuration space.
    pub const ENABLE: u32 = 1 << 31;
    /// Bits that exist.
    pub const MASK: u32 = Self::ENABLE | 0x00FF_FFFC;

    /// Names the 32-bit register in which byte `offset` is.
    pub const fn new(address: PciAddress, offset: u8) -> Self {
        Self(Self::ENABLE | (address.0 as u32) << 8 | (offset & 0xFC) as u32)
    }

    /// Whether configuration space is reached at all.
    pub const fn is_enabled(self) -> bool {
        self.0 & Self::ENABLE != 0
    }

    /// The function.
    pub const fn address(self) -> PciAddress {
        PciAddress((self.0 >> 8) as u16)
    }

    /// Offset of the 32-bit register.
    pub const fn offset(self) -> u8 {
        (self.0 & 0xFC) as u8
    }
}

/// Where byte `offset` of a function's configuration space is, relative to the start of memory-mapped configuration space
/// (PCI Firmware 3.0 §4.1.1: bits 27:20 bus, 19:15 device, 14:12 function).
pub const fn pci_ecam_offset(address: PciAddress, offset: u16) -> u32 {
    (address.0 as u32) << 12 | (offset & 0xFFF) as u32
}

/// Offset of the vendor id (16 bits) (all offsets: PCI 3.0 §6.1, figure 6-1).
pub const PCI_VENDOR_ID: u8 = 0x00;
/// Offset of the device id (16 bits).
pub const PCI_DEVICE_ID: u8 = 0x02;
/// Offset of the [command register](PciCommand) (16 bits).
pub const PCI_COMMAND: u8 = 0x04;
/// Offset of the [status register](PciStatus) (16 bits).
pub const PCI_STATUS: u8 = 0x06;
/// Offset of the revision (8 bits); the [class](PciClass) lies in the 24 bits that follow.
pub const PCI_REVISION_ID: u8 = 0x08;
/// Offset of the cache line size in units of 4 bytes (8 bits).
pub const PCI_CACHE_LINE_SIZE: u8 = 0x0C;
/// Offset of the latency timer in bus clocks (8 bits).
pub const PCI_LATENCY_TIMER: u8 = 0x0D;
/// Offset of the header type (8 bits).
pub const PCI_HEADER_TYPE: u8 = 0x0E;
/// Offset of the built-in self test (8 bits).
pub const PCI_BIST: u8 = 0x0F;
/// Offset of the first of six base address registers (32 bits each).
pub const PCI_BASE_ADDRESS_0: u8 = 0x10;
/// Offset of the subsystem's vendor id (16 bits).
pub const PCI_SUBSYSTEM_VENDOR_ID: u8 = 0x2C;
/// Offset of the subsystem's id (16 bits).
pub const PCI_SUBSYSTEM_ID: u8 = 0x2E;
/// Offset of the expansion ROM's base address (32 bits).
pub const PCI_ROM_ADDRESS: u8 = 0x30;
/// Offset of the capabilities pointer (8 bits).
pub const PCI_CAPABILITY_LIST: u8 = 0x34;
/// Offset of the interrupt line, which firmware fills and no hardware reads (8 bits).
pub const PCI_INTERRUPT_LINE: u8 = 0x3C;
/// Offset of the interrupt pin: 0 none, 1 to 4 INTA# to INTD# (8 bits).
pub const PCI_INTERRUPT_PIN: u8 = 0x3D;
/// Offset of the burst period that the device needs, in units of 250 ns (8 bits).
pub const PCI_MIN_GNT: u8 = 0x3E;
/// Offset of how often it needs the bus, in units of 250 ns (8 bits).
pub const PCI_MAX_LAT: u8 = 0x3F;
/// First offset behind the header: the device's own registers.
pub const PCI_DEVICE_SPECIFIC: u8 = 0x40;

/// Bit of the header type: the device has further functions (PCI 3.0 §6.2.1).
pub const PCI_HEADER_MULTIFUNCTION: u8 = 1 << 7;
/// Header type of a bridge to another PCI bus (PCI 3.0 §6.2.1; *PCI-to-PCI Bridge Architecture* 1.2, §3.2).
pub const PCI_HEADER_BRIDGE: u8 = 1;
/// Offset of the number of the bus behind such a bridge (8 bits; *PCI-to-PCI Bridge Architecture* 1.2, §3.2).
pub const PCI_SECONDARY_BUS: u8 = 0x19;
/// What the vendor id of an absent function reads as (PCI 3.0 §6.1).
pub const PCI_VENDOR_NONE: u16 = 0xFFFF;
/// Interrupt line that says *not connected* on PCs (PCI 3.0 §6.2.4).
pub const PCI_INTERRUPT_LINE_NONE: u8 = 0xFF;

/// Bit of a base address register: it is for I/O ports (PCI 3.0 §6.2.5.1).
pub const PCI_BAR_IO: u32 = 1 << 0;
/// Bits of a base address register for I/O that hold no address.
pub const PCI_BAR_IO_FLAGS: u32 = 0x3;
/// Bit of a base address register for memory: reads have no side effects.
pub const PCI_BAR_PREFETCHABLE: u32 = 1 << 3;
/// Bits of a base address register for memory that hold no address; bits 2:1 are zero for one of 32 bits.
pub const PCI_BAR_MEMORY_FLAGS: u32 = 0xF;

bitflags::bitflags! {
    /// The command register (PCI 3.0 §6.2.2, table 6-1).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PciCommand: u16 {
        /// It answers at its I/O ports.
        const IO = 1 << 0;
        /// It answers at its memory addresses.
        const MEMORY = 1 << 1;
        /// It may read and write memory by itself.
        const MASTER = 1 << 2;
        /// It sees special cycles.
        const SPECIAL_CYCLES = 1 << 3;
        /// It may use *memory write and invalidate*.
        const INVALIDATE = 1 << 4;
        /// It tells of parity errors.
        const PARITY = 1 << 6;
        /// It may drive SERR#.
        const SERR = 1 << 8;
        /// It may use fast back-to-back transactions.
        const FAST_BACK_TO_BACK = 1 << 9;
        /// It must not raise its interrupt pin (from PCI 2.3 on).
        const INTERRUPT_DISABLE = 1 << 10;
    }
}

bitflags::bitflags! {
    /// The status register (PCI 3.0 §6.2.3, table 6-2). Bits 15:11 and 8 are cleared by writing ones to them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PciStatus: u16 {
        /// It has a list of capabilities.
        const CAPABILITIES = 1 << 4;
        /// It can do fast back-to-back transactions.
        const FAST_BACK_TO_BACK = 1 << 7;
        /// A parity error as a master.
        const MASTER_PARITY = 1 << 8;
        /// Bits 10:9, how fast it answers: medium.
        const DEVSEL_MEDIUM = 1 << 9;
        /// It ended a transaction by a target abort.
        const SIGNALED_TARGET_ABORT = 1 << 11;
        /// Its transaction was ended by a target abort.
        const RECEIVED_TARGET_ABORT = 1 << 12;
        /// Its transaction found nobody.
        const RECEIVED_MASTER_ABORT = 1 << 13;
        /// It has driven SERR#.
        const SIGNALED_SERR = 1 << 14;
        /// It saw a parity error.
        const PARITY_ERROR = 1 << 15;
    }
}

/// What a function is: class in bits 23:16, sub-class in 15:8, programming interface in 7:0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PciClass(pub u32);

impl PciClass {
    /// IDE controller; the low byte tells its channels' modes, here: both in compatibility mode and fixed to it, bus master
    /// (*PCI IDE Controller Specification* 1.0, §2; 82371AB data sheet, §4.1.5).
    pub const IDE_COMPATIBILITY: Self = Self(0x01_01_80);
    /// Ethernet controller.
    pub const ETHERNET: Self = Self(0x02_00_00);
    /// Host bridge.
    pub const HOST_BRIDGE: Self = Self(0x06_00_00);
    /// ISA bridge.
    pub const ISA_BRIDGE: Self = Self(0x06_01_00);
    /// Bridge to another PCI bus.
    pub const PCI_BRIDGE: Self = Self(0x06_04_00);
    /// Another bridge.
    pub const OTHER_BRIDGE: Self = Self(0x06_80_00);

    /// Class and sub-class, without the programming interface.
    pub const fn base_and_sub(self) -> u16 {
        (self.0 >> 8) as u16
    }
}

/// Whose device it is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PciId {
    /// The vendor.
    pub vendor: u16,
    /// The device, by the vendor's numbering.
    pub device: u16,
}

impl PciId {
    /// Intel 82441FX (440FX), host bridge (82441FX data sheet, §3.2.1 to §3.2.2).
    pub const INTEL_440FX: Self = Self::new(0x8086, 0x1237);
    /// Intel 82371SB (PIIX3), IDE (82371FB/SB data sheet, §2.3).
    pub const INTEL_PIIX3_IDE: Self = Self::new(0x8086, 0x7010);
    /// Intel 82371AB (PIIX4), ISA bridge (82371AB data sheet, §3.1).
    pub const INTEL_PIIX4_ISA: Self = Self::new(0x8086, 0x7110);
    /// Intel 82371AB (PIIX4), IDE (82371AB data sheet, §4.1).
    pub const INTEL_PIIX4_IDE: Self = Self::new(0x8086, 0x7111);
    /// Intel 82371AB (PIIX4), power management (82371AB data sheet, §7.1).
    pub const INTEL_PIIX4_PM: Self = Self::new(0x8086, 0x7113);
    /// DEC 21140A, Ethernet (21140A hardware reference manual, §3.1.1).
    pub const DEC_21140: Self = Self::new(0x1011, 0x0009);

    /// An identity.
    pub const fn new(vendor: u16, device: u16) -> Self {
        Self { vendor, device }
    }
}

/// The header of an ordinary function (PCI 3.0 §6.1, figure 6-1), type 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PciHeader {
    /// Vendor.
    pub vendor_id: u16,
    /// Device.
    pub device_id: u16,
    /// [`PciCommand`].
    pub command: u16,
    /// [`PciStatus`].
    pub status: u16,
    /// Revision.
    pub revision_id: u8,
    /// [`PciClass`], programming interface first.
    pub class: [u8; 3],
    /// In units of 4 bytes.
    pub cache_line_size: u8,
    /// In bus clocks.
    pub latency_timer: u8,
    /// Zero for this kind of header; [`PCI_HEADER_MULTIFUNCTION`].
    pub header_type: u8,
    /// Self test.
    pub bist: u8,
    /// Base addresses.
    pub base_addresses: [u32; PCI_BARS],
    /// Pointer to the CardBus information structure.
    pub cardbus_cis: u32,
    /// Vendor of the subsystem.
    pub subsystem_vendor_id: u16,
    /// The subsystem.
    pub subsystem_id: u16,
    /// Base address of the expansion ROM.
    pub rom_address: u32,
    /// Offset of the first capability.
    pub capability_list: u8,
    /// Reserved.
    pub _reserved: [u8; 7],
    /// Interrupt line.
    pub interrupt_line: u8,
    /// Interrupt pin.
    pub interrupt_pin: u8,
    /// In units of 250 ns.
    pub min_gnt: u8,
    /// In units of 250 ns.
    pub max_lat: u8,
}

const _: () = assert!(size_of::<PciHeader>() == 0x40);
const _: () =
    assert!(core::mem::offset_of!(PciHeader, base_addresses) == PCI_BASE_ADDRESS_0 as usize);
const _: () =
    assert!(core::mem::offset_of!(PciHeader, interrupt_line) == PCI_INTERRUPT_LINE as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart_as_they_were_put_together() {
        let address = PciAddress::new(2, 31, 7);
        assert_eq!((address.bus(), address.slot(), address.function()), (2, 31, 7));
        assert_eq!(address.0, 0x02FF);
        assert_eq!(PciAddress::new(0, 32, 8).0, 0, "foreign bits are dropped");
    }

    #[test]
    fn mechanism_1_names_a_register_as_the_specification_says() {
        // Figure 3-2 of PCI 3.0: bus 1, device 2, function 3, register 0x40.
        let address = PciConfigAddress::new(PciAddress::new(1, 2, 3), 0x43);
        assert_eq!(address.0, 0x8001_1340);
        assert_eq!((address.address(), address.offset()), (PciAddress::new(1, 2, 3), 0x40));
        assert!(address.is_enabled() && address.0 & !PciConfigAddress::MASK == 0);
    }

    #[test]
    fn every_function_of_a_bus_has_4_kib_of_ecam() {
        assert_eq!(pci_ecam_offset(PciAddress::new(0, 0, 1), 0), 0x1000);
        assert_eq!(pci_ecam_offset(PciAddress::new(0, 1, 0), 0x10), 0x8010);
        assert_eq!(pci_ecam_offset(PciAddress::new(0, 31, 7), 0xFFF), 0xF_FFFF);
        assert_eq!(pci_ecam_offset(PciAddress::new(1, 0, 0), 0), 0x10_0000);
    }
}
