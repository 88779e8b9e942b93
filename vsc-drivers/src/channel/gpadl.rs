//! Telling the host of memory: a GPADL, in one message or many.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::VMBUS_MAX_MESSAGE_BYTES;
use hv_abi::vmbus::message::{GpadlBody, GpadlHeader, MessageHeader, VmbusMessage};
use hv_abi::vmbus::packet::GpaRangeHeader;
use zerocopy::IntoBytes;

use super::status;
use crate::bus::{
    Answer, BusError, ChannelError, Chore, Claim, Ending, Expected, Grant, Keep, Request,
};
use crate::hal::{DmaBuffer, Hal};

/// The most pages of a GPADL: all its bytes are counted by 16 bits.
pub(super) const MAX_PAGES: usize =
    (u16::MAX as usize - size_of::<GpaRangeHeader>()) / size_of::<u64>();

/// A message of the guest.
type Message = Vec<u8>;

/// The messages that make a GPADL of one range, which begins and ends with a page.
fn messages(
    child_relid: u32,
    gpadl: u32,
    mut pages: impl ExactSizeIterator<Item = u64>,
) -> Result<Vec<Message>, ChannelError> {
    let count = pages.len();
    if count == 0 || count > MAX_PAGES {
        return Err(ChannelError::BadSize);
    }
    let range_bytes = size_of::<GpaRangeHeader>() + count * size_of::<u64>();
    let header = GpadlHeader {
        header: MessageHeader::new(GpadlHeader::TYPE),
        child_relid,
        gpadl,
        range_buflen: range_bytes as u16,
        rangecount: 1,
    };
    let range = GpaRangeHeader { byte_count: (count * HV_PAGE_SIZE) as u32, byte_offset: 0 };
    let mut first = header.as_bytes().to_vec();
    first.extend(range.as_bytes());
    fill(&mut first, &mut pages);
    let mut all = Vec::from([first]);
    while pages.len() > 0 {
        // Linux leaves the messages' number 0, and hosts ignore it.
        let header = MessageHeader::new(GpadlBody::TYPE);
        let mut body = GpadlBody { header, msgnumber: 0, gpadl }.as_bytes().to_vec();
        fill(&mut body, &mut pages);
        all.push(body);
    }
    Ok(all)
}

/// Adds as many page numbers as fit.
fn fill(message: &mut Message, pages: &mut impl Iterator<Item = u64>) {
    let room = (VMBUS_MAX_MESSAGE_BYTES - message.len()) / size_of::<u64>();
    for page in pages.take(room) {
        message.extend(page.to_le_bytes());
    }
}

/// Makes a GPADL of `buffer` for the channel of `claim`.
pub(super) async fn create<H: Hal>(
    claim: &Arc<Claim<H>>,
    buffer: &Arc<DmaBuffer<H>>,
) -> Result<Grant<H>, ChannelError> {
    claim.life.check()?;
    let shared = claim.shared();
    let gpadl = shared.new_gpadl();
    let channel = claim.channel();
    let messages = messages(channel.relid(), gpadl, buffer.page_numbers())?;
    let keep = Keep::new(buffer.clone());
    // From the first message on the host may know the memory, whatever else happens.
    let told = Told(Some(Grant { gpadl, claim: claim.clone(), keep }));
    let expected = Expected::Created { channel, gpadl };
    let mut begun = 0;
    let counted = messages.into_iter().inspect(|_| begun += 1);
    let answer = shared.request(&claim.life, expected, counted).await;
    let never_known = match &answer {
        Ok(Answer::Status(status)) => *status != 0,
        Err(BusError::Post(_)) => begun <= 1,
        _ => false,
    };
    if never_known {
        told.take()?.keep.free();
        answer.map_err(ChannelError::from).and_then(|answer| status(answer, Request::Gpadl))?;
        return Err(ChannelError::Disconnected);
    }
    status(answer?, Request::Gpadl)?;
    told.take()
}

/// A GPADL that is taken back if it is not taken over.
struct Told<H: Hal>(Option<Grant<H>>);

impl<H: Hal> Told<H> {
    fn take(mut self) -> Result<Grant<H>, ChannelError> {
        self.0.take().ok_or(ChannelError::NoMemory)
    }
}

impl<H: Hal> Drop for Told<H> {
    fn drop(&mut self) {
        if let Some(grant) = self.0.take() {
            let claim = grant.claim.clone();
            claim.shared().leave(Chore::TakeBack(grant, Arc::new(Ending::default())));
        }
    }
}

#[cfg(test)]
mod tests;
