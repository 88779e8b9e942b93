//! What a guest sets: transfer mode, caches, blocks of several sectors, the translation.
//!
//! No mode makes anything faster or slower here; it is only told back.

use hv_abi::ata::command::{set_features, transfer_mode};
use hv_abi::ata::device;

use super::AtaDisk;
use crate::emulated::ide::port::Port;
use crate::emulated::ide::registers::Geometry;

/// Most sectors of a block of READ MULTIPLE: what drives of the PIIX4's time had.
pub(super) const MAX_MULTIPLE: u8 = 16;

/// The mode of DMA: SET FEATURES selects one of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum DmaMode {
    Multiword(u8),
    Ultra(u8),
}

impl DmaMode {
    /// As firmware leaves it on a PIIX4: Ultra DMA 33.
    pub(in super::super) const FIRMWARE: Self = Self::Ultra(2);
    /// Modes of multiword DMA that there are, as bits.
    pub(in super::super) const MULTIWORD: u16 = 0b111;
    /// Modes of Ultra DMA that there are, as bits.
    pub(in super::super) const ULTRA: u16 = 0b11_1111;

    /// The mode after SET FEATURES, with this in the sector count register. `None` if there is no such mode.
    pub(in super::super) fn select(self, wanted: u8) -> Option<Self> {
        let number = wanted & transfer_mode::NUMBER_MASK;
        match wanted & !transfer_mode::NUMBER_MASK {
            0 if number <= transfer_mode::PIO_DEFAULT_NO_IORDY => Some(self),
            transfer_mode::PIO_FLOW if number <= 4 => Some(self),
            transfer_mode::MULTIWORD_DMA if number <= 2 => Some(Self::Multiword(number)),
            transfer_mode::ULTRA_DMA if number <= 5 => Some(Self::Ultra(number)),
            _ => None,
        }
    }

    /// Word 63 of IDENTIFY.
    pub(in super::super) fn multiword_word(self) -> u16 {
        match self {
            Self::Multiword(mode) => Self::MULTIWORD | 0x100 << mode,
            Self::Ultra(_) => Self::MULTIWORD,
        }
    }

    /// Word 88 of IDENTIFY.
    pub(in super::super) fn ultra_word(self) -> u16 {
        match self {
            Self::Ultra(mode) => Self::ULTRA | 0x100 << mode,
            Self::Multiword(_) => Self::ULTRA,
        }
    }
}

/// The settings.
pub(super) struct Settings {
    pub(super) dma: DmaMode,
    pub(super) write_cache: bool,
    pub(super) look_ahead: bool,
    pub(super) smart: bool,
    /// Sectors of a block of READ MULTIPLE; 0: not used.
    pub(super) multiple: u8,
    pub(super) geometry: Geometry,
    pub(super) standby: bool,
    /// A software reset brings defaults back.
    reverting: bool,
}

impl Settings {
    /// As firmware leaves them.
    pub(super) fn new(sectors: u64) -> Self {
        Self {
            dma: DmaMode::FIRMWARE,
            write_cache: true,
            look_ahead: true,
            smart: true,
            multiple: MAX_MULTIPLE,
            geometry: Geometry::standard(sectors),
            standby: false,
            reverting: false,
        }
    }

    /// After a software reset.
    pub(super) fn after_reset(&mut self, sectors: u64) {
        self.standby = false;
        if self.reverting {
            *self = Self { dma: self.dma, smart: self.smart, ..Self::new(sectors) };
        }
    }
}

impl AtaDisk {
    /// SET FEATURES.
    pub(super) fn set_features(&mut self, port: &mut Port) {
        let settings = &mut self.settings;
        match port.registers.features.now {
            set_features::ENABLE_WRITE_CACHE => settings.write_cache = true,
            set_features::DISABLE_WRITE_CACHE => {
                settings.write_cache = false;
                // What is in the cache now goes to the medium.
                return self.ask(port, crate::storage::request::DiskOp::Flush);
            }
            set_features::ENABLE_READ_LOOK_AHEAD => settings.look_ahead = true,
            set_features::DISABLE_READ_LOOK_AHEAD => settings.look_ahead = false,
            set_features::ENABLE_REVERTING => settings.reverting = true,
            set_features::DISABLE_REVERTING => settings.reverting = false,
            set_features::SET_TRANSFER_MODE => {
                match settings.dma.select(port.registers.count.now) {
                    Some(mode) => settings.dma = mode,
                    None => return port.abort(),
                }
            }
            _ => return port.abort(),
        }
        port.done();
    }

    /// SET MULTIPLE MODE (ATA-6): a power of two, or none.
    pub(super) fn set_multiple(&mut self, port: &mut Port) {
        match port.registers.count.now {
            0 => self.settings.multiple = 0,
            count if count <= MAX_MULTIPLE && count.is_power_of_two() => {
                self.settings.multiple = count;
            }
            _ => {
                // ATA-6: an unsupported count switches the mode off.
                self.settings.multiple = 0;
                return port.abort();
            }
        }
        port.done();
    }

    /// INITIALIZE DEVICE PARAMETERS (ATA-3): sectors of a track, and the last head.
    pub(super) fn set_translation(&mut self, port: &mut Port) {
        let heads = (port.registers.device & device::LOW_MASK) + 1;
        match port.registers.count.now {
            0 => port.abort(),
            sectors => {
                self.settings.geometry = Geometry::with(self.sectors(), heads, sectors);
                port.done();
            }
        }
    }
}
