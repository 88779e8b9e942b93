//! The Toeplitz hash, by which a flow's frames keep to one channel.
//!
//! The host spreads received frames with it by the key that the guest sets; the guest spreads what it sends
//! (Microsoft, *RSS Hashing Types* and *Verifying the RSS Hash Calculation*).

/// Bytes of a key.
pub const KEY_BYTES: usize = 40;

/// The key of Microsoft's verification suite, which Linux uses too.
pub const DEFAULT_KEY: [u8; KEY_BYTES] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

const ETHERNET_HEADER_BYTES: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
const PROTOCOL_TCP: u8 = 6;
const IPV6_HEADER_BYTES: usize = 40;

/// Hash of `input`, of which only as many bytes count as the key covers: 36.
pub fn toeplitz(key: &[u8; KEY_BYTES], input: &[u8]) -> u32 {
    let (mut window, rest) = match key {
        [a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
    };
    let mut hash = 0;
    for (byte, next) in input.iter().zip(rest) {
        for bit in (0..8).rev() {
            if byte >> bit & 1 == 1 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

/// Hash of an Ethernet frame's flow as the host computes it for received frames: addresses and ports of TCP, addresses of other IP.
///
/// `None` for what isn't IP or is cut off.
pub fn hash_frame(key: &[u8; KEY_BYTES], frame: &[u8]) -> Option<u32> {
    let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    let packet = frame.get(ETHERNET_HEADER_BYTES..)?;
    match ethertype {
        ETHERTYPE_IPV4 => hash_ipv4(key, packet),
        ETHERTYPE_IPV6 => hash_ipv6(key, packet),
        _ => None,
    }
}

fn hash_ipv4(key: &[u8; KEY_BYTES], packet: &[u8]) -> Option<u32> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let header_bytes = usize::from(header[0] & 0xF) * 4;
    // A fragment has no ports, or not the whole packet's.
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3FFF != 0;
    let mut input = [0; 12];
    input[..8].copy_from_slice(&header[12..20]);
    if header[9] == PROTOCOL_TCP && !is_fragment {
        let ports: &[u8; 4] = packet.get(header_bytes..)?.first_chunk()?;
        input[8..].copy_from_slice(ports);
        return Some(toeplitz(key, &input));
    }
    Some(toeplitz(key, &input[..8]))
}

fn hash_ipv6(key: &[u8; KEY_BYTES], packet: &[u8]) -> Option<u32> {
    let header: &[u8; IPV6_HEADER_BYTES] = packet.first_chunk()?;
    let mut input = [0; 36];
    input[..32].copy_from_slice(&header[8..40]);
    if header[6] == PROTOCOL_TCP {
        let ports: &[u8; 4] = packet.get(IPV6_HEADER_BYTES..)?.first_chunk()?;
        input[32..].copy_from_slice(ports);
        return Some(toeplitz(key, &input));
    }
    Some(toeplitz(key, &input[..32]))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Source, destination, hash of the addresses, hash with the ports (Microsoft, *Verifying the RSS Hash Calculation*).
    const IPV4: [(&str, u16, &str, u16, u32, u32); 5] = [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
    ];
    const IPV6: [(&str, u16, &str, u16, u32, u32); 3] = [
        ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            "fe80::200:f8ff:fe21:67cf",
            38024,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn ipv4_frame(from: &str, port: u16, to: &str, to_port: u16, protocol: u8) -> Vec<u8> {
        let mut frame = [0u8; 12].to_vec();
        frame.extend([0x08, 0x00, 0x46, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend(from.parse::<Ipv4Addr>().unwrap().octets());
        frame.extend(to.parse::<Ipv4Addr>().unwrap().octets());
        // Options, to see that the ports are found behind them.
        frame.extend([1, 1, 1, 1]);
        frame.extend(port.to_be_bytes());
        frame.extend(to_port.to_be_bytes());
        frame
    }

    fn ipv6_frame(from: &str, port: u16, to: &str, to_port: u16, protocol: u8) -> Vec<u8> {
        let mut frame = [0u8; 12].to_vec();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 4, protocol, 64]);
        frame.extend(from.parse::<Ipv6Addr>().unwrap().octets());
        frame.extend(to.parse::<Ipv6Addr>().unwrap().octets());
        frame.extend(port.to_be_bytes());
        frame.extend(to_port.to_be_bytes());
        frame
    }

    #[test]
    fn hashes_are_those_of_microsofts_verification_suite() {
        for (from, port, to, to_port, addresses, ports) in IPV4 {
            let tcp = ipv4_frame(from, port, to, to_port, 6);
            assert_eq!(hash_frame(&DEFAULT_KEY, &tcp), Some(ports), "{from}");
            let udp = ipv4_frame(from, port, to, to_port, 17);
            assert_eq!(hash_frame(&DEFAULT_KEY, &udp), Some(addresses), "{from}");
        }
        for (from, port, to, to_port, addresses, ports) in IPV6 {
            let tcp = ipv6_frame(from, port, to, to_port, 6);
            assert_eq!(hash_frame(&DEFAULT_KEY, &tcp), Some(ports), "{from}");
            let udp = ipv6_frame(from, port, to, to_port, 17);
            assert_eq!(hash_frame(&DEFAULT_KEY, &udp), Some(addresses), "{from}");
        }
    }

    #[test]
    fn fragments_of_a_packet_have_one_hash() {
        let (from, port, to, to_port, addresses, _) = IPV4[0];
        let mut frame = ipv4_frame(from, port, to, to_port, 6);
        for offset in [[0x20, 0], [0x20, 0x10], [0, 0x20]] {
            frame[20..22].copy_from_slice(&offset);
            assert_eq!(hash_frame(&DEFAULT_KEY, &frame), Some(addresses));
        }
    }

    #[test]
    fn what_is_not_ip_has_no_hash() {
        let mut arp = [0u8; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(hash_frame(&DEFAULT_KEY, &arp), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_hashed(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = hash_frame(&DEFAULT_KEY, &frame);
        }

        #[test]
        fn a_cut_frame_is_no_other_flow(cut in 0usize..38) {
            let (from, port, to, to_port, ..) = IPV4[0];
            let frame = ipv4_frame(from, port, to, to_port, 6);
            prop_assert_eq!(hash_frame(&DEFAULT_KEY, &frame[..cut]), None);
        }
    }
}
