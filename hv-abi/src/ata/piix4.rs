//! Configuration registers of the PIIX4's IDE function (PIIX4, *PCI configuration registers (function 1)*).

/// Intel.
pub const VENDOR: u16 = 0x8086;
/// The 82371AB's IDE function.
pub const DEVICE: u16 = 0x7111;
/// Programming interface: both channels in compatibility mode, with a bus master; then IDE, mass storage.
pub const CLASS: [u8; 3] = [0x80, 0x01, 0x01];
/// The base address register of the bus master's ports is BAR 4.
pub const BUS_MASTER_BAR: u8 = 4;

/// Timing of the primary channel; 16 bits.
pub const IDETIM_PRIMARY: u8 = 0x40;
/// Timing of the secondary channel; 16 bits.
pub const IDETIM_SECONDARY: u8 = 0x42;
/// In either: the channel's ports are decoded.
pub const IDETIM_DECODE: u16 = 0x8000;
/// Timing of the slaves; 8 bits.
pub const SIDETIM: u8 = 0x44;
/// Ultra DMA: a bit for each drive, the primary master's lowest; 8 bits.
pub const UDMACTL: u8 = 0x48;
/// Timing of Ultra DMA, 2 of 4 bits for each drive; 16 bits.
pub const UDMATIM: u8 = 0x4A;
