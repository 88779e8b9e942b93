//! IDENTIFY PACKET DEVICE.

use hv_abi::ata::identify::{
    IdentifyData, capability, command_set_1, command_set_2, packet_general, reset_result, validity,
    word,
};
use hv_abi::ata::packet::PERIPHERAL_CD_ROM;
use zerocopy::IntoBytes;

use super::CdRom;
use crate::emulated::ide::words::{seal, set_string};

/// ATA/ATAPI-4 to 6: packet devices are in no standard before.
const MAJOR_VERSIONS: u16 = 0x70;
const CYCLE_NS: u16 = 120;

impl CdRom {
    /// The answer of IDENTIFY PACKET DEVICE.
    pub(super) fn identify(&self) -> Vec<u8> {
        let mut data = IdentifyData::zeroed();
        let kind = u16::from(PERIPHERAL_CD_ROM) << packet_general::TYPE_SHIFT;
        data.set_word(
            word::GENERAL,
            packet_general::ATAPI | kind | packet_general::REMOVABLE | packet_general::DRQ_50_US,
        );
        set_string(&mut data, word::SERIAL, 20, &format!("{:016x}", self.medium.identity()));
        set_string(&mut data, word::FIRMWARE, 8, "1.0");
        set_string(&mut data, word::MODEL, 40, "Enlighten Virtual CD-ROM");
        let capabilities =
            capability::DMA | capability::LBA | capability::IORDY | capability::IORDY_DISABLE;
        data.set_word(word::CAPABILITIES, capabilities);
        data.set_word(word::CAPABILITIES_2, 0x4000);
        data.set_word(word::VALIDITY, validity::WORDS_64_TO_70 | validity::WORD_88);
        data.set_word(word::MULTIWORD_DMA, self.dma.multiword_word());
        data.set_word(word::PIO_MODES, 0b11);
        for number in word::MIN_DMA_CYCLE_NS..=word::MIN_PIO_IORDY_CYCLE_NS {
            data.set_word(number, CYCLE_NS);
        }
        data.set_word(word::MAJOR_VERSION, MAJOR_VERSIONS);
        use command_set_1::{DEVICE_RESET, NOP, PACKET, POWER_MANAGEMENT};
        let commands = NOP | DEVICE_RESET | PACKET | POWER_MANAGEMENT;
        data.set_word(word::COMMAND_SET_1, commands);
        data.set_word(word::COMMAND_SET_2, command_set_2::VALID);
        data.set_word(word::COMMAND_SET_3, command_set_2::VALID);
        data.set_word(word::ENABLED_1, commands);
        data.set_word(word::ENABLED_3, command_set_2::VALID);
        data.set_word(word::ULTRA_DMA, self.dma.ultra_word());
        data.set_word(word::RESET_RESULT, reset_result::VALID | reset_result::DEVICE_0_PASSED);
        seal(&mut data);
        data.as_bytes().to_vec()
    }
}
