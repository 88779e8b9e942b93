//! From what a guest wishes of its card to frames that a back end takes: what the back end can't do is done here.

use super::backend::{Backend, Offloads, SendError};
use super::checksum::{fill_ipv4, fill_transport, prepare_transport};
use super::frame::{
    ETHERNET_HEADER, ETHERTYPE_VLAN, Frame, Pending, PendingChecksum, PendingSegment, VLAN_TAG,
};
use super::headers::{Headers, be16};
use super::segment::{segment, set_ip_length};

/// What a guest wishes to be done to a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Fill in the IPv4 header's checksum.
    pub ip_checksum: bool,
    /// Fill in the checksum of TCP or UDP.
    pub transport_checksum: bool,
    /// Cut into parts of this payload, with all checksums.
    pub mss: Option<usize>,
}

/// How a frame, or the frames that it became, went out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames on the network.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that the back end did not take.
    pub lost: u64,
}

impl Sent {
    fn count(&mut self, result: Result<(), SendError>, frames: u64, bytes: usize) {
        match result {
            Ok(()) => {
                self.frames += frames;
                self.bytes += bytes as u64;
            }
            Err(_) => self.lost += frames,
        }
    }
}

/// Sends a frame with a guest's wishes; `most` is the longest frame that the network takes uncut.
///
/// # Errors
/// The frame is not what the wishes are for, or is too long; it is not sent.
pub fn send(
    backend: &dyn Backend,
    frame: &mut [u8],
    wishes: Wishes,
    most: usize,
) -> Result<Sent, InvalidFrame> {
    let mut sent = Sent::default();
    if frame.len() < ETHERNET_HEADER {
        return Err(InvalidFrame);
    }
    if let Some(mss) = wishes.mss {
        send_large(backend, frame, mss, most, &mut sent).ok_or(InvalidFrame)?;
        return Ok(sent);
    }
    if frame.len() > most {
        return Err(InvalidFrame);
    }
    let pending = prepare(backend.offloads(), frame, wishes).ok_or(InvalidFrame)?;
    let bytes = frame.len();
    sent.count(backend.send(&Frame { bytes: frame, pending }), 1, bytes);
    Ok(sent)
}

/// A frame that can't be sent as the guest wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame is not what the guest says it is")]
pub struct InvalidFrame;

fn prepare(offloads: Offloads, frame: &mut [u8], wishes: Wishes) -> Option<Pending> {
    let mut pending = Pending::default();
    if !wishes.ip_checksum && !wishes.transport_checksum {
        return Some(pending);
    }
    let headers = Headers::parse(frame)?;
    if wishes.ip_checksum {
        fill_ipv4(frame, &headers);
    }
    if wishes.transport_checksum {
        if offloads.contains(Offloads::CHECKSUM) {
            pending.checksum = Some(pending_checksum(frame, &headers)?);
        } else if !fill_transport(frame, &headers) {
            return None;
        }
    }
    Some(pending)
}

fn pending_checksum(frame: &mut [u8], headers: &Headers) -> Option<PendingChecksum> {
    let field = headers.checksum_field()?;
    prepare_transport(frame, headers, headers.end - headers.transport).then_some(())?;
    Some(PendingChecksum { start: u16::try_from(headers.transport).ok()?, field: field as u16 })
}

fn send_large(
    backend: &dyn Backend,
    frame: &mut [u8],
    mss: usize,
    most: usize,
    sent: &mut Sent,
) -> Option<()> {
    let headers = Headers::parse(frame)?;
    let start = headers.transport + headers.tcp_header(frame)?;
    let payload = headers.end.checked_sub(start)?;
    let mss = mss.min(most.checked_sub(start)?);
    if !backend.offloads().contains(Offloads::SEGMENT | Offloads::CHECKSUM) {
        segment(frame, mss, |part| {
            sent.count(backend.send(&Frame::complete(part)), 1, part.len());
        })?;
        return Some(());
    }
    if mss == 0 {
        return None;
    }
    set_ip_length(frame, &headers)?;
    fill_ipv4(frame, &headers);
    let checksum = pending_checksum(frame, &headers)?;
    let parts = payload.div_ceil(mss).max(1);
    let cut = PendingSegment {
        ipv6: headers.ipv6,
        headers: u16::try_from(start).ok()?,
        mss: u16::try_from(mss).unwrap_or(u16::MAX),
    };
    let pending = Pending { checksum: Some(checksum), segment: (parts > 1).then_some(cut) };
    let bytes = payload + parts * start;
    sent.count(backend.send(&Frame { bytes: frame, pending }), parts as u64, bytes);
    Some(())
}

/// Puts a tag into a frame, behind the addresses. Returns false if the frame has none.
pub fn insert_tag(frame: &mut Vec<u8>, tci: u16) -> bool {
    if frame.len() < ETHERNET_HEADER {
        return false;
    }
    let [a, b] = ETHERTYPE_VLAN.to_be_bytes();
    let [c, d] = tci.to_be_bytes();
    frame.splice(ETHERNET_HEADER - 2..ETHERNET_HEADER - 2, [a, b, c, d]);
    true
}

/// The tag of a frame that has one, which is to be left out by [`without_tag`].
pub fn tag(frame: &[u8]) -> Option<u16> {
    if be16(frame, ETHERNET_HEADER - 2)? != ETHERTYPE_VLAN {
        return None;
    }
    // The EtherType that follows must be there too.
    be16(frame, ETHERNET_HEADER + VLAN_TAG - 2)?;
    be16(frame, ETHERNET_HEADER)
}

/// The two parts of a frame that make it one without its [`tag`].
pub fn without_tag(frame: &[u8]) -> (&[u8], &[u8]) {
    let (addresses, rest) = frame.split_at((ETHERNET_HEADER - 2).min(frame.len()));
    (addresses, rest.get(VLAN_TAG..).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
