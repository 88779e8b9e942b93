//! A card's protocol under frames: versions, buffers, and packets that are none of its own.

use alloc::format;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::nvsp::{
    NvspInitComplete, NvspMessage, NvspMessageType, NvspSendNdisConfig, NvspSendSendBuffer,
    NvspSendSendBufferComplete, NvspStatus, NvspSubchannelComplete, NvspSubchannelRequest,
    NvspVersion,
};
use vmbus_ring::OutgoingPacket;

use crate::card_client::{RECEIVE_PAGES, survives, with_channel};
use crate::macros::cases;
use crate::support::{check, skip};
use crate::{CaseResult, Environment};

/// A GPADL that nobody has made.
const NO_GPADL: u32 = 0x7000_0009;

/// Each alone, as Linux asks: it is agreed to as it is, or refused.
///
/// # Errors
///
/// As every case.
pub async fn every_version_is_agreed_to_or_refused<E: Environment>(environment: &E) -> CaseResult {
    let mut agreed = 0;
    for version in NvspVersion::ALL {
        with_channel(environment, async |card| {
            let answer = card.version(version, version).await?;
            agreed += u32::from(answer.is_some());
            check(answer.is_none_or(|it| it == version || it == NvspVersion::V1), || {
                format!("{answer:?} instead of {version:?}")
            })
        })
        .await?;
    }
    check(agreed > 0, || "no version is agreed to".into())
}

cases! { with_channel:
    /// It is refused, and another can be asked for on the same channel.
    async fn an_unknown_version_is_refused_and_another_can_be_had(_, card) {
        for unknown in [NvspVersion(0), NvspVersion(0x7_0000), NvspVersion(u32::MAX)] {
            let answer = card.version(unknown, unknown).await?;
            check(answer.is_none(), || format!("{unknown:?} is agreed to"))?;
        }
        let answer = card.version(NvspVersion::V1, NvspVersion::V1).await?;
        check(answer.is_some(), || "version 1 is refused after that".into())
    }

    /// One section from the beginning on, whose parts fit into it and it into the buffer.
    async fn a_receive_buffer_has_parts_within_it(_, card) {
        card.version(NvspVersion::V1, NvspVersion::V1).await?;
        let (status, sections, section) = card.lend_receive_buffer().await?;
        check((status, sections) == (NvspStatus::SUCCESS, 1), || format!("{status:?}, {sections}"))?;
        let parts = u64::from(section.sub_alloc_size) * u64::from(section.num_sub_allocs);
        let whole = (RECEIVE_PAGES * HV_PAGE_SIZE) as u64;
        let fits = section.offset == 0 && u64::from(section.end_offset) <= whole && parts <= whole;
        check(fits && section.num_sub_allocs > 0, || format!("{section:?}"))?;
        // A frame with its header must fit into a part.
        check(section.sub_alloc_size >= 1514, || format!("{section:?}"))
    }

    /// The answer says so, and nothing else happens.
    async fn buffers_that_were_not_lent_are_refused(_, card) {
        card.version(NvspVersion::V1, NvspVersion::V1).await?;
        for gpadl in [0, NO_GPADL, u32::MAX] {
            let (status, ..) = card.name_receive_buffer(gpadl).await?;
            check(status != NvspStatus::SUCCESS, || format!("receive buffer {gpadl:#x}"))?;
            let (msg_type, gpadl_handle) = (NvspSendSendBuffer::TYPE, gpadl);
            let message = NvspSendSendBuffer { msg_type, gpadl_handle, id: 0, _reserved: 0 };
            let answer: NvspSendSendBufferComplete = card.ask(&message).await?;
            check(answer.status != NvspStatus::SUCCESS, || format!("send buffer {gpadl:#x}"))?;
        }
        Ok(())
    }

    /// A card has one.
    async fn a_second_receive_buffer_is_refused(_, card) {
        card.version(NvspVersion::V1, NvspVersion::V1).await?;
        let (first, ..) = card.lend_receive_buffer().await?;
        let (second, ..) = card.lend_receive_buffer().await?;
        check(first == NvspStatus::SUCCESS && second != first, || format!("{first:?}, {second:?}"))
    }

    /// More than there are is answered with how many there are; something else than that is refused.
    async fn sub_channels_are_no_more_than_were_asked_for(_, card) {
        let version = card.version(NvspVersion::V5, NvspVersion::V5).await?;
        if version.is_none() {
            return skip("the host does not have version 5 of NVSP");
        }
        let ask = |op, num_subchannels| {
            let msg_type = NvspSubchannelRequest::TYPE;
            NvspSubchannelRequest { msg_type, op, num_subchannels }
        };
        let odd: NvspSubchannelComplete = card.ask(&ask(99, 1)).await?;
        check(odd.status != NvspStatus::SUCCESS, || "operation 99 succeeds".into())?;
        let one: NvspSubchannelComplete = card.ask(&ask(1, 1)).await?;
        check(one.num_subchannels <= 1, || format!("{} for one", one.num_subchannels))
    }
}

/// A message's number, in the bytes of one of the oldest version.
fn message(number: NvspMessageType) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&number.0.to_le_bytes());
    bytes
}

async fn survives_bytes<E: Environment>(environment: &E, all: &[&[u8]]) -> CaseResult {
    for bytes in all {
        let payload = [*bytes];
        survives(environment, &[OutgoingPacket::in_band(1, &payload).with_completion()]).await?;
    }
    Ok(())
}

/// No bytes, and fewer than a message's number has.
///
/// # Errors
///
/// As every case.
pub async fn packets_without_a_message_do_no_harm<E: Environment>(environment: &E) -> CaseResult {
    survives_bytes(environment, &[&[], &[1], &[1, 0, 0]]).await
}

/// A number, and then too little.
///
/// # Errors
///
/// As every case.
pub async fn messages_cut_short_do_no_harm<E: Environment>(environment: &E) -> CaseResult {
    let init = message(NvspMessageType::INIT);
    survives_bytes(environment, &[&init[..4], &init[..8]]).await
}

/// Numbers that nobody has defined.
///
/// # Errors
///
/// As every case.
pub async fn messages_of_unknown_numbers_do_no_harm<E: Environment>(environment: &E) -> CaseResult {
    let [one, other] = [NvspMessageType(77), NvspMessageType(u32::MAX)].map(message);
    survives_bytes(environment, &[&one, &other]).await
}

/// The host's own messages, said by the guest.
///
/// # Errors
///
/// As every case.
pub async fn what_only_hosts_say_does_no_harm<E: Environment>(environment: &E) -> CaseResult {
    let [one, other] =
        [NvspInitComplete::TYPE, NvspMessageType::SEND_INDIRECTION_TABLE].map(message);
    survives_bytes(environment, &[&one, &other]).await
}

/// Anything but the version, before it.
///
/// # Errors
///
/// As every case.
pub async fn messages_before_the_version_do_no_harm<E: Environment>(environment: &E) -> CaseResult {
    let [one, other] = [NvspSendNdisConfig::TYPE, NvspMessageType::SEND_RNDIS_PKT].map(message);
    survives_bytes(environment, &[&one, &other]).await
}

/// An answer to a packet that the host never sent.
///
/// # Errors
///
/// As every case.
pub async fn completions_of_nothing_do_no_harm<E: Environment>(environment: &E) -> CaseResult {
    let done = message(NvspMessageType::SEND_RNDIS_PKT_COMPLETE);
    let payload = [&done[..]];
    survives(environment, &[0, 7, u64::MAX].map(|it| OutgoingPacket::completion(it, &payload)))
        .await
}
