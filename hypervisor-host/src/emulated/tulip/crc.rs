//! The CRC-32 of Ethernet (IEEE 802.3, clause 3.2.9), low bit first.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0xEDB8_8320;

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

/// The CRC without the inversion at its end: what the address filter hashes by.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
        crc >> 8 ^ TABLE[usize::from(low)]
    })
}

/// A frame's check sequence, in the order in which it follows the frame.
pub(super) fn check_sequence(frame: &[u8]) -> [u8; 4] {
    (!crc32(frame)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of zlib's `crc32`.
    #[test]
    fn it_is_the_crc_that_everybody_computes() {
        assert_eq!(check_sequence(b"123456789"), 0xCBF4_3926_u32.to_le_bytes());
        assert_eq!(check_sequence(b""), [0; 4]);
        assert_eq!(check_sequence(&[0xFF; 6]), 0x41D9_ED00_u32.to_le_bytes());
    }

    /// Linux, `tulip_core.c`, `build_setup_frame_hash`: broadcast has entry 255.
    #[test]
    fn the_hash_of_broadcast_is_the_one_that_drivers_know() {
        assert_eq!(crc32(&[0xFF; 6]) & 0x1FF, 255);
    }
}
