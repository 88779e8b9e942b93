//! Opening a channel.

#![expect(unsafe_code, reason = "the rings' memory is reached through a pointer")]

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32};

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::message::{MessageHeader, OpenChannel, VmbusMessage};
use hv_abi::vmbus::offer::VMBUS_USER_DEFINED_BYTES;
use hv_abi::vmbus::packet::RING_CONTROL_BYTES;
use hv_abi::vmbus::version::VmbusVersion;
use spin::Mutex;
use vmbus_ring::{FlatMemory, RingReceiver, RingSender};
use zerocopy::IntoBytes;

use super::{Channel, Memory, gpadl, status};
use crate::bus::{ChannelError, ChannelId, Chore, Claim, Ending, Expected, Grant, Request, Vmbus};
use crate::hal::{DmaBuffer, Hal};

/// How to open a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenParams<'a> {
    /// Bytes of the ring to the host, without its control page: a multiple of 4,096.
    pub send_bytes: usize,
    /// Bytes of the ring from the host, without its control page: a multiple of 4,096.
    pub receive_bytes: usize,
    /// The device's own: at most 120 bytes.
    pub user_data: &'a [u8],
    /// Virtual processor that the host's signals go to, from version 2.4 on. `None`: that of the bus's messages.
    pub target_vp: Option<u32>,
    /// Signals go at once, also if the channel has a trigger of the monitor pages, which the host looks at from time to
    /// time only.
    pub low_latency: bool,
}

impl Default for OpenParams<'_> {
    fn default() -> Self {
        Self {
            send_bytes: 16 * HV_PAGE_SIZE,
            receive_bytes: 16 * HV_PAGE_SIZE,
            user_data: &[],
            target_vp: None,
            low_latency: false,
        }
    }
}

impl<H: Hal> Vmbus<H> {
    /// Opens a channel.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NoChannel`], [`ChannelError::Busy`] if it is open or not quite closed; [`ChannelError::BadSize`] of a ring, or of the
    /// user data; [`ChannelError::Refused`] and [`ChannelError::NoAnswer`] with [`Request::Gpadl`] or [`Request::Open`]; others as the channel's.
    pub async fn open(
        &self,
        channel: ChannelId,
        params: &OpenParams<'_>,
    ) -> Result<Channel<H>, ChannelError> {
        let version = self.shared.version()?;
        let (send_pages, receive_pages) = params.ring_pages()?;
        let claim = Claim::new(self, channel)?;
        let buffer = DmaBuffer::new(self.hal(), send_pages + receive_pages);
        let buffer = Arc::new(buffer.ok_or(ChannelError::NoMemory)?);
        // Before the host sees the memory: it is known what the indices are.
        let sender = RingSender::new(ring(&buffer, 0, send_pages)?);
        let receiver = RingReceiver::new(ring(&buffer, send_pages, receive_pages)?);
        let rings = gpadl::create(&claim, &buffer).await?;
        let opening = Opening { rings: Some(rings), asked: false };
        let rings = opening.ask(params, version, send_pages).await?;
        Ok(Channel {
            sender: Mutex::new(sender.map_err(ChannelError::Corrupt)?),
            receiver: Mutex::new(receiver.map_err(ChannelError::Corrupt)?),
            waiting_for_room: AtomicU32::new(0),
            bus: self.clone(),
            offer: claim.offer.clone(),
            life: claim.life.clone(),
            version,
            low_latency: params.low_latency,
            closed: AtomicBool::new(false),
            rings: Mutex::new(Some(rings)),
        })
    }
}

impl OpenParams<'_> {
    /// Pages of both rings with their control pages.
    fn ring_pages(&self) -> Result<(usize, usize), ChannelError> {
        let pages = |bytes: usize| {
            let whole = bytes > 0 && bytes.is_multiple_of(HV_PAGE_SIZE);
            let all = bytes.checked_add(RING_CONTROL_BYTES).filter(|_| whole);
            let pages = all.map(|all| all / HV_PAGE_SIZE).filter(|pages| *pages < gpadl::MAX_PAGES);
            pages.ok_or(ChannelError::BadSize)
        };
        if self.user_data.len() > VMBUS_USER_DEFINED_BYTES {
            return Err(ChannelError::BadSize);
        }
        Ok((pages(self.send_bytes)?, pages(self.receive_bytes)?))
    }
}

/// The ring in `pages` pages from page `first` of the buffer on.
fn ring<H: Hal>(
    buffer: &Arc<DmaBuffer<H>>,
    first: usize,
    pages: usize,
) -> Result<Memory<H>, ChannelError> {
    let offset = first * HV_PAGE_SIZE;
    let bytes = pages * HV_PAGE_SIZE;
    if offset + bytes > buffer.byte_len() {
        return Err(ChannelError::BadSize);
    }
    // SAFETY: `offset` is in the buffer, see above.
    let base = unsafe { buffer.address().add(offset) };
    // SAFETY: the memory is the buffer's, which the ring keeps alive, and nobody else in the guest touches it.
    unsafe { FlatMemory::new(base, bytes, buffer.clone()) }.map_err(|_| ChannelError::BadSize)
}

/// A channel whose rings the host knows. Dropped, it is closed, and the memory taken back.
struct Opening<H: Hal> {
    rings: Option<Grant<H>>,
    /// Whether the host was asked to open the channel, and may have.
    asked: bool,
}

impl<H: Hal> Opening<H> {
    async fn ask(
        mut self,
        params: &OpenParams<'_>,
        version: VmbusVersion,
        send_pages: usize,
    ) -> Result<Grant<H>, ChannelError> {
        let rings = self.rings.as_ref().ok_or(ChannelError::NoChannel)?;
        let claim = rings.claim.clone();
        let shared = claim.shared();
        let channel = claim.channel();
        let openid = shared.new_openid();
        let target_vp = params.target_vp.unwrap_or_else(|| shared.hal.vp_index());
        let mut userdata = [0; VMBUS_USER_DEFINED_BYTES];
        for (byte, given) in userdata.iter_mut().zip(params.user_data) {
            *byte = *given;
        }
        let message = OpenChannel {
            header: MessageHeader::new(OpenChannel::TYPE),
            child_relid: channel.relid(),
            openid,
            ringbuffer_gpadlhandle: rings.gpadl,
            target_vp: if version >= VmbusVersion::V2_4 { target_vp } else { 0 },
            downstream_ringbuffer_pageoffset: send_pages as u32,
            userdata,
        };
        self.asked = true;
        let expected = Expected::Opened { channel, openid };
        let answer = shared.request(&claim.life, expected, [message.as_bytes()]).await?;
        let opened = status(answer, Request::Open);
        if matches!(opened, Err(ChannelError::Refused(..))) {
            self.asked = false;
        }
        opened?;
        self.rings.take().ok_or(ChannelError::NoChannel)
    }
}

impl<H: Hal> Drop for Opening<H> {
    fn drop(&mut self) {
        let Some(rings) = self.rings.take() else { return };
        let claim = rings.claim.clone();
        let ending = Arc::new(Ending::default());
        let chore =
            if self.asked { Chore::Close(rings, ending) } else { Chore::TakeBack(rings, ending) };
        claim.shared().leave(chore);
    }
}
