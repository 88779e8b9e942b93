//! Ending an adapter: cleanly with the host's help, or without.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::Poll;

use hv_abi::nvsp::{
    NVSP_RECEIVE_BUFFER_ID, NVSP_SEND_BUFFER_ID, NvspMessage, NvspRevokeReceiveBuffer,
    NvspRevokeSendBuffer,
};
use hv_abi::rndis::PacketFilter;
use hv_abi::vmbus::version::VmbusVersion;
use zerocopy::IntoBytes;

use super::adapter::Adapter;
use super::error::NetError;
use super::holder::Holder;
use super::requests;
use crate::hal::Hal;
use crate::task::sleep_until;

/// How often to look whether others have let go of a thing, in units of 100 ns.
const LOOK_AGAIN_100NS: u64 = crate::SECOND_100NS / 1000;

impl<H: Hal> Adapter<H> {
    /// Sends what was taken, stops the host, and takes channels and buffers back.
    pub(super) async fn stop(&self) -> Result<(), NetError> {
        let told = match self.end() {
            Some(end) => Err(end),
            None => self.meanwhile(self.tell_the_host()).await,
        };
        self.finish(NetError::Stopped);
        self.close().await;
        told
    }

    async fn tell_the_host(&self) -> Result<(), NetError> {
        self.in_time(self.drained()).await?;
        self.set_filter(PacketFilter::empty()).await?;
        let turn = self.control.turn(&self.hal).await;
        let halt = requests::halt(turn.request());
        self.send_rndis(&turn, &halt).await?;
        self.in_time(turn.completion()).await?;
        drop(turn);
        let revoke = NvspRevokeReceiveBuffer {
            msg_type: NvspRevokeReceiveBuffer::TYPE,
            id: NVSP_RECEIVE_BUFFER_ID,
            _reserved: 0,
        };
        self.tell(revoke.as_bytes()).await?;
        if self.send_buffer.get().is_some() {
            let revoke = NvspRevokeSendBuffer {
                msg_type: NvspRevokeSendBuffer::TYPE,
                id: NVSP_SEND_BUFFER_ID,
                _reserved: 0,
            };
            self.tell(revoke.as_bytes()).await?;
        }
        self.in_time(self.read()).await?
    }

    /// Waits until the host has read all packets: the last ones have no completion (FreeBSD, `hn_nvs_disconn_rxbuf`).
    async fn read(&self) -> Result<(), NetError> {
        let channel = self.primary.channel.get().ok_or(NetError::Stopped)?;
        while channel.unread_bytes()? != 0 {
            let now = self.hal.now_100ns();
            sleep_until(&self.hal, now.saturating_add(LOOK_AGAIN_100NS)).await;
        }
        Ok(())
    }

    /// Waits until the host has done with all frames.
    async fn drained(&self) {
        for queue in self.queues() {
            // What goes wrong, the channel's task will find too.
            let _ = queue.flush();
        }
        poll_fn(|context| {
            self.queues().for_each(|queue| queue.room.listen(&self.hal, context.waker()));
            let idle = self.queues().all(|queue| queue.is_idle());
            if idle { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Gives channels and buffers back in the order that the version of the bus wants (`netvsc_device_remove`), and waits for it.
    async fn close(&self) {
        let primary = self.primary.channel.get();
        let version = primary.map_or(VmbusVersion::V4_0, |channel| channel.version());
        self.queues().for_each(|queue| queue.forget());
        if version < VmbusVersion::V4_0 {
            self.unshare().await;
        }
        for queue in self.queues().skip(1).chain([&self.primary]) {
            if let Some(channel) = queue.channel.take() {
                // Nothing is lost that could be saved: the bus keeps what the host may still use.
                let _ = channel.close().await;
            }
        }
        self.unshare().await;
        self.control.release_pages();
    }

    async fn unshare(&self) {
        if let Some(buffer) = self.last(&self.receive_buffer).await {
            let _ = buffer.unshare().await;
        }
        if let Some(buffer) = self.last(&self.send_buffer).await {
            let _ = buffer.memory.unshare().await;
        }
    }

    /// What `holder` has, once nobody else uses it; whoever still does after the time limit ends it by dropping it.
    async fn last<T>(&self, holder: &Holder<T>) -> Option<T> {
        let mut value = holder.take()?;
        let end = self.hal.now_100ns().saturating_add(self.options.time_limit_100ns);
        loop {
            value = match Arc::try_unwrap(value) {
                Ok(last) => return Some(last),
                Err(shared) => shared,
            };
            let now = self.hal.now_100ns();
            if now >= end {
                return None;
            }
            sleep_until(&self.hal, now.saturating_add(LOOK_AGAIN_100NS)).await;
        }
    }

    /// Ends the adapter without a word: what it has is given back in the background.
    pub(super) fn abandon(&self, reason: NetError) {
        self.finish(reason);
        for queue in self.queues().skip(1).chain([&self.primary]) {
            drop(queue.channel.take());
            queue.forget();
        }
        drop(self.receive_buffer.take());
        drop(self.send_buffer.take());
        self.control.release_pages();
    }
}
