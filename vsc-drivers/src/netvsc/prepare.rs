//! A frame before it is sent: which channel it goes by, and what the host shall do with it.

use super::NetVsc;
use super::adapter::Adapter;
use super::error::TransmitError;
use super::frame::{Offload, TransmitInfo};
use super::headers::Headers;
use super::outgoing::{Beside, Work};
use super::queue::Queue;
use super::toeplitz::hash_frame;
use crate::hal::Hal;

const ETHERNET_HEADER_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// Headers that begin further in can't be told to the host.
const MAX_HEADER_OFFSET: usize = 1024;
/// Longest frame of all: the largest IP packet that is cut into segments, with its Ethernet header and tag.
pub(super) const MAX_FRAME_BYTES: usize = 0xFFFF + ETHERNET_HEADER_BYTES + VLAN_BYTES;

impl<H: Hal> NetVsc<H> {
    /// For a frame that is sent as it is.
    pub(super) fn prepare_plain(
        &self,
        frame: &[u8],
        info: &TransmitInfo,
    ) -> Result<(&Queue<H>, Beside), TransmitError> {
        check_length(&self.adapter, frame)?;
        Ok(choose(&self.adapter, frame, info, None))
    }

    /// For any frame; what the host shall complete, is prepared in it.
    pub(super) fn prepare(
        &self,
        frame: &mut [u8],
        info: &TransmitInfo,
    ) -> Result<(&Queue<H>, Beside), TransmitError> {
        let work = match info.offload {
            Offload::None => None,
            Offload::Checksum => prepare_checksum(&self.adapter, frame),
            Offload::Segment { mss } => prepare_segments(&self.adapter, frame, mss)?,
        };
        if !matches!(work, Some(Work::Segment(..))) {
            check_length(&self.adapter, frame)?;
        }
        Ok(choose(&self.adapter, frame, info, work))
    }
}

fn check_length<H: Hal>(adapter: &Adapter<H>, frame: &[u8]) -> Result<(), TransmitError> {
    let tag = if frame.get(12..14) == Some(&ETHERTYPE_VLAN) { VLAN_BYTES } else { 0 };
    let longest = adapter.link.mtu() + ETHERNET_HEADER_BYTES + tag;
    let fits = (ETHERNET_HEADER_BYTES..=longest).contains(&frame.len());
    if adapter.end().is_some() {
        Err(TransmitError::Ended)
    } else if fits {
        Ok(())
    } else {
        Err(TransmitError::BadLength)
    }
}

/// Has the host fill in the checksum, or does it.
fn prepare_checksum<H: Hal>(adapter: &Adapter<H>, frame: &mut [u8]) -> Option<Work> {
    let headers = Headers::find(frame)?;
    if adapter.offloads().checksums(&headers) && headers.transport_offset < MAX_HEADER_OFFSET {
        headers.prepare_checksum(frame);
        return Some(Work::Checksum(headers));
    }
    headers.fill_checksum(frame);
    None
}

/// Has the host cut the frame into segments, if it is more than one.
fn prepare_segments<H: Hal>(
    adapter: &Adapter<H>,
    frame: &mut [u8],
    mss: u16,
) -> Result<Option<Work>, TransmitError> {
    let headers = Headers::find(frame).ok_or(TransmitError::NotSegmentable)?;
    let payload = headers.tcp_payload(frame).ok_or(TransmitError::NotSegmentable)?;
    if payload <= usize::from(mss) {
        return Ok(prepare_checksum(adapter, frame));
    }
    let packet_bytes = frame.len() - headers.ip_offset;
    let possible = packet_bytes <= adapter.offloads().segments(&headers) as usize
        && headers.transport_offset < MAX_HEADER_OFFSET
        && mss != 0;
    if !possible {
        return Err(TransmitError::NotSegmentable);
    }
    headers.prepare_segments(frame);
    Ok(Some(Work::Segment(headers, mss)))
}

/// Frames of a flow keep to one channel, so that they keep their order.
fn choose<'a, H: Hal>(
    adapter: &'a Adapter<H>,
    frame: &[u8],
    info: &TransmitInfo,
    work: Option<Work>,
) -> (&'a Queue<H>, Beside) {
    let hash = match adapter.queue_count() {
        1 => None,
        _ => hash_frame(&adapter.options.rss_key, frame),
    };
    let channel = hash.map_or(0, |hash| adapter.send_table.channel(hash));
    (adapter.queue(channel), Beside { hash, vlan: info.vlan, work })
}
