//! Frames on their way through the driver, and what travels beside them.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};

use spin::Mutex;

use super::headers::Headers;

/// Buffers kept for reuse, at most.
const POOL_BUFFERS: usize = 512;

/// An 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// VLAN, 0 to 4095.
    pub vlan: u16,
    /// Priority, 0 to 7.
    pub priority: u8,
    /// Drop eligible (once: canonical form).
    pub drop_eligible: bool,
}

impl VlanTag {
    /// From the 16 bits in a frame: priority 15:13, drop eligible 12, VLAN 11:0.
    pub const fn from_tci(tci: u16) -> Self {
        Self { vlan: tci & 0xFFF, priority: (tci >> 13) as u8, drop_eligible: tci >> 12 & 1 == 1 }
    }

    /// The 16 bits in a frame.
    pub const fn tci(self) -> u16 {
        (self.priority as u16 & 7) << 13 | (self.drop_eligible as u16) << 12 | self.vlan & 0xFFF
    }
}

/// What the host says of a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Nothing: check it.
    #[default]
    Unchecked,
    /// It is right; or the frame never was on a wire and needs none, whatever its field says.
    Right,
    /// It is wrong.
    Wrong,
}

/// What came beside a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveInfo {
    /// Checksum of the IPv4 header.
    pub ip_checksum: Verdict,
    /// Checksum of TCP or UDP.
    pub transport_checksum: Verdict,
    /// Tag that was taken out of the frame.
    pub vlan: Option<VlanTag>,
    /// Toeplitz hash of the flow.
    pub hash: Option<u32>,
    /// Channel it came by: 0, or a sub-channel's number.
    pub channel: u16,
}

/// What the host shall do with a frame that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Send it as it is.
    #[default]
    None,
    /// Fill in the checksum of TCP or UDP; the driver does it where the host can't. Other frames are sent as they are.
    Checksum,
    /// Cut a TCP segment that is larger than a frame may be into parts, and fill in their checksums.
    Segment {
        /// Bytes of payload in each part.
        mss: u16,
    },
}

/// What goes beside a frame that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransmitInfo {
    /// What the host shall do.
    pub offload: Offload,
    /// Tag that the host shall put into the frame.
    pub vlan: Option<VlanTag>,
}

/// A received frame, Ethernet header first. It is a copy: the host can't change it any more. Its memory is used again once it is
/// dropped.
pub struct Frame {
    /// The RNDIS message that held it.
    message: Vec<u8>,
    start: usize,
    end: usize,
    info: ReceiveInfo,
    pool: Arc<BufferPool>,
}

impl Frame {
    /// The bytes from `start` to `end` of `message`; empty where that is out of range.
    pub(super) fn new(
        message: Vec<u8>,
        start: usize,
        end: usize,
        info: ReceiveInfo,
        pool: Arc<BufferPool>,
    ) -> Self {
        Self { message, start, end, info, pool }
    }

    /// What came beside it.
    pub fn info(&self) -> &ReceiveInfo {
        &self.info
    }

    /// Whether the checksum of its TCP or UDP header is right: as the host says, or else as it is found. True if it has none.
    pub fn has_right_checksum(&self) -> bool {
        match self.info.transport_checksum {
            Verdict::Right => true,
            Verdict::Wrong => false,
            Verdict::Unchecked => {
                Headers::find(self).is_none_or(|headers| headers.verify_checksum(self))
            }
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.message.get(self.start..self.end).unwrap_or_default()
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.message.get_mut(self.start..self.end).unwrap_or_default()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.pool.give(core::mem::take(&mut self.message));
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("bytes", &self.len()).field("info", &self.info).finish()
    }
}

/// Buffers for frames, so that the allocator is not asked for each.
pub(super) struct BufferPool {
    buffers: Mutex<Vec<Vec<u8>>>,
    buffer_bytes: usize,
}

impl BufferPool {
    /// Keeps buffers of `buffer_bytes`.
    pub(super) fn new(buffer_bytes: usize) -> Arc<Self> {
        Arc::new(Self { buffers: Mutex::new(Vec::new()), buffer_bytes })
    }

    /// A buffer of at least `bytes` bytes, with anything in them.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes > self.buffer_bytes {
            return vec![0; bytes];
        }
        // A statement of its own: the lock is free again before memory is allocated.
        let old = self.buffers.lock().pop();
        old.unwrap_or_else(|| vec![0; self.buffer_bytes])
    }

    /// Takes a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock();
        if buffer.len() == self.buffer_bytes && buffers.len() < POOL_BUFFERS {
            buffers.push(buffer);
        }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("buffer_bytes", &self.buffer_bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_frames_memory_is_used_again() {
        let pool = BufferPool::new(2048);
        let mut buffer = pool.take(100);
        buffer.fill(7);
        let address = buffer.as_ptr();
        let frame = Frame::new(buffer, 44, 100, ReceiveInfo::default(), pool.clone());
        assert_eq!(frame[..], [7; 56]);
        drop(frame);
        let again = pool.take(2048);
        assert_eq!((again.as_ptr(), again.len()), (address, 2048));
    }

    #[test]
    fn large_frames_do_not_stay_in_the_pool() {
        let pool = BufferPool::new(2048);
        pool.give(pool.take(65_536));
        assert!(pool.buffers.lock().is_empty());
    }

    #[test]
    fn a_frame_out_of_range_is_empty() {
        let pool = BufferPool::new(64);
        let mut frame = Frame::new(pool.take(10), 60, 65, ReceiveInfo::default(), pool.clone());
        assert!(frame.is_empty());
        assert!(frame.iter_mut().next().is_none());
    }

    #[test]
    fn tags_keep_their_parts() {
        let tag = VlanTag::from_tci(0xB123);
        assert_eq!(tag, VlanTag { vlan: 0x123, priority: 5, drop_eligible: true });
        assert_eq!(tag.tci(), 0xB123);
    }
}
