//! A stream of bytes that looks random, is cheap, and can be made from any place on.

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014).
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Fills `bytes` with the stream of `seed` from byte `offset` on, a multiple of 8.
pub fn fill(seed: u64, offset: u64, bytes: &mut [u8]) {
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = mix(seed ^ (offset / 8).wrapping_add(index as u64)).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// Where `bytes` first differ from the stream of `seed` from byte `offset` on.
pub fn first_difference(seed: u64, offset: u64, bytes: &[u8]) -> Option<u64> {
    let mut expected = vec![0; bytes.len()];
    fill(seed, offset, &mut expected);
    let at = std::iter::zip(bytes, &expected).position(|(is, should)| is != should)?;
    Some(offset + at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first value that the reference implementation gives for the seed 1234567.
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
    }

    #[test]
    fn a_stream_can_be_made_from_any_place_on() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        let mut part = [0; 60];
        fill(7, 40, &mut part);
        assert_eq!(part, whole[40..]);
    }

    #[test]
    fn a_changed_byte_is_found_at_its_place() {
        let mut bytes = [0; 64];
        fill(9, 4096, &mut bytes);
        assert_eq!(first_difference(9, 4096, &bytes), None);
        bytes[33] ^= 1;
        assert_eq!(first_difference(9, 4096, &bytes), Some(4096 + 33));
        assert!(first_difference(8, 4096, &bytes).is_some());
    }
}
