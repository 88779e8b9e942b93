//! Rings: packets at every offset, rings that are full, and rings whose guest lies.

use alloc::format;
use alloc::vec::Vec;
use core::cell::Cell;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::storvsp::{Operation, VstorStatus};
use hv_abi::vmbus::message::{CloseChannel, OpenChannel, VmbusMessage};
use hv_abi::vmbus::offer::VMBUS_USER_DEFINED_BYTES;
use hv_abi::vmbus::packet::{GpaRangeHeader, control};
use vmbus_ring::OutgoingPacket;
use vsc_drivers::task::{beside, sleep_until, within};
use vsc_drivers::{ChannelError, DmaBuffer, Hal, Offer, OpenParams, SECOND_100NS};

use crate::macros::cases;
use crate::raw::{gpadl_of, header, hostile, teardown, tell};
use crate::scsi_client::{Scsi, with_fresh_channel};
use crate::support::{Connected, check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// An operation that is answered, with a refusal, and does nothing.
const ECHO: Operation = Operation(99);
/// A number that the driver uses for none of its own.
const GPADL: u32 = 0x7000_0001;
/// Pages of rings that are made by hand, half of them for each direction.
const PAGES: usize = 8;
/// Packets until a ring of a page has had one at each multiple of eight bytes, and more.
const ROUNDS: u64 = 600;

async fn one_page<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&mut Scsi<E>) -> CaseResult,
) -> CaseResult {
    with_fresh_channel(environment, 1, body).await
}

impl<E: Environment> Scsi<E> {
    /// Sends a packet that is answered, if there is room.
    fn try_echo(&self, transaction: u64, payload: &[u8]) -> Result<(), ChannelError> {
        let payload = [payload];
        let packet = OutgoingPacket::in_band(transaction, &payload).with_completion();
        self.channel.try_send(&packet)
    }
}

cases! { one_page:
    /// A ring of a page is gone round until packets have begun, and been cut, at every offset that there is.
    async fn packets_begin_at_every_offset(_, scsi) {
        for round in 0..ROUNDS {
            let reply = scsi.ask(ECHO, &[]).await?;
            check(reply.status != VstorStatus::SUCCESS, || format!("round {round}: {reply:?}"))?;
        }
        Ok(())
    }

    /// Nobody reads the answers: their ring fills, then the other. All come, in order, once they are read.
    async fn answers_wait_for_room_and_none_is_lost(_, scsi) {
        let packet = scsi.packet(ECHO, &[]);
        let (mut sent, mut patience) = (0, 0);
        while sent < 5000 && patience < 200 {
            match scsi.try_echo(sent, &packet) {
                Ok(()) => (sent, patience) = (sent + 1, 0),
                Err(ChannelError::Full) => {
                    // The host may be about to take some.
                    patience += 1;
                    let hal = scsi.channel.hal();
                    let soon = hal.now_100ns() + SECOND_100NS / 2000;
                    sleep_until(hal, soon).await;
                }
                Err(error) => return Err(failed("send")(error)),
            }
        }
        for expected in 0..sent {
            let reply = scsi.reply().await?;
            check(reply.transaction == expected, || {
                format!("answer {} instead of {expected} of {sent}", reply.transaction)
            })?;
        }
        Ok(())
    }

    /// The guest waits for room with the pending send size while it goes on reading, and is told when there is some.
    async fn a_guest_that_waits_for_room_is_told(_, scsi) {
        let (packet, answered) = (scsi.packet(ECHO, &[]), Cell::new(0));
        let read = async || {
            while scsi.reply().await.is_ok() {
                answered.set(answered.get() + 1);
            }
        };
        for transaction in 0..400 {
            while let Err(error) = scsi.try_echo(transaction, &packet) {
                check(error == ChannelError::Full, || format!("send: {error}"))?;
                let room = scsi.channel.wait_for_room(packet.len() as u32 + 24);
                let room = within(scsi.channel.hal(), 10 * SECOND_100NS, beside(read(), room));
                let room = room.await.map_err(|_| Problem::Fail("nobody tells of room".into()))?;
                room.map_err(failed("room"))?;
            }
        }
        while answered.get() < 400 {
            scsi.reply().await?;
            answered.set(answered.get() + 1);
        }
        Ok(())
    }

    /// Packets of all lengths that a request may have, the longer ones with bytes that nobody reads.
    async fn packets_of_every_length_keep_their_bounds(_, scsi) {
        let short = scsi.packet(ECHO, &[]);
        for more in 0..128 {
            let mut packet = short.clone();
            packet.resize(short.len() + more, 0xEE);
            let transaction = scsi.transaction();
            scsi.try_echo(transaction, &packet).map_err(failed("send"))?;
            let reply = scsi.reply().await?;
            check(reply.transaction == transaction, || format!("{more} more: {reply:?}"))?;
        }
        Ok(())
    }
}

/// Where the two rings begin.
const RINGS: [usize; 2] = [0, PAGES / 2 * HV_PAGE_SIZE];

/// Rings with these words in them, at offsets from the first ring's beginning.
fn rings<E: Environment>(
    environment: &E,
    words: &[(usize, u32)],
) -> Result<DmaBuffer<E::Hal>, Problem> {
    let Some(pages) = DmaBuffer::new(&environment.hal(), PAGES) else { return skip("no memory") };
    for &(offset, word) in words {
        pages.write(offset, &word.to_le_bytes()).map_err(failed("write"))?;
    }
    Ok(pages)
}

/// Lends a channel's host rings that the guest has written into, opens the channel with them, closes it, and takes them back.
async fn open_and_close<H: Hal>(hal: &H, offer: &Offer, pages: &DmaBuffer<H>) -> CaseResult {
    let numbers: Vec<_> = pages.page_numbers().collect();
    let range = GpaRangeHeader { byte_count: (PAGES * HV_PAGE_SIZE) as u32, byte_offset: 0 };
    let channel = offer.channel.relid();
    gpadl_of(hal, channel, GPADL, range, &numbers).await?;
    let open = OpenChannel {
        header: header(OpenChannel::TYPE),
        child_relid: channel,
        openid: 0x4000_0001,
        ringbuffer_gpadlhandle: GPADL,
        target_vp: 0,
        downstream_ringbuffer_pageoffset: PAGES as u32 / 2,
        userdata: [0; VMBUS_USER_DEFINED_BYTES],
    };
    tell(hal, &open).await?;
    // For a host that has not looked.
    let _ = hal.signal_event(offer.connection, 0);
    let header = header(CloseChannel::TYPE);
    tell(hal, &CloseChannel { header, child_relid: channel }).await?;
    teardown(hal, channel, GPADL).await
}

/// Guests that break a channel's rings, each on a connection of its own.
///
/// A host that sees it before the channel is closed may take the device back from that guest for good. Whoever connects then has it.
struct Breakers<'a, E: Environment> {
    environment: &'a E,
    /// What they lent. The host has done with it when it has answered the next one.
    lent: Vec<DmaBuffer<E::Hal>>,
}

impl<E: Environment> Breakers<'_, E> {
    /// One guest for each ring: these words stand in it.
    async fn each_ring(&mut self, words: &[(usize, u32)]) -> CaseResult {
        for ring in RINGS {
            let words: Vec<_> = words.iter().map(|&(offset, word)| (ring + offset, word)).collect();
            self.lent.push(rings(self.environment, &words)?);
            let Some(pages) = self.lent.last() else { continue };
            connected(self.environment, async |connected| {
                let offer = usable(&connected).await?;
                open_and_close(&self.environment.hal(), &offer, pages).await
            })
            .await?;
        }
        Ok(())
    }
}

/// The first channel, which has been opened and closed in the ordinary way.
async fn usable<E: Environment>(connected: &Connected<'_, E>) -> Result<Offer, Problem> {
    let Some(offer) = connected.offers.first() else { return skip("the host offers nothing") };
    let opened = connected.bus.open(offer.channel, &OpenParams::default()).await;
    let channel = opened.map_err(failed("opening a channel"))?;
    channel.close().await.map_err(failed("closing a channel"))?;
    Ok(offer.clone())
}

async fn broken<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&mut Breakers<'_, E>) -> CaseResult,
) -> CaseResult {
    let mut breakers = Breakers { environment, lent: Vec::new() };
    let done = body(&mut breakers).await;
    let last = connected(environment, async |connected| usable(&connected).await.map(drop)).await;
    done.and(last)
}

cases! { broken:
    /// Indices behind the end of the data.
    async fn indices_outside_a_ring_do_no_harm(_, guests) {
        for index in [0x3000, 0x8000_0000, u32::MAX] {
            guests.each_ring(&[(control::WRITE_INDEX, index)]).await?;
            guests.each_ring(&[(control::READ_INDEX, index)]).await?;
        }
        Ok(())
    }

    /// Indices within a packet's eight bytes.
    async fn indices_that_are_not_aligned_do_no_harm(_, guests) {
        for index in [1, 4, 0xFF9] {
            guests.each_ring(&[(control::WRITE_INDEX, index), (control::READ_INDEX, 0)]).await?;
        }
        Ok(())
    }

    /// Packets of no length, of more than there is, whose payload begins behind their end.
    async fn packets_whose_lengths_lie_do_no_harm(_, guests) {
        // Type 6 and where the payload begins; the whole length and flags: all in units of eight bytes.
        for (first, second) in [(0x0002_0006, 0), (0x0002_0006, 0xFFFF), (0xFFFF_0006, 4), (0x0002_0006, 1)] {
            let packet = [(HV_PAGE_SIZE, first), (HV_PAGE_SIZE + 4, second)];
            let words = [packet[0], packet[1], (control::WRITE_INDEX, 48)];
            guests.each_ring(&words).await?;
        }
        Ok(())
    }
}

cases! { hostile:
    /// A ring that asks for more room than it has, with all bits of its features set. It is not broken, and the channel stays.
    async fn an_absurd_wish_for_room_does_no_harm(environment, bus) {
        for ring in RINGS {
            let wish = [
                (ring + control::PENDING_SEND_SZ, u32::MAX),
                (ring + control::FEATURE_BITS, u32::MAX),
            ];
            let pages = rings(environment, &wish)?;
            open_and_close(&bus.hal, &bus.offer, &pages).await?;
            // Lent, opened, taken back: each is answered.
            bus.answered(3).await?;
            check(pages.pages() == PAGES, || "the memory is there until now".into())?;
        }
        Ok(())
    }
}
