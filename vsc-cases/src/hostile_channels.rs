//! Channels opened, closed and moved by messages that make no sense.

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::message::{CloseChannel, ModifyChannel, OpenChannel, VmbusMessage};
use hv_abi::vmbus::offer::VMBUS_USER_DEFINED_BYTES;
use hv_abi::vmbus::packet::GpaRangeHeader;
use hv_abi::vmbus::version::VmbusVersion;
use vsc_drivers::{DmaBuffer, OpenParams};

use crate::macros::cases;
use crate::raw::{Hostile, gpadl_of, header, hostile, teardown, tell};
use crate::support::{check, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// A number that the driver uses for none of its own.
const GPADL: u32 = 0x7000_0001;
/// Pages of rings that are made by hand.
const PAGES: usize = 8;

fn open(channel: u32, gpadl: u32, offset: u32, vp: u32) -> OpenChannel {
    OpenChannel {
        header: header(OpenChannel::TYPE),
        child_relid: channel,
        openid: 0x4000_0000,
        ringbuffer_gpadlhandle: gpadl,
        target_vp: vp,
        downstream_ringbuffer_pageoffset: offset,
        userdata: [0; VMBUS_USER_DEFINED_BYTES],
    }
}

fn whole(pages: usize) -> GpaRangeHeader {
    GpaRangeHeader { byte_count: (pages * HV_PAGE_SIZE) as u32, byte_offset: 0 }
}

impl<E: Environment> Hostile<'_, E> {
    fn close_message(&self, child_relid: u32) -> CloseChannel {
        CloseChannel { header: header(CloseChannel::TYPE), child_relid }
    }

    fn pages(&self) -> Result<DmaBuffer<E::Hal>, Problem> {
        DmaBuffer::new(&self.hal, PAGES).map_or_else(|| skip("no memory"), Ok)
    }

    /// Lends pages to the first channel, tries to open it so, and takes them back: three answers in all.
    async fn try_rings(&mut self, offset: u32, vp: u32) -> CaseResult {
        let pages = self.pages()?;
        let numbers: alloc::vec::Vec<_> = pages.page_numbers().collect();
        let channel = self.channel();
        gpadl_of(&self.hal, channel, GPADL, whole(PAGES), &numbers).await?;
        tell(&self.hal, &open(channel, GPADL, offset, vp)).await?;
        teardown(&self.hal, channel, GPADL).await
    }
}

cases! { hostile:
    /// Each is answered with a failure.
    async fn channels_that_do_not_exist_do_not_open(_, bus) {
        for channel in [0, 1500, 2047, 2048, u32::MAX] {
            tell(&bus.hal, &open(channel, GPADL, 1, 0)).await?;
        }
        bus.answered(5).await
    }

    /// A ring's memory must have been lent.
    async fn a_channel_does_not_open_without_memory(_, bus) {
        for gpadl in [0, GPADL, u32::MAX] {
            tell(&bus.hal, &open(bus.channel(), gpadl, 1, 0)).await?;
        }
        bus.answered(3).await
    }

    /// A second time is refused, and the first goes on.
    async fn an_open_channel_does_not_open_again(_, bus) {
        let opened = bus.bus().open(bus.offer.channel, &OpenParams::default()).await;
        let channel = opened.map_err(failed("open"))?;
        tell(&bus.hal, &open(bus.channel(), GPADL, 1, 0)).await?;
        channel.check().map_err(failed("the open channel"))?;
        channel.close().await.map_err(failed("close"))?;
        bus.answered(1).await
    }

    /// The ring from the host begins within the memory, and neither ring is empty.
    async fn rings_must_lie_within_their_memory(_, bus) {
        for offset in [0, 1, PAGES as u32 - 1, PAGES as u32, 0x10_0000, u32::MAX] {
            bus.try_rings(offset, 0).await?;
        }
        // Were it open now, the driver could not open it.
        bus.answered(6 * 3).await
    }

    /// From version 2.4 on a channel says which processor gets its signals.
    async fn a_channel_does_not_open_for_a_processor_that_is_not_there(_, bus) {
        if bus.version() < VmbusVersion::V2_4 {
            return skip(alloc::format!("the connection is {}", bus.version()));
        }
        for vp in [4096, 0xFFFF, u32::MAX - 1] {
            bus.try_rings(4, vp).await?;
        }
        bus.answered(3 * 3).await
    }

    /// Rings of one channel in the memory that was lent to another.
    async fn memory_of_one_channel_is_no_other_channels(_, bus) {
        let Some(other) = bus.connected.offers.get(1).cloned() else {
            return skip("the host offers fewer than two channels");
        };
        let pages = bus.pages()?;
        let numbers: alloc::vec::Vec<_> = pages.page_numbers().collect();
        gpadl_of(&bus.hal, other.channel.relid(), GPADL, whole(PAGES), &numbers).await?;
        tell(&bus.hal, &open(bus.channel(), GPADL, 4, 0)).await?;
        // Nor does another's teardown reach it.
        teardown(&bus.hal, bus.channel(), GPADL).await?;
        bus.answered(2).await?;
        teardown(&bus.hal, other.channel.relid(), GPADL).await?;
        bus.answered(1).await
    }

    /// Not open, or not there.
    async fn closing_what_is_not_open_does_nothing(_, bus) {
        for channel in [bus.channel(), bus.channel(), 0, 2047, u32::MAX] {
            let close = bus.close_message(channel);
            tell(&bus.hal, &close).await?;
        }
        bus.answered(0).await
    }

    /// Closed once more after it was closed, and opened at once.
    async fn a_channel_that_was_closed_twice_opens_again(_, bus) {
        for _ in 0..5 {
            let opened = bus.bus().open(bus.offer.channel, &OpenParams::default()).await;
            opened.map_err(failed("open"))?.close().await.map_err(failed("close"))?;
            let close = bus.close_message(bus.channel());
            tell(&bus.hal, &close).await?;
        }
        bus.answered(0).await
    }

    /// Only open channels have signals that could move; from 5.3 on the host says so.
    async fn signals_of_closed_channels_do_not_move(_, bus) {
        if bus.version() < VmbusVersion::V4_1 {
            return skip(alloc::format!("the connection is {}", bus.version()));
        }
        let channels = [bus.channel(), 0, 2047, u32::MAX];
        for child_relid in channels {
            let header = header(ModifyChannel::TYPE);
            tell(&bus.hal, &ModifyChannel { header, child_relid, target_vp: 0 }).await?;
        }
        let answers = if bus.version() >= VmbusVersion::V5_3 { channels.len() as u64 } else { 0 };
        bus.answered(answers).await
    }

    /// Rings that are those of an open channel too: two channels would write into the same memory.
    async fn rings_of_two_channels_do_not_overlap(_, bus) {
        let Some(other) = bus.connected.offers.get(1).cloned() else {
            return skip("the host offers fewer than two channels");
        };
        let pages = bus.pages()?;
        let numbers: alloc::vec::Vec<_> = pages.page_numbers().collect();
        let (one, two) = (bus.channel(), other.channel.relid());
        gpadl_of(&bus.hal, one, GPADL, whole(PAGES), &numbers).await?;
        gpadl_of(&bus.hal, two, GPADL + 1, whole(PAGES), &numbers).await?;
        tell(&bus.hal, &open(one, GPADL, 4, 0)).await?;
        // If this one is opened, the driver can't open it below.
        tell(&bus.hal, &open(two, GPADL + 1, 4, 0)).await?;
        let close = bus.close_message(one);
        tell(&bus.hal, &close).await?;
        teardown(&bus.hal, one, GPADL).await?;
        teardown(&bus.hal, two, GPADL + 1).await?;
        let opened = bus.bus().open(other.channel, &OpenParams::default()).await;
        let channel = opened.map_err(failed("open the other channel"))?;
        channel.close().await.map_err(failed("close the other channel"))?;
        bus.answered(6).await?;
        check(pages.pages() == PAGES, || "the memory is there until now".into())
    }
}
