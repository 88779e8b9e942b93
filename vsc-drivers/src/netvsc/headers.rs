//! Finding TCP and UDP in an Ethernet frame, and their checksums.
//!
//! Offloads need to know where the transport header is; and where the host can't help, or does not say whether it has
//! checked, the sums are computed here (RFC 1071; RFC 9293, section 3.1; RFC 768; RFC 8200, section 8.1).

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERNET_HEADER_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
const TCP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn from_protocol(protocol: u8) -> Option<Self> {
        match protocol {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    fn protocol(self) -> u16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn header_bytes(self) -> usize {
        match self {
            Self::Tcp => TCP_HEADER_BYTES,
            Self::Udp => UDP_HEADER_BYTES,
        }
    }

    fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// A frame with a whole TCP or UDP header, not a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) ip: Ip,
    pub(super) transport: Transport,
    /// Where the IP header begins.
    pub(super) ip_offset: usize,
    /// Where the TCP or UDP header begins.
    pub(super) transport_offset: usize,
    /// Where the packet ends: before any padding.
    end: usize,
}

impl Headers {
    /// Finds the headers; `None` if there are none such, whole and consistent.
    pub(super) fn find(frame: &[u8]) -> Option<Self> {
        let (ethertype, ip_offset) = match u16_at(frame, 12)? {
            ETHERTYPE_VLAN => (u16_at(frame, 16)?, ETHERNET_HEADER_BYTES + VLAN_BYTES),
            ethertype => (ethertype, ETHERNET_HEADER_BYTES),
        };
        let found = match ethertype {
            ETHERTYPE_IPV4 => Self::find_ipv4(frame, ip_offset)?,
            ETHERTYPE_IPV6 => Self::find_ipv6(frame, ip_offset)?,
            _ => return None,
        };
        let header_end = found.transport_offset + found.transport.header_bytes();
        (found.end <= frame.len() && header_end <= found.end).then_some(found)
    }

    fn find_ipv4(frame: &[u8], ip_offset: usize) -> Option<Self> {
        let header: &[u8; IPV4_HEADER_BYTES] = frame.get(ip_offset..)?.first_chunk()?;
        let header_bytes = usize::from(header[0] & 0xF) * 4;
        let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3FFF != 0;
        if header[0] >> 4 != 4 || header_bytes < IPV4_HEADER_BYTES || is_fragment {
            return None;
        }
        Some(Self {
            ip: Ip::V4,
            transport: Transport::from_protocol(header[9])?,
            ip_offset,
            transport_offset: ip_offset + header_bytes,
            end: end(frame, ip_offset, 0, u16::from_be_bytes([header[2], header[3]])),
        })
    }

    fn find_ipv6(frame: &[u8], ip_offset: usize) -> Option<Self> {
        let header: &[u8; IPV6_HEADER_BYTES] = frame.get(ip_offset..)?.first_chunk()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let length = u16::from_be_bytes([header[4], header[5]]);
        Some(Self {
            ip: Ip::V6,
            transport: Transport::from_protocol(header[6])?,
            ip_offset,
            transport_offset: ip_offset + IPV6_HEADER_BYTES,
            end: end(frame, ip_offset, IPV6_HEADER_BYTES, length),
        })
    }

    /// Bytes of TCP payload; `None` if it isn't TCP, or its header is not whole.
    pub(super) fn tcp_payload(&self, frame: &[u8]) -> Option<usize> {
        let header_bytes = usize::from(frame.get(self.transport_offset + 12)? >> 4) * 4;
        let payload = self.end.checked_sub(self.transport_offset + header_bytes)?;
        let is_tcp = self.transport == Transport::Tcp && header_bytes >= TCP_HEADER_BYTES;
        is_tcp.then_some(payload)
    }

    /// Leaves the sum of the pseudo header where the checksum belongs, as whoever completes it expects.
    pub(super) fn prepare_checksum(&self, frame: &mut [u8]) {
        let sum = self.pseudo_sum(frame, self.end - self.transport_offset);
        self.set_checksum(frame, fold(sum));
    }

    /// The same for a packet that will be cut into segments: without lengths, and those of the IP header are 0 too.
    pub(super) fn prepare_segments(&self, frame: &mut [u8]) {
        match self.ip {
            // Total length, then header checksum.
            Ip::V4 => {
                put_u16(frame, self.ip_offset + 2, 0);
                put_u16(frame, self.ip_offset + 10, 0);
            }
            Ip::V6 => put_u16(frame, self.ip_offset + 4, 0),
        }
        let sum = self.pseudo_sum(frame, 0);
        self.set_checksum(frame, fold(sum));
    }

    /// Computes the checksum.
    pub(super) fn fill_checksum(&self, frame: &mut [u8]) {
        self.set_checksum(frame, 0);
        let checksum = !self.sum(frame);
        // UDP's 0 means that there is none.
        let none = self.transport == Transport::Udp && checksum == 0;
        self.set_checksum(frame, if none { 0xFFFF } else { checksum });
    }

    /// Whether the checksum is right, or UDP's is absent over IPv4.
    pub(super) fn verify_checksum(&self, frame: &[u8]) -> bool {
        let field = u16_at(frame, self.transport_offset + self.transport.checksum_offset());
        let absent = self.ip == Ip::V4 && self.transport == Transport::Udp && field == Some(0);
        absent || self.sum(frame) == 0xFFFF
    }

    fn set_checksum(&self, frame: &mut [u8], value: u16) {
        put_u16(frame, self.transport_offset + self.transport.checksum_offset(), value);
    }

    fn sum(&self, frame: &[u8]) -> u16 {
        let bytes = frame.get(self.transport_offset..self.end).unwrap_or_default();
        fold(self.pseudo_sum(frame, bytes.len()) + sum(bytes))
    }

    fn pseudo_sum(&self, frame: &[u8], length: usize) -> u64 {
        let addresses = match self.ip {
            Ip::V4 => 12..20,
            Ip::V6 => 8..40,
        };
        let addresses = self.ip_offset + addresses.start..self.ip_offset + addresses.end;
        let addresses = sum(frame.get(addresses).unwrap_or_default());
        addresses + u64::from(self.transport.protocol()) + length as u64
    }
}

/// Where an IP packet ends. Without a length, as before segmentation, it is the whole frame.
fn end(frame: &[u8], ip_offset: usize, header_bytes: usize, length: u16) -> usize {
    if length == 0 { frame.len() } else { ip_offset + header_bytes + usize::from(length) }
}

fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let words: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    words + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 1071, section 3.
    const RFC_1071: [u8; 8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

    /// From 10.0.0.1, port 1234, to 10.0.0.2, port 53; no checksums yet.
    fn udp_frame(payload: &[u8]) -> Vec<u8> {
        let length = 28 + payload.len() as u16;
        let mut frame = [0u8; 12].to_vec();
        frame.extend([0x08, 0x00, 0x45, 0x00]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x04, 0xd2, 0x00, 0x35]);
        frame.extend((length - 20).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    fn tcp6_frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = [0u8; 12].to_vec();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((20 + payload.len() as u16).to_be_bytes());
        frame.extend([6, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
        frame.extend([0, 80, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        assert_eq!(fold(sum(&RFC_1071)), 0xddf2);
        assert_eq!(fold(sum(&[0x12])), 0x1200);
    }

    #[test]
    fn a_checksum_worked_out_by_hand_is_found() {
        // Pseudo header 0a00+0001+0a00+0002+0011+000a, header 04d2+0035+000a, data 6869: sum 8198, complement 7e67.
        let mut frame = udp_frame(b"hi");
        let headers = Headers::find(&frame).unwrap();
        headers.fill_checksum(&mut frame);
        assert_eq!(frame[40..42], [0x7e, 0x67]);
        assert!(headers.verify_checksum(&frame));
        frame[43] ^= 1;
        assert!(!headers.verify_checksum(&frame));
    }

    #[test]
    fn a_prepared_checksum_is_the_pseudo_headers_sum() {
        let mut frame = udp_frame(b"hi");
        let headers = Headers::find(&frame).unwrap();
        headers.prepare_checksum(&mut frame);
        assert_eq!(frame[40..42], 0x141eu16.to_be_bytes());
    }

    #[test]
    fn whoever_completes_a_prepared_checksum_gets_the_right_one() {
        for mut frame in [udp_frame(b"some data"), tcp6_frame(b"other data")] {
            let headers = Headers::find(&frame).unwrap();
            headers.prepare_checksum(&mut frame);
            // What hardware does: sum from the transport header on, complement.
            let checksum = !fold(sum(&frame[headers.transport_offset..]));
            headers.set_checksum(&mut frame, checksum);
            assert!(headers.verify_checksum(&frame));
        }
    }

    #[test]
    fn padding_is_not_summed() {
        let mut frame = udp_frame(b"hi");
        Headers::find(&frame).unwrap().fill_checksum(&mut frame);
        frame.resize(60, 0xAA);
        assert!(Headers::find(&frame).unwrap().verify_checksum(&frame));
    }

    #[test]
    fn a_tagged_frame_has_its_headers_four_bytes_further() {
        let mut frame = udp_frame(b"hi");
        frame.splice(12..12, [0x81, 0x00, 0, 5]);
        let headers = Headers::find(&frame).unwrap();
        assert_eq!((headers.ip_offset, headers.transport_offset), (18, 38));
    }

    #[test]
    fn segments_have_no_lengths() {
        let mut frame = tcp6_frame(&[1; 3000]);
        let headers = Headers::find(&frame).unwrap();
        headers.prepare_segments(&mut frame);
        assert_eq!(frame[18..20], [0, 0]);
        // It is found again, though its length is 0 now.
        assert_eq!(Headers::find(&frame), Some(headers));
    }

    #[test]
    fn what_is_cut_off_or_fragmented_or_inconsistent_is_not_found() {
        let whole = udp_frame(b"hi");
        for cut in 0..whole.len() {
            assert_eq!(Headers::find(&whole[..cut]), None, "{cut}");
        }
        let broken = |at: usize, value: u8| {
            let mut frame = whole.clone();
            frame[at] = value;
            Headers::find(&frame)
        };
        assert!(broken(14, 0x45).is_some());
        assert_eq!(broken(14, 0x44), None, "short header");
        assert_eq!(broken(14, 0x4f), None, "header beyond the packet");
        assert_eq!(broken(14, 0x65), None, "version");
        assert_eq!(broken(17, 27), None, "length without the UDP header");
        assert_eq!(broken(17, 31), None, "length beyond the frame");
        assert_eq!(broken(20, 0x20), None, "fragment");
        assert_eq!(broken(23, 1), None, "ICMP");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_searched(
            mut frame in proptest::collection::vec(any::<u8>(), 0..200),
            ethertype in prop_oneof![Just([0x08, 0x00]), Just([0x86, 0xdd]), any::<[u8; 2]>()],
        ) {
            if let Some(field) = frame.get_mut(12..14) {
                field.copy_from_slice(&ethertype);
            }
            if let Some(headers) = Headers::find(&frame) {
                headers.fill_checksum(&mut frame);
                prop_assert!(headers.verify_checksum(&frame));
                headers.prepare_segments(&mut frame);
                headers.prepare_checksum(&mut frame);
            }
        }
    }
}
