//! The Internet checksum (RFC 1071) of IPv4 headers, TCP and UDP.

use super::headers::{Headers, UDP};

/// The ones' complement sum of bytes taken as big-endian 16-bit numbers; a last odd byte is the upper half of one.
pub fn sum(bytes: &[u8]) -> u16 {
    // Sums of larger words are the same once they are folded, and swapped with their byte order (RFC 1071, section 2).
    let mut total = 0_u64;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut rest = [0; 4];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    fold(total + u64::from(u32::from_be_bytes(rest)))
}

/// The sum of two sums.
pub fn add(a: u16, b: u16) -> u16 {
    fold(u64::from(a) + u64::from(b))
}

fn fold(mut total: u64) -> u16 {
    while total >> 16 != 0 {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total as u16
}

/// The sum of the pseudo-header for `length` bytes of transport header and payload (RFC 9293, section 3.1; RFC 8200,
/// section 8.1).
pub fn pseudo_header(frame: &[u8], headers: &Headers, length: usize) -> u16 {
    let addresses = headers.addresses(frame).map_or(0, sum);
    let rest = u64::from(headers.protocol) + length as u64;
    fold(u64::from(addresses) + rest)
}

/// Fills in the checksum of an IPv4 header.
pub fn fill_ipv4(frame: &mut [u8], headers: &Headers) {
    if headers.ipv6 {
        return;
    }
    store(frame, headers.ip + 10, 0);
    let value = !frame.get(headers.ip..headers.transport).map_or(0, sum);
    store(frame, headers.ip + 10, value);
}

/// Fills in the checksum of TCP or UDP. False: the frame has neither, or only a fragment of it.
pub fn fill_transport(frame: &mut [u8], headers: &Headers) -> bool {
    let Some(field) = headers.checksum_field() else { return false };
    store(frame, headers.transport + field, 0);
    let Some(packet) = frame.get(headers.transport..headers.end) else { return false };
    let value = !add(sum(packet), pseudo_header(frame, headers, packet.len()));
    // UDP without a checksum has zero; a sum that is zero is sent as its other form (RFC 768).
    let value = if value == 0 && headers.protocol == UDP { 0xFFFF } else { value };
    store(frame, headers.transport + field, value);
    true
}

/// Puts the pseudo-header's sum where the checksum will be, as whoever fills it in expects (virtio 1.2, 5.1.6.2).
pub fn prepare_transport(frame: &mut [u8], headers: &Headers, length: usize) -> bool {
    let Some(field) = headers.checksum_field() else { return false };
    let value = pseudo_header(frame, headers, length);
    store(frame, headers.transport + field, value);
    true
}

/// Fills in a checksum whose field holds what is not in `start..end` (the pseudo-header's sum). False: it lies outside.
pub fn fill_partial(frame: &mut [u8], start: usize, field: usize) -> bool {
    let Some(at) = start.checked_add(field) else { return false };
    if at.checked_add(2).is_none_or(|end| end > frame.len()) {
        return false;
    }
    let value = !frame.get(start..).map_or(0, sum);
    store(frame, at, if value == 0 { 0xFFFF } else { value });
    true
}

/// Whether the transport checksum is right; `None` if there is none to check.
pub fn verify_transport(frame: &[u8], headers: &Headers) -> Option<bool> {
    let field = headers.checksum_field()?;
    let packet = frame.get(headers.transport..headers.end)?;
    if headers.protocol == UDP && packet.get(field..field + 2)? == [0, 0] {
        return None;
    }
    Some(add(sum(packet), pseudo_header(frame, headers, packet.len())) == 0xFFFF)
}

fn store(frame: &mut [u8], at: usize, value: u16) {
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::offload::samples::{tcp4, tcp6};
    use proptest::prelude::*;

    /// An IPv4 header with its checksum, B861, and a UDP packet (the header is Wikipedia's example in *Internet checksum*,
    /// from a capture).
    const UDP4: [u8; 49] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 8, 0, 0x45, 0, 0, 0x23, 0, 0, 0x40, 0, 0x40, 0x11, 0,
        0, 0xC0, 0xA8, 0, 1, 0xC0, 0xA8, 0, 0xC7, 0, 7, 0, 7, 0, 15, 0, 0, b'e', b'c', b'h', b'o',
        b'e', b's', b'!',
    ];

    #[test]
    fn sums_are_those_of_the_rfc() {
        // RFC 1071, section 3: 0001, f203, f4f5, f6f7 give ddf2.
        assert_eq!(sum(&[0, 1, 0xF2, 3, 0xF4, 0xF5, 0xF6, 0xF7]), 0xDDF2);
        assert_eq!(sum(&[0xF6]), 0xF600);
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn an_ipv4_header_gets_its_known_checksum() {
        // 4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7.
        let mut frame = UDP4;
        frame[17] = 0x73;
        let headers = Headers { end: 0, ..Headers::parse(&UDP4).unwrap() };
        fill_ipv4(&mut frame, &headers);
        assert_eq!(frame[24..26], [0xB8, 0x61]);
    }

    #[test]
    fn a_udp_checksum_agrees_with_a_sum_by_hand() {
        // c0a8+0001+c0a8+00c7 + 0011 + 000f + 0007+0007+000f + 6563+686f+6573+2100, folded: d5f1; inverted 2a0e.
        let mut frame = UDP4;
        let headers = Headers::parse(&frame).unwrap();
        assert_eq!(verify_transport(&frame, &headers), None);
        assert!(fill_transport(&mut frame, &headers));
        let words: [u32; 13] =
            [0xC0A8, 1, 0xC0A8, 0xC7, 0x11, 0xF, 7, 7, 0xF, 0x6563, 0x686F, 0x6573, 0x2100];
        let total: u32 = words.iter().sum();
        let expected = !((total & 0xFFFF) + (total >> 16)) as u16;
        assert_eq!(frame[40..42], expected.to_be_bytes());
        assert_eq!(verify_transport(&frame, &headers), Some(true));
        frame[48] ^= 1;
        assert_eq!(verify_transport(&frame, &headers), Some(false));
    }

    #[test]
    fn a_partial_checksum_comes_to_the_same() {
        for mut frame in [tcp4(b"odd"), tcp6(b"even"), tcp4(b"")] {
            let headers = Headers::parse(&frame).unwrap();
            let mut other = frame.clone();
            assert!(fill_transport(&mut frame, &headers));
            assert!(prepare_transport(&mut other, &headers, headers.end - headers.transport));
            assert!(fill_partial(&mut other, headers.transport, 16));
            assert_eq!(frame, other);
        }
        assert!(!fill_partial(&mut [0; 10], 4, 5));
        assert!(!fill_partial(&mut [0; 10], usize::MAX, 5));
    }

    proptest! {
        #[test]
        fn sums_agree_with_the_plain_way(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut plain = 0_u32;
            for pair in bytes.chunks(2) {
                plain += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            }
            let plain = (plain & 0xFFFF) + (plain >> 16);
            prop_assert_eq!(sum(&bytes), ((plain & 0xFFFF) + (plain >> 16)) as u16);
        }

        #[test]
        fn a_filled_checksum_verifies(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            for mut frame in [tcp4(&payload), tcp6(&payload)] {
                let headers = Headers::parse(&frame).unwrap();
                prop_assert!(fill_transport(&mut frame, &headers));
                prop_assert_eq!(verify_transport(&frame, &headers), Some(true));
            }
        }
    }
}
