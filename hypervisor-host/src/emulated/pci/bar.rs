//! A region that a base address register places (PCI 3.0 §6.2.5.1).

use hv_abi::pci::{PCI_BAR_IO, PCI_BAR_IO_FLAGS, PCI_BAR_MEMORY_FLAGS, PCI_BAR_PREFETCHABLE};

/// Least size of a region of I/O ports that a register can tell.
const MIN_IO_BYTES: u32 = 4;
/// Least size of a region of memory that a register can tell.
const MIN_MEMORY_BYTES: u32 = 16;

/// What a base address register is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    kind: Kind,
    bytes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Io,
    Memory { prefetchable: bool },
}

impl Bar {
    /// So many I/O ports, rounded up to a power of two from 4 to 256 (PCI 3.0 §6.2.5.1: no more).
    pub const fn io(ports: u16) -> Self {
        let bytes = (ports as u32).next_power_of_two();
        let bytes = if bytes < MIN_IO_BYTES { MIN_IO_BYTES } else { bytes };
        Self { kind: Kind::Io, bytes: if bytes > 256 { 256 } else { bytes } }
    }

    /// So many bytes of memory below 4 GiB, rounded up to a power of two from 16 bytes to 256 MiB.
    pub const fn memory(bytes: u32, prefetchable: bool) -> Self {
        const MOST: u32 = 256 << 20;
        let bytes = if bytes > MOST { MOST } else { bytes.next_power_of_two() };
        let bytes = if bytes < MIN_MEMORY_BYTES { MIN_MEMORY_BYTES } else { bytes };
        Self { kind: Kind::Memory { prefetchable }, bytes }
    }

    /// Whether it is for I/O ports.
    pub const fn is_io(self) -> bool {
        matches!(self.kind, Kind::Io)
    }

    /// Size of the region, a power of two.
    pub const fn bytes(self) -> u32 {
        self.bytes
    }

    /// The register's bits that a guest can't change.
    pub(super) const fn flags(self) -> u32 {
        match self.kind {
            Kind::Io => PCI_BAR_IO,
            Kind::Memory { prefetchable: true } => PCI_BAR_PREFETCHABLE,
            Kind::Memory { prefetchable: false } => 0,
        }
    }

    /// The register's bits that a guest can change; by the others it learns the size.
    pub(super) const fn writable(self) -> u32 {
        !(self.bytes - 1) & !self.flag_bits()
    }

    /// The address in a register's value.
    pub(super) const fn base(self, register: u32) -> u32 {
        register & !self.flag_bits()
    }

    const fn flag_bits(self) -> u32 {
        match self.kind {
            Kind::Io => PCI_BAR_IO_FLAGS,
            Kind::Memory { .. } => PCI_BAR_MEMORY_FLAGS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_that_a_register_can_tell() {
        assert_eq!(
            [1, 4, 5, 128, 256, 300].map(|ports| Bar::io(ports).bytes()),
            [4, 4, 8, 128, 256, 256]
        );
        let memory = |bytes| Bar::memory(bytes, false).bytes();
        assert_eq!([0, 16, 17, 128, u32::MAX].map(memory), [16, 16, 32, 128, 256 << 20]);
    }

    #[test]
    fn a_register_of_ones_reads_as_the_size_and_the_kind() {
        // PCI 3.0 §6.2.5.1, implementation note: mask the flags, invert, add one.
        let io = Bar::io(16);
        assert_eq!(io.writable() | io.flags(), 0xFFFF_FFF1);
        let memory = Bar::memory(128, true);
        assert_eq!(memory.writable() | memory.flags(), 0xFFFF_FF88);
    }
}
