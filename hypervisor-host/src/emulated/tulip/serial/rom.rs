//! What is in the serial ROM.

use hv_abi::tulip::mii::{AN_10_FULL, AN_10_HALF, AN_100_FULL, AN_100_HALF, BMSR_MEDIA};
use hv_abi::tulip::srom::{
    BLOCK_EXTENDED, BLOCK_MII, CONNECTION_AUTOSENSE, SROM_ADDRESS, SROM_BYTES, SROM_CHECKSUM,
    SROM_CHIPS, SROM_ID_CRC, SROM_LEAF, SROM_VERSION, SROM_WORDS, SromLeaf, SromMiiBlock,
};
use zerocopy::IntoBytes;

use super::super::crc::check_sequence;
use crate::net::mac::MacAddress;

/// Where the leaf is: behind the fixed part.
const LEAF: u8 = 30;
/// Version of the format.
const VERSION: u8 = 4;
/// Of [`BMSR_MEDIA`]: the two that are full duplex.
const FULL_DUPLEX: u16 = 0x5000;
/// Of [`BMSR_MEDIA`]: the two of 10 Mb/s.
const TEN_MEGABITS: u16 = 0x1800;

/// The words of a card with this address, on a board with one transceiver on MII.
pub(in super::super) fn contents(address: MacAddress) -> [u16; SROM_WORDS] {
    let mut bytes = [0; SROM_BYTES];
    let leaf = SromLeaf { connection: CONNECTION_AUTOSENSE.into(), general_purpose: 0, blocks: 1 };
    let block = SromMiiBlock {
        length: BLOCK_EXTENDED | (size_of::<SromMiiBlock>() - 1) as u8,
        block_type: BLOCK_MII,
        transceiver: 0,
        start_sequence: 0,
        reset_sequence: 0,
        capabilities: BMSR_MEDIA.into(),
        advertisement: (AN_100_FULL | AN_100_HALF | AN_10_FULL | AN_10_HALF).into(),
        full_duplex: FULL_DUPLEX.into(),
        threshold: TEN_MEGABITS.into(),
    };
    put(&mut bytes, SROM_VERSION, &[VERSION]);
    put(&mut bytes, SROM_CHIPS, &[1]);
    put(&mut bytes, SROM_ADDRESS, &address.0);
    put(&mut bytes, SROM_LEAF, &[LEAF, 0]);
    put(&mut bytes, LEAF.into(), leaf.as_bytes());
    put(&mut bytes, usize::from(LEAF) + size_of::<SromLeaf>(), block.as_bytes());
    let crc = id_crc(&bytes);
    put(&mut bytes, SROM_ID_CRC, &[crc]);
    let [low, high, ..] = check_sequence(bytes.get(..SROM_CHECKSUM).unwrap_or_default());
    put(&mut bytes, SROM_CHECKSUM, &[low, high]);
    words(&bytes)
}

fn put(bytes: &mut [u8], offset: usize, part: &[u8]) {
    for (byte, value) in bytes.iter_mut().skip(offset).zip(part) {
        *byte = *value;
    }
}

fn words(bytes: &[u8; SROM_BYTES]) -> [u16; SROM_WORDS] {
    let mut words = [0; SROM_WORDS];
    for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
        *word = pair.iter().rev().fold(0, |word, byte| word << 8 | u16::from(*byte));
    }
    words
}

/// The first block's CRC: eight bits, polynomial 0x07, from 0xFF on, high byte of each word first, up to the high byte of the
/// word that it is in.
fn id_crc(bytes: &[u8; SROM_BYTES]) -> u8 {
    let covered =
        bytes.chunks_exact(2).take(SROM_ID_CRC / 2 + 1).flat_map(|pair| pair.iter().rev());
    covered.take(SROM_ID_CRC + 1).fold(0xFF, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| crc << 1 ^ if crc & 0x80 != 0 { 0x07 } else { 0 })
    })
}
