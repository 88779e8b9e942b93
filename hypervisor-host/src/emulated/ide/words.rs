//! Filling IDENTIFY data.

use hv_abi::ata::identify::{INTEGRITY_SIGNATURE, IdentifyData, word};
use zerocopy::IntoBytes;

/// Sets two words, the lower first.
pub(super) fn set_double(data: &mut IdentifyData, number: usize, value: u32) {
    data.set_word(number, value as u16);
    data.set_word(number + 1, (value >> 16) as u16);
}

/// Sets a string of so many characters, padded with spaces; the first of two characters is in the upper byte.
pub(super) fn set_string(data: &mut IdentifyData, number: usize, bytes: usize, text: &str) {
    let mut characters = text.bytes().chain(std::iter::repeat(b' '));
    for index in 0..bytes / 2 {
        let pair = [characters.next(), characters.next()].map(|it| it.unwrap_or(b' '));
        data.set_word(number + index, u16::from_be_bytes(pair));
    }
}

/// Makes the sum of all bytes 0 (ATA-6, word 255).
pub(super) fn seal(data: &mut IdentifyData) {
    data.set_word(word::INTEGRITY, INTEGRITY_SIGNATURE.into());
    let sum = data.as_bytes().iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    data.set_word(word::INTEGRITY, u16::from_le_bytes([INTEGRITY_SIGNATURE, sum.wrapping_neg()]));
}
