//! The conversation with which a controller begins: version, properties, sub-channels.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::storvsp::{
    ChannelProperties, IDE_GUID, Operation, ProtocolVersion, SRB_BYTES,
    STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL, StorvspVersion, VstorStatus,
};
use zerocopy::{FromBytes, IntoBytes};

use super::buffer::Lent;
use super::controller::{Controller, Place};
use super::error::{DiskErrorKind, StartError};
use super::inventory::Inventory;
use super::notices::Notices;
use super::options::StorOptions;
use super::queue::Queue;
use super::slots::{Address, Answer, Request};
use crate::bus::{ChannelError, ChannelId, Offer, Vmbus};
use crate::channel::OpenParams;
use crate::hal::Hal;

/// Bytes that a host may leave a request's data at, at least: one page.
const MIN_TRANSFER_BYTES: u32 = HV_PAGE_SIZE as u32;
/// Bytes of a packet with one page of data: descriptors, ranges, payload, trailer.
const PACKET_BYTES: usize = 16 + 8 + 8 + 64 + 8;

/// Opens the primary channel.
pub(super) async fn open<H: Hal>(
    bus: &Vmbus<H>,
    channel: ChannelId,
    options: &StorOptions,
    index: u16,
    notices: &Arc<Notices>,
) -> Result<Queue<H>, ChannelError> {
    // Linux gives the properties' structure, all zeros.
    let user_data = ChannelProperties::default();
    let params = OpenParams {
        send_bytes: options.ring_bytes,
        receive_bytes: options.ring_bytes,
        user_data: user_data.as_bytes(),
        target_vp: options.vp(index),
        ..OpenParams::default()
    };
    let channel = bus.open(channel, &params).await?;
    Ok(Queue::new(channel, options, notices.clone()))
}

/// What was agreed.
pub(super) struct Agreed {
    version: StorvspVersion,
    properties: ChannelProperties,
}

/// Agrees on a version and asks for the properties.
pub(super) async fn negotiate<H: Hal>(
    queue: &Queue<H>,
    options: &StorOptions,
) -> Result<Agreed, StartError> {
    ask(queue, options, Operation::BEGIN_INITIALIZATION, &[]).await?;
    let version = agree(queue, options).await?;
    queue.set_version(version);
    let answer = ask(queue, options, Operation::QUERY_PROPERTIES, &[]).await?;
    let properties = ChannelProperties::read_from_prefix(&answer.payload)
        .ok()
        .filter(|_| answer.len >= size_of::<ChannelProperties>())
        .ok_or(StartError::BadReply(Operation::QUERY_PROPERTIES))?
        .0;
    ask(queue, options, Operation::END_INITIALIZATION, &[]).await?;
    Ok(Agreed { version, properties })
}

async fn agree<H: Hal>(
    queue: &Queue<H>,
    options: &StorOptions,
) -> Result<StorvspVersion, StartError> {
    for version in options.versions() {
        let question = ProtocolVersion { major_minor: version, revision: 0 };
        let operation = Operation::QUERY_PROTOCOL_VERSION;
        match ask(queue, options, operation, question.as_bytes()).await {
            Ok(_) => return Ok(version),
            Err(StartError::Refused(..)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StartError::NoVersion)
}

/// One step: the answer, if it is one and says that all is well.
async fn ask<H: Hal>(
    queue: &Queue<H>,
    options: &StorOptions,
    operation: Operation,
    data: &[u8],
) -> Result<Answer, StartError> {
    let mut payload = [0; SRB_BYTES];
    payload.iter_mut().zip(data).for_each(|(to, byte)| *to = *byte);
    let limit = options.request_limit_100ns;
    let deadline_100ns = queue.hal().now_100ns().saturating_add(limit);
    let address = Address::default();
    let request = Request { operation, payload, address, piece: None, deadline_100ns };
    let exchange = queue.exchange(request, Lent::Nothing);
    let answered = crate::task::within(queue.hal(), limit, exchange).await;
    let answer = match answered.map(|outcome| outcome.result) {
        Ok(Ok(answer)) => answer,
        Ok(Err(DiskErrorKind::Gone)) => return Err(StartError::Ended),
        _ => return Err(StartError::TimedOut(operation)),
    };
    if answer.header.operation != Operation::COMPLETE_IO {
        return Err(StartError::BadReply(operation));
    }
    match answer.header.status {
        VstorStatus::SUCCESS => Ok(answer),
        status => Err(StartError::Refused(operation, status)),
    }
}

/// Opens as many sub-channels as the host and the options allow. Those that fail are done without.
pub(super) async fn sub_channels<H: Hal>(
    bus: &Vmbus<H>,
    primary: &Queue<H>,
    options: &StorOptions,
    agreed: &Agreed,
    notices: &Arc<Notices>,
) -> Vec<Queue<H>> {
    let properties = agreed.properties;
    let is_offered = agreed.version >= StorvspVersion::V5_1
        && properties.flags & STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL != 0;
    let wanted = options.channels.saturating_sub(1).min(properties.max_channel_cnt);
    let mut queues = Vec::new();
    if !is_offered || wanted == 0 {
        return queues;
    }
    let count = wanted.to_le_bytes();
    if ask(primary, options, Operation::CREATE_SUB_CHANNELS, &count).await.is_err() {
        return queues;
    }
    for index in 1..=wanted {
        let Ok(channel) = primary.channel().sub_channel(index).await else { break };
        match open(bus, channel, options, index, notices).await {
            Ok(queue) => {
                queue.set_version(agreed.version);
                queues.push(queue);
            }
            Err(_) => break,
        }
    }
    queues
}

/// The controller of these channels.
pub(super) fn controller<H: Hal>(
    bus: &Vmbus<H>,
    queues: Vec<Queue<H>>,
    options: StorOptions,
    agreed: &Agreed,
    notices: Arc<Notices>,
    place: Place,
) -> Result<Controller<H>, StartError> {
    let max_transfer_bytes = max_transfer_bytes(&options, agreed.properties.max_transfer_bytes)
        .ok_or(StartError::BadReply(Operation::QUERY_PROPERTIES))?;
    Ok(Controller {
        queues,
        hal: bus.hal().clone(),
        notices,
        inventory: Inventory::new(),
        options,
        version: agreed.version,
        max_transfer_bytes,
        place,
    })
}

/// Bytes of one request: what host and options allow, in whole pages, and so that several requests fit in the ring. `None` if that is
/// less than a page.
fn max_transfer_bytes(options: &StorOptions, host: u32) -> Option<u32> {
    let pages_in_ring = (options.ring_bytes / 4).checked_sub(PACKET_BYTES)? / size_of::<u64>();
    let ring_bytes = u32::try_from(pages_in_ring.checked_mul(HV_PAGE_SIZE)?).unwrap_or(u32::MAX);
    let bytes = host.min(options.max_transfer_bytes).min(ring_bytes);
    let whole = bytes - bytes % MIN_TRANSFER_BYTES;
    (whole > 0).then_some(whole)
}

/// Where the units of an offered controller are.
pub(super) fn place(offer: &Offer) -> Place {
    if offer.interface != IDE_GUID {
        return Place::Target(Address::default());
    }
    // As Linux does (`storvsc_probe`); the target's number has 16 bits there, but the protocol has 8.
    let [_, _, _, _, target, ..] = offer.instance.0;
    Place::Unit(Address { path: 0, target, lun: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_long_as_host_options_and_ring_allow() {
        let options = StorOptions::default();
        assert_eq!(max_transfer_bytes(&options, u32::MAX), Some(1 << 20));
        assert_eq!(max_transfer_bytes(&options, 0x4_0000), Some(0x4_0000));
        assert_eq!(max_transfer_bytes(&options, 0x4_0FFF), Some(0x4_0000));
        let small = StorOptions { ring_bytes: 4096, ..options };
        assert_eq!(max_transfer_bytes(&small, u32::MAX), Some(115 * 4096));
    }

    #[test]
    fn a_host_that_takes_less_than_a_page_is_refused() {
        assert_eq!(max_transfer_bytes(&StorOptions::default(), 0), None);
        assert_eq!(max_transfer_bytes(&StorOptions::default(), 4095), None);
    }
}
