//! IDENTIFY DEVICE.

use hv_abi::ata::identify::{
    IdentifyData, additional, capability, command_set_1, command_set_2, command_set_3, general,
    reset_result, validity, word,
};
use zerocopy::IntoBytes;

use super::settings::MAX_MULTIPLE;
use super::{AtaDisk, lba28, trim};
use crate::emulated::ide::registers::Geometry;
use crate::emulated::ide::words::{seal, set_double, set_string};

/// ATA-1 to ATA/ATAPI-6; bits 1 to 3 are obsolete by then, and expected.
const MAJOR_VERSIONS: u16 = 0x7E;
/// The same up to ACS-2, which brought TRIM. Linux believes no older disk that it has it (`include/linux/ata.h`, `ata_id_has_trim`).
const MAJOR_VERSIONS_WITH_TRIM: u16 = 0x3FE;
/// Cycle times of the fastest PIO and multiword DMA modes (ATA-6, words 65 to 68).
const CYCLE_NS: u16 = 120;

impl AtaDisk {
    /// The answer of IDENTIFY DEVICE.
    pub(super) fn identify(&self) -> Vec<u8> {
        let mut data = IdentifyData::zeroed();
        let identity = self.unit.info().identity;
        data.set_word(word::GENERAL, general::FIXED);
        set_string(&mut data, word::SERIAL, 20, &format!("{identity:016x}"));
        set_string(&mut data, word::FIRMWARE, 8, "1.0");
        set_string(&mut data, word::MODEL, 40, "Enlighten Virtual Disk");
        self.geometry(&mut data);
        self.modes(&mut data);
        self.features(&mut data);
        self.medium(&mut data);
        seal(&mut data);
        data.as_bytes().to_vec()
    }

    fn geometry(&self, data: &mut IdentifyData) {
        let (sectors, now) = (self.sectors(), self.settings.geometry);
        let default = Geometry::standard(sectors);
        data.set_word(word::CYLINDERS, default.cylinders);
        data.set_word(word::HEADS, default.heads.into());
        data.set_word(word::SECTORS, default.sectors.into());
        data.set_word(word::CURRENT_CYLINDERS, now.cylinders);
        data.set_word(word::CURRENT_HEADS, now.heads.into());
        data.set_word(word::CURRENT_SECTORS, now.sectors.into());
        set_double(data, word::CURRENT_CAPACITY, now.capacity());
        set_double(data, word::LBA28_SECTORS, lba28(sectors));
        set_double(data, word::LBA48_SECTORS, sectors as u32);
        set_double(data, word::LBA48_SECTORS + 2, (sectors >> 32) as u32);
    }

    fn modes(&self, data: &mut IdentifyData) {
        use capability::{DMA, IORDY, IORDY_DISABLE, LBA, STANDBY_TIMER};
        let settings = &self.settings;
        data.set_word(word::MAX_MULTIPLE, 0x8000 | u16::from(MAX_MULTIPLE));
        data.set_word(word::CAPABILITIES, DMA | LBA | IORDY | IORDY_DISABLE | STANDBY_TIMER);
        data.set_word(word::CAPABILITIES_2, 0x4000);
        data.set_word(word::OLD_PIO_MODE, 0x0200);
        data.set_word(
            word::VALIDITY,
            validity::WORDS_54_TO_58 | validity::WORDS_64_TO_70 | validity::WORD_88,
        );
        if settings.multiple != 0 {
            data.set_word(word::MULTIPLE, 0x0100 | u16::from(settings.multiple));
        }
        data.set_word(word::MULTIWORD_DMA, settings.dma.multiword_word());
        data.set_word(word::PIO_MODES, 0b11);
        for number in word::MIN_DMA_CYCLE_NS..=word::MIN_PIO_IORDY_CYCLE_NS {
            data.set_word(number, CYCLE_NS);
        }
        data.set_word(word::ULTRA_DMA, settings.dma.ultra_word());
        data.set_word(word::RESET_RESULT, reset_result::VALID | reset_result::DEVICE_0_PASSED);
    }

    fn features(&self, data: &mut IdentifyData) {
        use command_set_1::{
            LOOK_AHEAD, NOP, POWER_MANAGEMENT, READ_BUFFER, SMART, WRITE_BUFFER, WRITE_CACHE,
        };
        use command_set_2::{FLUSH_CACHE, FLUSH_CACHE_EXT, LBA48};
        data.set_word(word::MAJOR_VERSION, MAJOR_VERSIONS);
        let always = NOP | READ_BUFFER | WRITE_BUFFER | POWER_MANAGEMENT;
        data.set_word(word::COMMAND_SET_1, always | LOOK_AHEAD | WRITE_CACHE | SMART);
        let on = |bit, on| if on { bit } else { 0 };
        let settings = &self.settings;
        data.set_word(
            word::ENABLED_1,
            always
                | on(LOOK_AHEAD, settings.look_ahead)
                | on(WRITE_CACHE, settings.write_cache)
                | on(SMART, settings.smart),
        );
        let second = FLUSH_CACHE | FLUSH_CACHE_EXT | LBA48;
        data.set_word(word::COMMAND_SET_2, command_set_2::VALID | second);
        data.set_word(word::ENABLED_2, second);
        let third = command_set_3::WRITE_FUA | command_set_3::WORLD_WIDE_NAME;
        data.set_word(word::COMMAND_SET_3, command_set_3::VALID | third);
        data.set_word(word::ENABLED_3, command_set_3::VALID | third);
    }

    fn medium(&self, data: &mut IdentifyData) {
        /// 8 logical sectors in a physical one: 4 KiB, the unit in which files are kept.
        const PHYSICAL: u16 = 0x6003;
        let info = self.unit.info();
        data.set_word(word::PHYSICAL_SECTOR, PHYSICAL);
        data.set_word(word::ROTATION_RATE, 1);
        // As the SCSI disk of the same file: locally assigned.
        let name = 3_u64 << 60 | info.identity >> 4;
        for (number, shift) in (word::WORLD_WIDE_NAME..).zip([48, 32, 16, 0]) {
            data.set_word(number, (name >> shift) as u16);
        }
        if info.disk.discard {
            data.set_word(word::MAJOR_VERSION, MAJOR_VERSIONS_WITH_TRIM);
            data.set_word(word::DATA_SET_MANAGEMENT, 1);
            data.set_word(word::MAX_TRIM_SECTORS, trim::MAX_SECTORS);
            data.set_word(
                word::ADDITIONAL,
                additional::DETERMINISTIC_READ_AFTER_TRIM | additional::ZEROS_AFTER_TRIM,
            );
        }
    }
}
