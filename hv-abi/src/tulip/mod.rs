//! DEC's 21140A ("tulip"), the network card of a Hyper-V machine of generation 1: registers, descriptors, setup frames,
//! the serial ROM, and the transceiver behind it.
//!
//! Source, if nothing else is said: Digital's *21140A PCI Fast Ethernet LAN Controller Hardware Reference Manual*,
//! EC-QN7NG-TE; its register and field names are kept, titles of its sections stand in italics. The serial ROM is that of
//! *Digital Semiconductor 21X4 Serial ROM Format*, version 4. Both agree with the public drivers that are named where
//! they are the better source (Linux 6.1, `drivers/net/ethernet/dec/tulip/`; FreeBSD, `sys/dev/dc/`).
//!
//! - [`csr`]: the registers CSR0 to CSR15, [`csr_offset`] says where
//! - [`descriptor`]: the two rings in memory
//! - [`setup`]: the frame that sets the address filter
//! - [`srom`]: what the serial ROM says, and its bits in CSR9
//! - [`mii`]: the transceiver's registers, and its bits in CSR9

pub mod csr;
pub mod descriptor;
pub mod mii;
pub mod setup;
pub mod srom;

#[cfg(test)]
mod tests;

/// PCI vendor: Digital Equipment Corporation (CFID).
pub const TULIP_VENDOR: u16 = 0x1011;
/// PCI device: 21140 and 21140A (CFID).
pub const TULIP_DEVICE_21140: u16 = 0x0009;
/// PCI device: 21142 and 21143. What QEMU's `tulip` is.
pub const TULIP_DEVICE_21143: u16 = 0x0019;
/// Revision of the 21140A's second pass (CFRV): 2 is the 21140A's, the low digit its step.
pub const TULIP_REVISION_21140A: u8 = 0x22;
/// PCI class: network controller, Ethernet (CFRV).
pub const TULIP_CLASS: [u8; 3] = [0x02, 0x00, 0x00];
/// Bytes of registers, behind each of the two BARs: BAR 0 is in I/O space (CBIO), BAR 1 in memory (CBMA).
pub const TULIP_REGISTER_BYTES: u32 = 128;

/// Offset in configuration space of the device and driver area register, CFDD (CFDA in early papers).
pub const CFDD: u8 = 0x40;
/// [`CFDD`]: nothing works but configuration space.
pub const CFDD_SLEEP: u32 = 1 << 31;
/// [`CFDD`]: the chip sleeps while it has nothing to do.
pub const CFDD_SNOOZE: u32 = 1 << 30;
/// [`CFDD`]: bits that a driver may use for itself.
pub const CFDD_DRIVER: u32 = 0xFF << 8;

/// Offset of a control and status register: they are 32 bits wide, each at a multiple of eight (*CSR Mapping*).
pub const fn csr_offset(number: u8) -> u32 {
    number as u32 * 8
}

/// Longest frame of IEEE 802.3, with its check sequence, in bytes. A longer one is received whole, and marked as such.
pub const MAX_FRAME_BYTES: usize = 1518;
/// The same with a VLAN tag.
pub const MAX_TAGGED_FRAME_BYTES: usize = 1522;
/// Shortest frame, with its check sequence, in bytes; the chip pads what it sends up to it.
pub const MIN_FRAME_BYTES: usize = 64;
/// Bytes of a frame check sequence, which the chip adds and which a received frame has behind its data.
pub const FCS_BYTES: usize = 4;
