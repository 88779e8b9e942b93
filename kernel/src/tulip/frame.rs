//! Received frames, whose memory is used again.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use spin::Mutex;

/// Buffers kept, at most.
const KEPT: usize = 256;

/// Buffers that nobody uses.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer of `bytes` zeros.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Frame {
        let mut buffer = self.0.lock().pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(bytes, 0);
        Frame { bytes: buffer, pool: self.clone() }
    }
}

/// A frame, Ethernet header first, without its check sequence. A copy: the device can't change it any more.
pub struct Frame {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl Frame {
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let bytes = core::mem::take(&mut self.bytes);
        let mut pool = self.pool.0.lock();
        if pool.len() < KEPT {
            pool.push(bytes);
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.bytes.len())
    }
}
