//! Cutting a large TCP segment into frames that fit the network, as a card with large-send offload does.

use super::checksum::{fill_ipv4, fill_transport};
use super::headers::Headers;

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// Cuts a frame into parts of at most `mss` bytes of payload, each with headers and checksums of its own, and hands one
/// after the other to `emit`, which may change it. Returns how many; `None`: it is no TCP segment, or `mss` is 0.
///
/// The first part has the frame's sequence number and IPv4 identification, the following ones count on; FIN and PSH are
/// the last one's, CWR the first one's (NDIS, *Offloading the Segmentation of Large TCP Packets*).
pub fn segment(frame: &[u8], mss: usize, mut emit: impl FnMut(&mut [u8])) -> Option<usize> {
    let headers = Headers::parse(frame)?;
    let start = headers.transport + headers.tcp_header(frame)?;
    if mss == 0 {
        return None;
    }
    let head = frame.get(..start)?;
    let payload = frame.get(start..headers.end)?;
    let mut part = Vec::with_capacity(start + mss.min(payload.len()));
    let mut count = 0;
    // A segment without payload is one part too.
    let mut rest = payload;
    loop {
        let (now, later) = rest.split_at(mss.min(rest.len()));
        part.clear();
        part.extend_from_slice(head);
        part.extend_from_slice(now);
        let place =
            Place { offset: payload.len() - rest.len(), number: count, last: later.is_empty() };
        finish(&mut part, &headers, place)?;
        emit(&mut part);
        count += 1;
        rest = later;
        if rest.is_empty() {
            return Some(count);
        }
    }
}

/// Which part of a segment it is.
struct Place {
    offset: usize,
    number: usize,
    last: bool,
}

/// Brings a part's headers into line with it.
fn finish(part: &mut [u8], headers: &Headers, place: Place) -> Option<()> {
    let headers = Headers { end: part.len(), ..*headers };
    set_ip_length(part, &headers)?;
    if !headers.ipv6 {
        let id = part.get_mut(headers.ip + 4..headers.ip + 6)?;
        let next = u16::from_be_bytes([id[0], id[1]]).wrapping_add(place.number as u16);
        id.copy_from_slice(&next.to_be_bytes());
    }
    let sequence = part.get_mut(headers.transport + 4..headers.transport + 8)?;
    let first = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
    sequence.copy_from_slice(&first.wrapping_add(place.offset as u32).to_be_bytes());
    let flags = part.get_mut(headers.transport + 13)?;
    if !place.last {
        *flags &= !FIN_PSH;
    }
    if place.number != 0 {
        *flags &= !CWR;
    }
    fill_ipv4(part, &headers);
    fill_transport(part, &headers).then_some(())
}

/// Writes the length of an IP packet that ends at [`Headers::end`]. `None`: it is too long for one.
pub fn set_ip_length(frame: &mut [u8], headers: &Headers) -> Option<()> {
    let (field, counted_from) =
        if headers.ipv6 { (headers.ip + 4, headers.ip + 40) } else { (headers.ip + 2, headers.ip) };
    let length = u16::try_from(headers.end.checked_sub(counted_from)?).ok()?;
    frame.get_mut(field..field + 2)?.copy_from_slice(&length.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::checksum::verify_transport;
    use crate::net::offload::samples::{tcp4, tcp6};
    use proptest::prelude::*;

    fn parts(frame: &[u8], mss: usize) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let count = segment(frame, mss, |part| parts.push(part.to_vec()));
        assert_eq!(count, Some(parts.len()));
        parts
    }

    #[test]
    fn parts_of_ipv4_count_on_and_carry_their_flags() {
        let mut frame = tcp4(&[7; 2500]);
        frame[47] = 0x99; // CWR, ACK, PSH, FIN
        frame[18..20].copy_from_slice(&[0xFF, 0xFF]);
        // The guest leaves the length to the card.
        frame[16..18].copy_from_slice(&[0, 0]);
        let parts = parts(&frame, 1000);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1054, 1054, 554]);
        let field = |range: std::ops::Range<usize>| {
            parts.iter().map(|part| part[range.clone()].to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(field(16..18), [[4, 16], [4, 16], [2, 28]]);
        assert_eq!(field(18..20), [[0xFF, 0xFF], [0, 0], [0, 1]]);
        assert_eq!(field(38..42), [[0, 0, 0, 1], [0, 0, 3, 233], [0, 0, 7, 209]]);
        assert_eq!(field(47..48), [[0x90], [0x10], [0x19]]);
        for part in &parts {
            let headers = Headers::parse(part).unwrap();
            assert_eq!(verify_transport(part, &headers), Some(true));
            assert_eq!(crate::net::checksum::sum(&part[14..34]), 0xFFFF);
        }
    }

    #[test]
    fn parts_of_ipv6_have_their_payload_length() {
        let parts = parts(&tcp6(&[1; 30]), 20);
        assert_eq!(
            (parts[0][18..20].to_vec(), parts[1][18..20].to_vec()),
            (vec![0, 40], vec![0, 30])
        );
        let headers = Headers::parse(&parts[1]).unwrap();
        assert_eq!(verify_transport(&parts[1], &headers), Some(true));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        assert_eq!(segment(&tcp4(b"x"), 0, |_| {}), None);
        assert_eq!(segment(&[0; 60], 100, |_| {}), None);
        let mut udp = tcp4(b"xxxxxxxx");
        udp[23] = 17;
        assert_eq!(segment(&udp, 100, |_| {}), None);
        assert_eq!(parts(&tcp4(b""), 100).len(), 1);
    }

    proptest! {
        #[test]
        fn parts_together_are_the_payload(
            payload in prop::collection::vec(any::<u8>(), 0..600),
            mss in 1_usize..700,
            ipv6: bool,
        ) {
            let frame = if ipv6 { tcp6(&payload) } else { tcp4(&payload) };
            let start = frame.len() - payload.len();
            let mut joined = Vec::new();
            let count = segment(&frame, mss, |part| joined.extend_from_slice(&part[start..]));
            prop_assert_eq!(count, Some(payload.len().div_ceil(mss).max(1)));
            prop_assert_eq!(joined, payload);
        }
    }
}
