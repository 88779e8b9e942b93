//! What a card says of itself, and is told, by RNDIS.

use alloc::format;
use alloc::vec::Vec;

use hv_abi::nvsp::NvspStatus;
use hv_abi::rndis::oid::Oid;
use hv_abi::rndis::{
    PacketFilter, RNDIS_MAJOR_VERSION, RNDIS_MEDIUM_802_3, RNDIS_MINOR_VERSION, RndisHalt,
    RndisHeader, RndisInitialize, RndisInitializeComplete, RndisKeepalive, RndisKeepaliveComplete,
    RndisMessage, RndisMessageType, RndisQuery, RndisQueryComplete, RndisReset, RndisResetComplete,
    RndisSet, RndisSetComplete, RndisStatus,
};
use zerocopy::IntoBytes;

use crate::card_client::{Card, begun, with_channel};
use crate::macros::cases;
use crate::support::check;
use crate::{CaseResult, Environment, Problem};

/// Bytes from a message's start to where offsets count from.
const BASE: usize = size_of::<RndisHeader>();

fn header<M: RndisMessage>(more: usize) -> RndisHeader {
    RndisHeader::new(M::TYPE, (size_of::<M>() + more) as u32)
}

fn initialize(major_ver: u32) -> RndisInitialize {
    RndisInitialize {
        header: header::<RndisInitialize>(0),
        req_id: 17,
        major_ver,
        minor_ver: RNDIS_MINOR_VERSION,
        max_xfer_size: 0x4000,
    }
}

fn query(oid: Oid) -> RndisQuery {
    let header = header::<RndisQuery>(0);
    RndisQuery { header, req_id: 18, oid, info_buflen: 0, info_buf_offset: 0, dev_vc_handle: 0 }
}

impl<E: Environment> Card<E> {
    async fn initialize(&self) -> CaseResult {
        let request = initialize(RNDIS_MAJOR_VERSION);
        let (done, _) = self.rndis::<RndisInitializeComplete>(request.as_bytes()).await?;
        check((done.req_id, done.status) == (17, RndisStatus::SUCCESS), || format!("{done:?}"))?;
        let version = (done.major_ver, done.minor_ver);
        check(version == (RNDIS_MAJOR_VERSION, RNDIS_MINOR_VERSION), || format!("{version:?}"))?;
        check(done.medium == RNDIS_MEDIUM_802_3, || format!("medium {}", done.medium))?;
        check(done.max_xfer_size >= 1514 && done.max_pkt_per_msg > 0, || format!("{done:?}"))
    }

    /// An object's value, or the status of the refusal.
    async fn get(&self, oid: Oid) -> Result<Result<Vec<u8>, RndisStatus>, Problem> {
        let (done, bytes) = self.rndis::<RndisQueryComplete>(query(oid).as_bytes()).await?;
        check(done.req_id == 18, || format!("an answer to {}", done.req_id))?;
        if done.status != RndisStatus::SUCCESS {
            return Ok(Err(done.status));
        }
        let start = BASE + done.info_buf_offset as usize;
        let value = bytes.get(start..).and_then(|rest| rest.get(..done.info_buflen as usize));
        let outside = || Problem::Fail(format!("a value outside its message: {done:?}"));
        Ok(Ok(value.ok_or_else(outside)?.to_vec()))
    }

    async fn set(&self, oid: Oid, value: &[u8], told: u32) -> Result<RndisStatus, Problem> {
        let set = RndisSet {
            header: header::<RndisSet>(value.len()),
            req_id: 19,
            oid,
            info_buflen: told,
            info_buf_offset: (size_of::<RndisSet>() - BASE) as u32,
            dev_vc_handle: 0,
        };
        let message = [set.as_bytes(), value].concat();
        let (done, _) = self.rndis::<RndisSetComplete>(&message).await?;
        check(done.req_id == 19, || format!("an answer to {}", done.req_id))?;
        Ok(done.status)
    }
}

/// A card after RNDIS's beginning.
async fn initialized<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&mut Card<E>) -> CaseResult,
) -> CaseResult {
    begun(environment, async |card| {
        card.initialize().await?;
        body(card).await
    })
    .await
}

cases! { initialized:
    /// The beginning is answered with the request's number, the version and the medium.
    async fn a_card_is_initialized(_, _card) {
        Ok(())
    }

    /// Six bytes that are one card's; the current address is the permanent one before anybody sets it.
    async fn both_addresses_are_one_cards(_, card) {
        let permanent = card.get(Oid::IEEE_802_3_PERMANENT_ADDRESS).await?;
        let current = card.get(Oid::IEEE_802_3_CURRENT_ADDRESS).await?;
        let good = matches!(&permanent, Ok(mac) if mac.len() == 6 && mac[0] & 1 == 0);
        check(good && permanent == current, || format!("{permanent:x?}, {current:x?}"))
    }

    /// ... and each object in it is there.
    async fn the_list_of_objects_is_true(_, card) {
        let Ok(list) = card.get(Oid::GEN_SUPPORTED_LIST).await? else {
            return crate::support::skip("the host gives no list");
        };
        let (numbers, rest) = list.as_chunks::<4>();
        check(rest.is_empty() && !numbers.is_empty(), || format!("{} bytes", list.len()))?;
        for oid in [Oid::GEN_CURRENT_PACKET_FILTER, Oid::IEEE_802_3_PERMANENT_ADDRESS] {
            check(numbers.contains(&oid.0.to_le_bytes()), || format!("{oid:?} is missing"))?;
        }
        Ok(())
    }

    /// What there is not is refused, whether it is asked for or set.
    async fn objects_that_do_not_exist_are_refused(_, card) {
        for oid in [Oid(0), Oid(0x00FF_FFFF), Oid(u32::MAX)] {
            let got = card.get(oid).await?;
            check(got.is_err(), || format!("{oid:?} is {got:x?}"))?;
            let status = card.set(oid, &[0; 4], 4).await?;
            check(status != RndisStatus::SUCCESS, || format!("{oid:?} is set"))?;
        }
        Ok(())
    }

    /// A filter is taken; one of too few bytes is not.
    async fn a_filter_has_four_bytes(_, card) {
        let filter = PacketFilter::DIRECTED | PacketFilter::BROADCAST;
        let bytes = filter.bits().to_le_bytes();
        let status = card.set(Oid::GEN_CURRENT_PACKET_FILTER, &bytes, 4).await?;
        check(status == RndisStatus::SUCCESS, || format!("{status:?}"))?;
        let status = card.set(Oid::GEN_CURRENT_PACKET_FILTER, &bytes[..2], 2).await?;
        check(status != RndisStatus::SUCCESS, || "two bytes are taken".into())
    }

    /// The answer says that the card lives.
    async fn a_keepalive_is_answered(_, card) {
        for req_id in [0, 5, u32::MAX] {
            let request = RndisKeepalive { header: header::<RndisKeepalive>(0), req_id };
            let (done, _) = card.rndis::<RndisKeepaliveComplete>(request.as_bytes()).await?;
            let answer = (done.req_id, done.status);
            check(answer == (req_id, RndisStatus::SUCCESS), || format!("{answer:?}"))?;
        }
        Ok(())
    }

    /// ... after which it can be asked again.
    async fn a_reset_is_answered(_, card) {
        let request = RndisReset { header: header::<RndisReset>(0), _reserved: 0 };
        let (done, _) = card.rndis::<RndisResetComplete>(request.as_bytes()).await?;
        check(done.status == RndisStatus::SUCCESS, || format!("{:?}", done.status))?;
        let mac = card.get(Oid::IEEE_802_3_PERMANENT_ADDRESS).await?;
        check(mac.is_ok(), || format!("{mac:?}"))
    }

    /// A halt has no answer; the card can be initialized anew.
    async fn a_card_is_initialized_again_after_a_halt(_, card) {
        let request = RndisHalt { header: header::<RndisHalt>(0), req_id: 3 };
        let status = card.send_control(request.as_bytes()).await?;
        check(status == NvspStatus::SUCCESS, || format!("{status:?}"))?;
        card.initialize().await
    }

    /// One of the two that there are.
    async fn the_link_is_up_or_down(_, card) {
        let state = card.get(Oid::GEN_MEDIA_CONNECT_STATUS).await?;
        let known = matches!(&state, Ok(state) if matches!(state[..], [0 | 1, 0, 0, 0]));
        check(known, || format!("{state:?}"))
    }

    /// A length that reaches behind the message, an offset that does: no value is read from there.
    async fn values_outside_their_message_are_refused(_, card) {
        for told in [5, 0x1000, u32::MAX] {
            let message = RndisSet {
                header: header::<RndisSet>(4),
                req_id: 19,
                oid: Oid::GEN_CURRENT_PACKET_FILTER,
                info_buflen: told,
                info_buf_offset: (size_of::<RndisSet>() - BASE) as u32,
                dev_vc_handle: 0,
            };
            let status = card.send_control(&[message.as_bytes(), &[0; 4]].concat()).await?;
            // Either the packet is refused, or the answer, which is passed over here, says so.
            check(status != NvspStatus::BUSY, || "the card is busy".into())?;
        }
        card.initialize().await
    }

    /// Lengths that lie, types that are not, less than a header.
    async fn malformed_messages_are_survived(_, card) {
        let long = RndisHeader::new(RndisMessageType::KEEPALIVE, 0x10_0000);
        let short = RndisHeader::new(RndisMessageType::QUERY, 4);
        let odd = RndisHeader::new(RndisMessageType(0x55), 8);
        for bytes in [long.as_bytes(), short.as_bytes(), odd.as_bytes(), &[6, 0, 0, 0]] {
            card.send_control(bytes).await?;
        }
        card.initialize().await
    }
}

/// Before the beginning nothing is told but that there is none.
///
/// # Errors
///
/// As every case.
pub async fn nothing_is_asked_before_buffers_are_there<E: Environment>(
    environment: &E,
) -> CaseResult {
    with_channel(environment, async |card| {
        let agreed = card.version(hv_abi::nvsp::NvspVersion::V1, hv_abi::nvsp::NvspVersion::V1);
        check(agreed.await?.is_some(), || "version 1 is refused".into())?;
        // Without a receive buffer there is no place for an answer.
        let request = initialize(RNDIS_MAJOR_VERSION);
        card.send_control(request.as_bytes()).await.map(drop)
    })
    .await?;
    initialized(environment, async |_| Ok(())).await
}
