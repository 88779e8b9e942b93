//! The Toeplitz hash by which received frames are spread on queues (Microsoft, *RSS Hashing Types* and *RSS Hashing Functions*).

use hv_abi::rndis::ndis::hash;

use super::headers::{Headers, TCP, UDP};

/// Bytes of a key.
pub const KEY_BYTES: usize = 40;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; KEY_BYTES]);

impl Key {
    /// The hash of some bytes, at most 36 of which count.
    pub fn hash(&self, input: impl IntoIterator<Item = u8>) -> u32 {
        let [a, b, c, d, rest @ ..] = self.0;
        // The upper half is the key's part that belongs to the next bit of input.
        let mut window = u64::from(u32::from_be_bytes([a, b, c, d])) << 32;
        let mut result = 0;
        for (byte, &next) in input.into_iter().zip(&rest) {
            window |= u64::from(next) << 24;
            for bit in (0..8).rev() {
                if byte >> bit & 1 != 0 {
                    result ^= (window >> 32) as u32;
                }
                window <<= 1;
            }
        }
        result
    }

    /// The hash of a frame by the first of these [types](hash) that fits it; `None`: none does.
    pub fn hash_frame(&self, frame: &[u8], types: u32) -> Option<u32> {
        let headers = Headers::parse(frame)?;
        let addresses = headers.addresses(frame)?.iter();
        let (only_addresses, tcp, udp) = if headers.ipv6 {
            (hash::IPV6, hash::TCP_IPV6, hash::UDP_IPV6)
        } else {
            (hash::IPV4, hash::TCP_IPV4, hash::UDP_IPV4)
        };
        let with_ports = match headers.protocol {
            TCP => types & tcp != 0,
            UDP => types & udp != 0,
            _ => false,
        };
        match headers.ports(frame).filter(|_| with_ports) {
            Some(ports) => Some(self.hash(addresses.chain(ports).copied())),
            None if types & only_addresses != 0 => Some(self.hash(addresses.copied())),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::offload::samples::{tcp4, tcp6};
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Microsoft, *Verifying the RSS Hash Calculation*: the key.
    const KEY: Key = Key([
        0x6D, 0x5A, 0x56, 0xDA, 0x25, 0x5B, 0x0E, 0xC2, 0x41, 0x67, 0x25, 0x3D, 0x43, 0xA3, 0x8F,
        0xB0, 0xD0, 0xCA, 0x2B, 0xCB, 0xAE, 0x7B, 0x30, 0xB4, 0x77, 0xCB, 0x2D, 0xA3, 0x80, 0x30,
        0xF2, 0x0C, 0x6A, 0x42, 0xB7, 0x3B, 0xBE, 0xAC, 0x01, 0xFA,
    ]);
    const ALL: u32 = hash::IPV4 | hash::TCP_IPV4 | hash::IPV6 | hash::TCP_IPV6;

    /// Destination, its port, source, its port, hash of the addresses, hash with the ports; from the same page.
    const IPV4: [(&str, u16, &str, u16, u32, u32); 5] = [
        ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E_8FC2, 0x51CC_C178),
        ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718_262A, 0xC626_B0EA),
        ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0_A5DE, 0x5C2B_394A),
        ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x8298_9176, 0xAFC7_327F),
        ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D18_09C5, 0x10E8_28A2),
    ];
    const IPV6: [(&str, u16, &str, u16, u32, u32); 3] = [
        ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC1_8CD5, 0x4020_7D3D),
        ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C_461C, 0xDDE5_1BBF),
        (
            "fe80::200:f8ff:fe21:67cf",
            38024,
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            0x4B61_E985,
            0x02D1_FEEF,
        ),
    ];

    #[test]
    fn the_published_ipv4_vectors_hold() {
        for (to, to_port, from, from_port, plain, tcp) in IPV4 {
            let mut frame = tcp4(b"x");
            frame[26..30].copy_from_slice(&from.parse::<Ipv4Addr>().unwrap().octets());
            frame[30..34].copy_from_slice(&to.parse::<Ipv4Addr>().unwrap().octets());
            frame[34..36].copy_from_slice(&from_port.to_be_bytes());
            frame[36..38].copy_from_slice(&to_port.to_be_bytes());
            assert_eq!(KEY.hash_frame(&frame, ALL), Some(tcp), "{to}");
            assert_eq!(KEY.hash_frame(&frame, hash::IPV4), Some(plain), "{to}");
            frame[23] = UDP;
            assert_eq!(KEY.hash_frame(&frame, ALL), Some(plain), "{to}");
            assert_eq!(KEY.hash_frame(&frame, ALL | hash::UDP_IPV4), Some(tcp), "{to}");
            assert_eq!(KEY.hash_frame(&frame, hash::IPV6), None);
        }
    }

    #[test]
    fn the_published_ipv6_vectors_hold() {
        for (to, to_port, from, from_port, plain, tcp) in IPV6 {
            let mut frame = tcp6(b"x");
            frame[22..38].copy_from_slice(&from.parse::<Ipv6Addr>().unwrap().octets());
            frame[38..54].copy_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
            frame[54..56].copy_from_slice(&from_port.to_be_bytes());
            frame[56..58].copy_from_slice(&to_port.to_be_bytes());
            assert_eq!(KEY.hash_frame(&frame, ALL), Some(tcp), "{to}");
            assert_eq!(KEY.hash_frame(&frame, hash::IPV6), Some(plain), "{to}");
        }
    }

    #[test]
    fn fragments_are_hashed_by_their_addresses() {
        let mut frame = tcp4(b"x");
        frame[20] = 0x20;
        let addresses = KEY.hash_frame(&frame, hash::IPV4);
        assert_eq!(KEY.hash_frame(&frame, ALL), addresses);
        assert_eq!(KEY.hash_frame(&[0; 60], ALL), None);
    }

    #[test]
    fn input_beyond_the_key_does_not_count() {
        assert_eq!(KEY.hash([7; 36]), KEY.hash([7; 50]));
        assert_eq!(KEY.hash([]), 0);
    }
}
