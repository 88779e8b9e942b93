//! Where the headers of a frame are: Ethernet, at most two tags, IPv4 or IPv6 with its extension headers, TCP or UDP.
//!
//! The guest or the network wrote the frame, so every length is checked against what there is.

use super::frame::{ETHERNET_HEADER, ETHERTYPE_VLAN, VLAN_TAG};

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
/// EtherType of an outer tag (802.1ad).
const ETHERTYPE_QINQ: u16 = 0x88A8;
const IPV6_HEADER: usize = 40;
/// Extension headers that are walked over at most.
const MAX_EXTENSIONS: usize = 8;

/// Where an IP packet's parts are in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// IPv6, not IPv4.
    pub ipv6: bool,
    /// Where the IP header begins.
    pub ip: usize,
    /// Where its payload begins: the transport header, if it is no fragment.
    pub transport: usize,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Where the packet ends, as its header says; 0 in IPv4 means that it has yet to be filled in, then the frame's end.
    pub end: usize,
    /// A fragment: there is no whole transport packet.
    pub fragment: bool,
}

impl Headers {
    /// Looks for an IP packet in a frame. `None`: there is none, or its header is malformed.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let mut ip = ETHERNET_HEADER;
        let mut ethertype = be16(frame, ip - 2)?;
        for _ in 0..2 {
            if ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ {
                ip += VLAN_TAG;
                ethertype = be16(frame, ip - 2)?;
            }
        }
        match ethertype {
            ETHERTYPE_IPV4 => Self::ipv4(frame, ip),
            ETHERTYPE_IPV6 => Self::ipv6(frame, ip),
            _ => None,
        }
    }

    fn ipv4(frame: &[u8], ip: usize) -> Option<Self> {
        let first = *frame.get(ip)?;
        let length = usize::from(first & 0xF) * 4;
        if first >> 4 != 4 || length < 20 || frame.len() < ip + length {
            return None;
        }
        let total = usize::from(be16(frame, ip + 2)?);
        let end = if total == 0 { frame.len() } else { ip + total };
        if end > frame.len() || end < ip + length {
            return None;
        }
        Some(Self {
            ipv6: false,
            ip,
            transport: ip + length,
            protocol: *frame.get(ip + 9)?,
            end,
            fragment: be16(frame, ip + 6)? & 0x3FFF != 0,
        })
    }

    fn ipv6(frame: &[u8], ip: usize) -> Option<Self> {
        if frame.get(ip)? >> 4 != 6 || frame.len() < ip + IPV6_HEADER {
            return None;
        }
        let payload = usize::from(be16(frame, ip + 4)?);
        let end = if payload == 0 { frame.len() } else { ip + IPV6_HEADER + payload };
        if end > frame.len() {
            return None;
        }
        let mut headers = Self {
            ipv6: true,
            ip,
            transport: ip + IPV6_HEADER,
            protocol: *frame.get(ip + 6)?,
            end,
            fragment: false,
        };
        headers.walk_extensions(frame)?;
        Some(headers)
    }

    /// Hop-by-hop options, routing, destination options (RFC 8200, section 4); a fragment header ends the walk.
    fn walk_extensions(&mut self, frame: &[u8]) -> Option<()> {
        const FRAGMENT: u8 = 44;
        for _ in 0..MAX_EXTENSIONS {
            let at = self.transport;
            match self.protocol {
                0 | 43 | 60 => {
                    self.protocol = *frame.get(at)?;
                    self.transport = at + (usize::from(*frame.get(at + 1)?) + 1) * 8;
                }
                FRAGMENT => {
                    self.protocol = *frame.get(at)?;
                    self.transport = at + 8;
                    self.fragment = true;
                    break;
                }
                _ => break,
            }
        }
        (self.transport <= self.end).then_some(())
    }

    /// Where the checksum of TCP or UDP is, from the transport header on; `None` for anything else and for fragments.
    pub fn checksum_field(&self) -> Option<usize> {
        let (field, least) = match self.protocol {
            TCP => (16, 20),
            UDP => (6, 8),
            _ => return None,
        };
        (!self.fragment && self.end - self.transport >= least).then_some(field)
    }

    /// Bytes of the TCP header, if there is a whole one.
    pub fn tcp_header(&self, frame: &[u8]) -> Option<usize> {
        if self.protocol != TCP || self.checksum_field().is_none() {
            return None;
        }
        let length = usize::from(frame.get(self.transport + 12)? >> 4) * 4;
        (length >= 20 && self.transport + length <= self.end).then_some(length)
    }

    /// Source and destination address, one behind the other.
    pub fn addresses<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        let (from, bytes) = if self.ipv6 { (8, 32) } else { (12, 8) };
        frame.get(self.ip + from..self.ip + from + bytes)
    }

    /// Source and destination port, one behind the other.
    pub fn ports<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        self.checksum_field()?;
        frame.get(self.transport..self.transport + 4)
    }
}

/// A big-endian number in a frame.
pub fn be16(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::offload::samples::{tcp4, tcp6};
    use proptest::prelude::*;

    #[test]
    fn tcp_is_found_behind_ipv4_and_its_options() {
        let frame = tcp4(b"hello");
        let headers = Headers::parse(&frame).unwrap();
        assert_eq!((headers.ip, headers.transport, headers.protocol), (14, 34, TCP));
        assert_eq!((headers.end, headers.tcp_header(&frame)), (frame.len(), Some(20)));
        assert_eq!(headers.ports(&frame), Some(&[0x30, 0x39, 0, 80][..]));
    }

    #[test]
    fn tags_and_extension_headers_are_walked_over() {
        let mut frame = tcp4(b"x");
        frame.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(Headers::parse(&frame).unwrap().transport, 38);

        let mut frame = tcp6(b"x");
        // Hop-by-hop options of 8 bytes before TCP.
        frame[20] = 0;
        frame[19] += 8;
        frame.splice(54..54, [TCP, 0, 1, 4, 0, 0, 0, 0]);
        let headers = Headers::parse(&frame).unwrap();
        assert_eq!((headers.transport, headers.protocol), (62, TCP));
        assert_eq!(headers.tcp_header(&frame), Some(20));
    }

    #[test]
    fn fragments_have_no_ports() {
        let mut frame = tcp4(b"hello");
        frame[20] = 0x20;
        let headers = Headers::parse(&frame).unwrap();
        assert!(headers.fragment);
        assert_eq!((headers.ports(&frame), headers.checksum_field()), (None, None));
    }

    #[test]
    fn lengths_that_lie_are_no_packet() {
        for (at, value) in [(14, 0x44), (14, 0x4F), (14, 0x65), (16, 0xFF), (17, 19)] {
            let mut frame = tcp4(b"");
            frame[at] = value;
            assert_eq!(Headers::parse(&frame), None, "{at} {value:#x}");
        }
        let mut short = tcp4(b"");
        short[46] = 0xF0;
        assert_eq!(Headers::parse(&short).unwrap().tcp_header(&short), None);
        assert_eq!(Headers::parse(&[]), None);
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(
            start in 0_usize..3,
            cut in 0_usize..90,
            bytes in prop::collection::vec(any::<u8>(), 0..90),
        ) {
            let mut frame = [tcp4(b"0123456789"), tcp6(b"0123456789"), vec![]][start].clone();
            for (at, byte) in bytes.iter().enumerate() {
                if byte & 3 == 0 && at < frame.len() {
                    frame[at] = *byte;
                }
            }
            frame.truncate(cut);
            if let Some(headers) = Headers::parse(&frame) {
                prop_assert!(headers.transport <= headers.end && headers.end <= frame.len());
                prop_assert!(headers.ip < headers.transport);
                let _ = (headers.ports(&frame), headers.addresses(&frame), headers.tcp_header(&frame));
            }
            let _ = Headers::parse(&bytes);
        }
    }
}
