//! Memory lent by messages that make no sense. What was refused is not there: its teardown has no answer.

use alloc::vec;
use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::message::{GpadlBody, VmbusMessage};
use hv_abi::vmbus::packet::GpaRangeHeader;
use vsc_drivers::{DmaBuffer, OpenParams};
use zerocopy::IntoBytes;

use crate::macros::cases;
use crate::raw::{Hostile, gpadl, gpadl_of, header, hostile, post, teardown};
use crate::support::{failed, skip};
use crate::{CaseResult, Environment, Problem};

/// A number that the driver uses for none of its own.
const GPADL: u32 = 0x7000_0001;
const PAGE: u32 = HV_PAGE_SIZE as u32;

fn range(byte_offset: u32, byte_count: u32) -> GpaRangeHeader {
    GpaRangeHeader { byte_count, byte_offset }
}

fn pages<E: Environment>(
    bus: &Hostile<'_, E>,
    count: usize,
) -> Result<(DmaBuffer<E::Hal>, Vec<u64>), Problem> {
    let Some(buffer) = DmaBuffer::new(&bus.hal, count) else { return skip("no memory") };
    let numbers = buffer.page_numbers().collect();
    Ok((buffer, numbers))
}

/// One answer to the header, none to the teardown.
async fn refused<E: Environment>(bus: &mut Hostile<'_, E>) -> CaseResult {
    teardown(&bus.hal, bus.channel(), GPADL).await?;
    bus.answered(1).await
}

/// One answer to each.
async fn taken<E: Environment>(bus: &mut Hostile<'_, E>) -> CaseResult {
    teardown(&bus.hal, bus.channel(), GPADL).await?;
    bus.answered(2).await
}

cases! { hostile:
    /// It would be of no memory.
    async fn a_gpadl_without_ranges_is_refused(_, bus) {
        gpadl(&bus.hal, bus.channel(), GPADL, (0, 0), &[]).await?;
        refused(bus).await
    }

    /// ... as would one of no bytes.
    async fn a_range_without_bytes_is_refused(_, bus) {
        let (_pages, numbers) = pages(bus, 1)?;
        gpadl_of(&bus.hal, bus.channel(), GPADL, range(0, 0), &numbers).await?;
        refused(bus).await
    }

    /// A range has a header and a page at least.
    async fn a_list_shorter_than_its_ranges_is_refused(_, bus) {
        let (_pages, numbers) = pages(bus, 1)?;
        let list = [range(0, PAGE).as_bytes(), numbers.as_bytes()].concat();
        for (ranges, bytes) in [(1, 0), (1, 8), (2, 16), (100, 16), (u16::MAX, 16)] {
            gpadl(&bus.hal, bus.channel(), GPADL, (ranges, bytes), &list).await?;
            refused(bus).await?;
        }
        Ok(())
    }

    /// More bytes than the pages that are named have.
    async fn a_range_longer_than_its_pages_is_refused(_, bus) {
        let (_pages, numbers) = pages(bus, 2)?;
        for bytes in [2 * PAGE + 1, 1 << 20, u32::MAX] {
            gpadl_of(&bus.hal, bus.channel(), GPADL, range(0, bytes), &numbers).await?;
            refused(bus).await?;
        }
        Ok(())
    }

    /// An offset is one within a page.
    async fn an_offset_beyond_the_first_page_is_refused(_, bus) {
        let (_pages, numbers) = pages(bus, 2)?;
        for offset in [PAGE, PAGE + 1, u32::MAX] {
            gpadl_of(&bus.hal, bus.channel(), GPADL, range(offset, PAGE), &numbers).await?;
            refused(bus).await?;
        }
        Ok(())
    }

    /// What the guest does not have it can't lend.
    async fn pages_that_are_no_memory_are_refused(_, bus) {
        for number in [1 << 40, (1 << 52) - 1, u64::MAX] {
            gpadl_of(&bus.hal, bus.channel(), GPADL, range(0, PAGE), &[number]).await?;
            refused(bus).await?;
        }
        let (_pages, mut numbers) = pages(bus, 3)?;
        numbers[1] = u64::MAX >> 12;
        gpadl_of(&bus.hal, bus.channel(), GPADL, range(0, 3 * PAGE), &numbers).await?;
        refused(bus).await
    }

    /// The number is 0, or the channel is none.
    async fn a_gpadl_needs_a_number_and_a_channel(_, bus) {
        let (_pages, numbers) = pages(bus, 1)?;
        gpadl_of(&bus.hal, bus.channel(), 0, range(0, PAGE), &numbers).await?;
        for channel in [0, 2047, u32::MAX] {
            gpadl_of(&bus.hal, channel, GPADL, range(0, PAGE), &numbers).await?;
        }
        bus.answered(4).await
    }

    /// The second of the same number is refused, the first stays.
    async fn a_number_in_use_is_refused(_, bus) {
        let opened = bus.bus().open(bus.offer.channel, &OpenParams::default()).await;
        let channel = opened.map_err(failed("open"))?;
        let (buffer, numbers) = pages(bus, 2)?;
        let shared = channel.share(buffer).await.map_err(failed("share"))?;
        gpadl_of(&bus.hal, bus.channel(), shared.gpadl(), range(0, 2 * PAGE), &numbers).await?;
        shared.unshare().await.map_err(failed("unshare"))?;
        channel.close().await.map_err(failed("close"))?;
        bus.answered(1).await
    }

    /// Part of a page, as a driver may lend it.
    async fn a_range_may_begin_and_end_within_pages(_, bus) {
        let (_pages, numbers) = pages(bus, 2)?;
        for (offset, bytes, count) in [(100, 300, 1), (4095, 1, 1), (4095, 2, 2), (1, PAGE, 2)] {
            let numbers = &numbers[..count];
            gpadl_of(&bus.hal, bus.channel(), GPADL, range(offset, bytes), numbers).await?;
            taken(bus).await?;
        }
        Ok(())
    }

    /// Several ranges in one list.
    async fn a_gpadl_may_have_several_ranges(_, bus) {
        let (_pages, numbers) = pages(bus, 3)?;
        let mut list = Vec::new();
        for number in &numbers {
            list.extend_from_slice(range(0, PAGE).as_bytes());
            list.extend_from_slice(number.as_bytes());
        }
        gpadl(&bus.hal, bus.channel(), GPADL, (3, list.len() as u16), &list).await?;
        taken(bus).await
    }

    /// A list that ends in the next message, and one of single pieces.
    async fn a_list_may_come_in_pieces_of_any_size(_, bus) {
        let (_pages, numbers) = pages(bus, 12)?;
        let list = [range(0, 12 * PAGE).as_bytes(), numbers.as_bytes()].concat();
        for (first, step) in [(104, 8), (8, 8), (8, 48), (48, 16)] {
            let whole = list.len() as u16;
            gpadl(&bus.hal, bus.channel(), GPADL, (1, whole), &list[..first]).await?;
            for (number, piece) in list[first..].chunks(step).enumerate() {
                let header = header(GpadlBody::TYPE);
                let body = GpadlBody { header, msgnumber: number as u32 + 1, gpadl: GPADL };
                post(&bus.hal, &[body.as_bytes(), piece].concat()).await?;
            }
            taken(bus).await?;
        }
        Ok(())
    }

    /// A continuation of what was not begun.
    async fn a_body_without_a_header_is_ignored(_, bus) {
        let body = GpadlBody { header: header(GpadlBody::TYPE), msgnumber: 1, gpadl: GPADL };
        post(&bus.hal, &[body.as_bytes(), &[0; 64]].concat()).await?;
        post(&bus.hal, body.as_bytes()).await?;
        bus.answered(0).await
    }

    /// Never lent, taken back already, another channel's.
    async fn a_teardown_of_nothing_is_ignored(_, bus) {
        for gpadl in [0, GPADL, u32::MAX] {
            teardown(&bus.hal, bus.channel(), gpadl).await?;
            teardown(&bus.hal, 2047, gpadl).await?;
        }
        bus.answered(0).await?;
        let (_pages, numbers) = pages(bus, 1)?;
        gpadl_of(&bus.hal, bus.channel(), GPADL, range(0, PAGE), &numbers).await?;
        teardown(&bus.hal, bus.channel(), GPADL).await?;
        teardown(&bus.hal, bus.channel(), GPADL).await?;
        bus.answered(2).await
    }

    /// Lists that are never ended do not keep others from coming, and go with the connection.
    async fn lists_that_are_never_ended_are_forgotten(_, bus) {
        let list = vec![0; 64];
        for number in 0..100 {
            gpadl(&bus.hal, bus.channel(), GPADL + number, (1, 0x8000), &list).await?;
        }
        bus.answered(0).await
    }

    /// The same number for other memory, at once after the first was taken back.
    async fn a_number_can_be_used_again(_, bus) {
        let (_pages, numbers) = pages(bus, 4)?;
        for number in &numbers {
            gpadl_of(&bus.hal, bus.channel(), GPADL, range(0, PAGE), &[*number]).await?;
            taken(bus).await?;
        }
        Ok(())
    }
}
