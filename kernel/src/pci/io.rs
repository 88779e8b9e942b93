//! How a driver reaches a device's registers.

use core::fmt;

/// The port instructions of one machine. Cheap to clone: a token or a reference.
///
/// An absent device's ports read as ones, and writes to them do nothing. In a virtual machine most accesses are exits.
pub trait PortIo: Clone + Send + Sync + 'static {
    /// `in al, dx`.
    fn read8(&self, port: u16) -> u8;
    /// `in ax, dx`.
    fn read16(&self, port: u16) -> u16;
    /// `in eax, dx`.
    fn read32(&self, port: u16) -> u32;
    /// `out dx, al`.
    fn write8(&self, port: u16, value: u8);
    /// `out dx, ax`.
    fn write16(&self, port: u16, value: u16);
    /// `out dx, eax`.
    fn write32(&self, port: u16, value: u32);

    /// `rep insw`: fills `bytes` with words from the one port, each with its low byte first. An odd last byte is left alone.
    fn read_words(&self, port: u16, bytes: &mut [u8]) {
        for word in bytes.chunks_exact_mut(2) {
            word.copy_from_slice(&self.read16(port).to_le_bytes());
        }
    }

    /// `rep outsw`: the same to the port.
    fn write_words(&self, port: u16, bytes: &[u8]) {
        for word in bytes.as_chunks::<2>().0 {
            self.write16(port, u16::from_le_bytes(*word));
        }
    }
}

/// Registers of 32 bits, in ports or in memory.
pub trait Registers32: Send + Sync + 'static {
    /// Reads the register at byte `offset`, a multiple of 4.
    fn read(&self, offset: u16) -> u32;
    /// Writes the register at byte `offset`, a multiple of 4.
    fn write(&self, offset: u16, value: u32);
}

/// [`Registers32`] in ports from `base` on.
#[derive(Clone)]
pub struct PortRegisters<P> {
    ports: P,
    base: u16,
}

impl<P: PortIo> PortRegisters<P> {
    /// Those at `base`.
    pub fn new(ports: P, base: u16) -> Self {
        Self { ports, base }
    }
}

impl<P: PortIo> Registers32 for PortRegisters<P> {
    fn read(&self, offset: u16) -> u32 {
        self.ports.read32(self.base.wrapping_add(offset))
    }

    fn write(&self, offset: u16, value: u32) {
        self.ports.write32(self.base.wrapping_add(offset), value);
    }
}

impl<P> fmt::Debug for PortRegisters<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortRegisters({:#x})", self.base)
    }
}
