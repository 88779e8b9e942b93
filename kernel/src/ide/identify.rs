//! What a drive says of itself (ATA-6, *IDENTIFY DEVICE*, *IDENTIFY PACKET DEVICE*). Nothing of it is trusted further than it makes sense.

use core::fmt::Write;

use hv_abi::ata::identify::{
    FIRMWARE_BYTES, INTEGRITY_SIGNATURE, IdentifyData, MODEL_BYTES, SERIAL_BYTES, capability,
    command_set_2, general, packet_general, validity, word,
};
use hv_abi::ata::{MAX_LBA28_SECTORS, MAX_LBA48_SECTORS, SECTOR_BYTES};
use zerocopy::IntoBytes;

use super::error::IdeError;
use crate::fixed::Text;

/// Word 106, bit 12: logical sectors are longer than 512 bytes (ACS-2, *Physical sector size*).
const LONG_SECTORS: u16 = 0x1000;
/// Bits 15:14 of words that say by 01b that they mean something.
const MEANS_SOMETHING: u16 = 0xC000;
/// Largest block of READ MULTIPLE that is used.
const MAX_MULTIPLE: u8 = 16;

/// A disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskFacts {
    /// Its model's name, without spaces at the end.
    pub model: Text<MODEL_BYTES>,
    /// Its serial number.
    pub serial: Text<SERIAL_BYTES>,
    /// Its firmware.
    pub firmware: Text<FIRMWARE_BYTES>,
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Whether it takes addresses of 48 bits.
    pub has_48: bool,
    /// Sectors of a block of READ MULTIPLE that it is told to have: a power of 2 up to 16; 0 if it has no such command.
    pub multiple: u8,
    /// Whether it can do DMA.
    pub has_dma: bool,
    /// Whether it has FLUSH CACHE.
    pub has_flush: bool,
    /// Whether it has FLUSH CACHE EXT.
    pub has_flush_48: bool,
    /// The transfer modes to select, as SET FEATURES has them: one of PIO and one of DMA.
    pub modes: [Option<u8>; 2],
}

impl DiskFacts {
    /// Reads an answer of IDENTIFY DEVICE.
    ///
    /// # Errors
    /// [`IdeError::Identify`] if it is damaged, or not of a disk with LBA and sectors of 512 bytes.
    pub fn parse(data: &IdentifyData) -> Result<Self, IdeError> {
        let capabilities = data.word(word::CAPABILITIES);
        let is_disk = data.word(word::GENERAL) & general::NOT_ATA == 0;
        if !is_disk || capabilities & capability::LBA == 0 || !sum_is_right(data) {
            return Err(IdeError::Identify);
        }
        let physical = data.word(word::PHYSICAL_SECTOR);
        if means_something(physical) && physical & LONG_SECTORS != 0 {
            return Err(IdeError::Identify);
        }
        let sets = data.word(word::COMMAND_SET_2);
        let has = |bit| means_something(sets) && sets & bit != 0;
        let long = u64::from(data.double_word(word::LBA48_SECTORS))
            | u64::from(data.double_word(word::LBA48_SECTORS + 2)) << 32;
        let has_48 = has(command_set_2::LBA48) && long != 0 && long <= MAX_LBA48_SECTORS;
        let short = u64::from(data.double_word(word::LBA28_SECTORS)).min(MAX_LBA28_SECTORS);
        let has_dma = capabilities & capability::DMA != 0;
        Ok(Self {
            model: text(data, word::MODEL),
            serial: text(data, word::SERIAL),
            firmware: text(data, word::FIRMWARE),
            sectors: if has_48 { long } else { short },
            has_48,
            multiple: multiple(data.word(word::MAX_MULTIPLE) as u8),
            has_dma,
            has_flush: has(command_set_2::FLUSH_CACHE),
            has_flush_48: has_48 && has(command_set_2::FLUSH_CACHE_EXT),
            modes: [pio_mode(data), dma_mode(data).filter(|_| has_dma)],
        })
    }
}

/// A packet device.
#[derive(Debug, Clone, Copy)]
pub struct PacketFacts {
    /// Its model's name.
    pub model: Text<MODEL_BYTES>,
    /// The device type, as INQUIRY has it.
    pub device_type: u8,
    /// Bytes of a command packet.
    pub packet_bytes: usize,
    /// Whether it interrupts when it wants the packet.
    pub interrupts_for_packet: bool,
    /// Whether it can do DMA.
    pub has_dma: bool,
    /// As [`DiskFacts::modes`].
    pub modes: [Option<u8>; 2],
}

impl PacketFacts {
    /// Reads an answer of IDENTIFY PACKET DEVICE.
    ///
    /// # Errors
    /// [`IdeError::Identify`] if it is damaged, or of another kind of device.
    pub fn parse(data: &IdentifyData) -> Result<Self, IdeError> {
        let general = data.word(word::GENERAL);
        if general & packet_general::KIND_MASK != packet_general::ATAPI || !sum_is_right(data) {
            return Err(IdeError::Identify);
        }
        let has_dma = data.word(word::CAPABILITIES) & capability::DMA != 0;
        let long = general & packet_general::PACKET_16 != 0;
        let when = general & packet_general::DRQ_MASK;
        Ok(Self {
            model: text(data, word::MODEL),
            device_type: (general >> packet_general::TYPE_SHIFT) as u8 & 0x1F,
            packet_bytes: if long { 16 } else { 12 },
            interrupts_for_packet: when == packet_general::DRQ_INTERRUPT,
            has_dma,
            modes: [pio_mode(data), dma_mode(data).filter(|_| has_dma)],
        })
    }
}

fn means_something(word: u16) -> bool {
    word & MEANS_SOMETHING == 0x4000
}

/// The last word may hold a signature, and then a checksum.
fn sum_is_right(data: &IdentifyData) -> bool {
    let signed = data.word(word::INTEGRITY) as u8 == INTEGRITY_SIGNATURE;
    !signed || data.as_bytes().iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)) == 0
}

fn multiple(most: u8) -> u8 {
    if most == 0 { 0 } else { 1 << most.min(MAX_MULTIPLE).ilog2() }
}

/// Two characters in a word, the first in the upper byte. What is not printable becomes a dot.
fn text<const N: usize>(data: &IdentifyData, first: usize) -> Text<N> {
    let words = (first..).take(N / 2).map(|number| data.word(number).to_be_bytes());
    let mut bytes = [b' '; SECTOR_BYTES];
    for (place, word) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *place = word.map(|byte| if byte == b' ' || byte.is_ascii_graphic() { byte } else { b'.' });
    }
    let mut text = Text::new();
    let shown = core::str::from_utf8(&bytes[..N]).unwrap_or_default();
    // It has room for all of it.
    let _ = text.write_str(shown.trim());
    text
}

/// The best PIO mode, as SET FEATURES has it.
fn pio_mode(data: &IdentifyData) -> Option<u8> {
    use hv_abi::ata::command::transfer_mode::PIO_FLOW;
    let valid = data.word(word::VALIDITY) & validity::WORDS_64_TO_70 != 0;
    match data.word(word::PIO_MODES) & 0b11 {
        0 => None,
        modes => valid.then_some(PIO_FLOW | (2 + modes.ilog2() as u8 + 1)),
    }
}

/// The DMA mode that firmware has selected, since the controller's timing goes with it; else the best that a PIIX4 can do.
fn dma_mode(data: &IdentifyData) -> Option<u8> {
    use hv_abi::ata::command::transfer_mode::{MULTIWORD_DMA, ULTRA_DMA};
    let best = |modes: u16| (modes != 0).then(|| modes.ilog2() as u8);
    let valid = data.word(word::VALIDITY) & validity::WORD_88 != 0;
    let ultra = if valid { data.word(word::ULTRA_DMA) } else { 0 };
    let multiword = data.word(word::MULTIWORD_DMA);
    let selected = best(ultra >> 8 & 0x7F & ultra).map(|mode| ULTRA_DMA | mode);
    let selected =
        selected.or(best(multiword >> 8 & 7 & multiword).map(|mode| MULTIWORD_DMA | mode));
    let possible = best(ultra & 0b111).map(|mode| ULTRA_DMA | mode);
    selected.or(possible).or(best(multiword & 0b111).map(|mode| MULTIWORD_DMA | mode))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words that QEMU 7.2's disk of 8 MiB has (`hdparm --Istdout` in a Linux guest), those that are looked at.
    fn qemu() -> IdentifyData {
        let mut data = IdentifyData::zeroed();
        let words = [
            (0, 0x0040),
            (27, 0x5145),
            (28, 0x4D55),
            (29, 0x2048),
            (30, 0x4152),
            (31, 0x4444),
            (32, 0x4953),
            (33, 0x4B20),
            (47, 0x8010),
            (49, 0x0B00),
            (53, 0x0007),
            (60, 0x4000),
            (63, 0x0007),
            (64, 0x0003),
            (80, 0x00F0),
            (82, 0x4021),
            (83, 0x7400),
            (84, 0x4000),
            (88, 0x203F),
            (100, 0x4000),
        ];
        words.into_iter().for_each(|(number, value)| data.set_word(number, value));
        (34..47).for_each(|number| data.set_word(number, 0x2020));
        data
    }

    #[test]
    fn a_disk_of_qemus_is_understood() {
        let facts = DiskFacts::parse(&qemu()).unwrap();
        assert_eq!(facts.model.as_str(), "QEMU HARDDISK");
        assert_eq!((facts.sectors, facts.has_48, facts.multiple), (0x4000, true, 16));
        assert!(facts.has_dma && facts.has_flush && facts.has_flush_48);
        assert_eq!(facts.modes, [Some(0x0C), Some(0x45)]);
    }

    #[test]
    fn more_than_28_bits_of_sectors_count_only_with_48() {
        let mut data = qemu();
        data.set_word(61, 0x0FFF);
        data.set_word(60, 0xFFFF);
        data.set_word(102, 1);
        assert_eq!(DiskFacts::parse(&data).unwrap().sectors, 0x1_0000_4000);
        data.set_word(83, 0x7000);
        let facts = DiskFacts::parse(&data).unwrap();
        assert_eq!((facts.sectors, facts.has_48, facts.has_flush_48), (0x0FFF_FFFF, false, false));
    }

    #[test]
    fn what_is_no_disk_or_damaged_is_refused() {
        let with = |number, value| {
            let mut data = qemu();
            data.set_word(number, value);
            DiskFacts::parse(&data).err()
        };
        assert_eq!(with(0, 0x85C0), Some(IdeError::Identify));
        assert_eq!(with(49, 0x0100), Some(IdeError::Identify), "no LBA");
        assert_eq!(with(106, 0x5000), Some(IdeError::Identify), "4 KiB sectors");
        assert_eq!(with(255, 0x00A5), Some(IdeError::Identify), "checksum");
        let sum: u8 = qemu().as_bytes().iter().fold(0xA5, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(with(255, u16::from(sum.wrapping_neg()) << 8 | 0xA5), None);
    }

    #[test]
    fn blocks_are_powers_of_two_up_to_16() {
        assert_eq!([0, 1, 2, 3, 16, 128, 255].map(multiple), [0, 1, 2, 2, 16, 16, 16]);
    }

    #[test]
    fn a_cd_rom_is_a_packet_device() {
        let mut data = IdentifyData::zeroed();
        // QEMU 7.2's: removable CD-ROM, DRQ within 50 µs, packets of 12 bytes.
        data.set_word(0, 0x85C0);
        data.set_word(49, 0x0300);
        let facts = PacketFacts::parse(&data).unwrap();
        assert_eq!((facts.device_type, facts.packet_bytes), (5, 12));
        assert!(!facts.interrupts_for_packet && facts.has_dma);
        assert_eq!(PacketFacts::parse(&qemu()).err(), Some(IdeError::Identify));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_much(words in proptest::collection::vec(any::<u16>(), 256)) {
            let mut data = IdentifyData::zeroed();
            words.iter().enumerate().for_each(|(number, word)| data.set_word(number, *word));
            data.set_word(0, words[0] & 0x7FFF);
            data.set_word(49, words[49] | 0x0200);
            if let Ok(facts) = DiskFacts::parse(&data) {
                prop_assert!(facts.sectors <= MAX_LBA48_SECTORS);
                prop_assert!([0, 1, 2, 4, 8, 16].contains(&facts.multiple));
                prop_assert!(facts.model.as_str().bytes().all(|it| it == b' ' || it.is_ascii_graphic()));
            }
            let _ = PacketFacts::parse(&data);
        }
    }
}
