//! RNDIS requests to the host, and what their answers say.

use alloc::vec::Vec;

use hv_abi::rndis::oid::Oid;
use hv_abi::rndis::{
    RNDIS_HEADER_BYTES, RNDIS_MAJOR_VERSION, RNDIS_MEDIUM_802_3, RNDIS_MINOR_VERSION, RndisHalt,
    RndisHeader, RndisInitialize, RndisInitializeComplete, RndisMessage, RndisQuery,
    RndisQueryComplete, RndisSet, RndisSetComplete, RndisStatus,
};
use zerocopy::{FromBytes, IntoBytes};

use super::error::NetError;
use super::message::part;

/// Longest message that we take, as Linux says it (`rndis_filter_init_device`).
const MAX_TRANSFER_BYTES: u32 = 0x4000;
/// log₂ of the largest alignment that makes sense: a page.
const MAX_ALIGNMENT_SHIFT: u32 = 12;

/// `RNDIS_MSG_INIT`.
pub(super) fn initialize(req_id: u32) -> Vec<u8> {
    let request = RndisInitialize {
        header: header::<RndisInitialize>(0),
        req_id,
        major_ver: RNDIS_MAJOR_VERSION,
        minor_ver: RNDIS_MINOR_VERSION,
        max_xfer_size: MAX_TRANSFER_BYTES,
    };
    request.as_bytes().to_vec()
}

/// `RNDIS_MSG_HALT`; it has no answer.
pub(super) fn halt(req_id: u32) -> Vec<u8> {
    RndisHalt { header: header::<RndisHalt>(0), req_id }.as_bytes().to_vec()
}

/// `RNDIS_MSG_QUERY` of `oid`, with what the object wants to be told.
pub(super) fn query(req_id: u32, oid: Oid, input: &[u8]) -> Vec<u8> {
    let request = RndisQuery {
        header: header::<RndisQuery>(input.len()),
        req_id,
        oid,
        info_buflen: input.len() as u32,
        info_buf_offset: (size_of::<RndisQuery>() - RNDIS_HEADER_BYTES) as u32,
        dev_vc_handle: 0,
    };
    [request.as_bytes(), input].concat()
}

/// `RNDIS_MSG_SET` of `oid` to `value`.
pub(super) fn set(req_id: u32, oid: Oid, value: &[u8]) -> Vec<u8> {
    let request = RndisSet {
        header: header::<RndisSet>(value.len()),
        req_id,
        oid,
        info_buflen: value.len() as u32,
        info_buf_offset: (size_of::<RndisSet>() - RNDIS_HEADER_BYTES) as u32,
        dev_vc_handle: 0,
    };
    [request.as_bytes(), value].concat()
}

/// Requests are short: a page holds each of them.
fn header<M: RndisMessage>(more_bytes: usize) -> RndisHeader {
    RndisHeader::new(M::TYPE, (size_of::<M>() + more_bytes) as u32)
}

/// What the host says of how packets shall be laid in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packing {
    /// Packets in a message, at least 1.
    pub(super) packets: u32,
    /// Bytes that each is aligned to: a power of two.
    pub(super) alignment: u32,
}

/// The answer to [`initialize`].
pub(super) fn initialized(answer: &[u8]) -> Result<Packing, NetError> {
    let complete = fixed::<RndisInitializeComplete>(answer)?;
    succeeded(complete.status)?;
    if complete.medium != RNDIS_MEDIUM_802_3 || complete.pkt_alignment_factor > MAX_ALIGNMENT_SHIFT
    {
        return Err(NetError::Malformed);
    }
    let packets = complete.max_pkt_per_msg.max(1);
    Ok(Packing { packets, alignment: 1 << complete.pkt_alignment_factor })
}

/// The answer to [`query`]: the value.
pub(super) fn queried(answer: &[u8]) -> Result<&[u8], NetError> {
    let complete = fixed::<RndisQueryComplete>(answer)?;
    succeeded(complete.status)?;
    let (offset, length) = (complete.info_buf_offset, complete.info_buflen);
    part(answer, offset, length).map_err(|_| NetError::Malformed)
}

/// The answer to [`set`].
pub(super) fn was_set(answer: &[u8]) -> Result<(), NetError> {
    succeeded(fixed::<RndisSetComplete>(answer)?.status)
}

fn fixed<M: RndisMessage>(answer: &[u8]) -> Result<M, NetError> {
    let (header, _) = RndisHeader::read_from_prefix(answer).map_err(|_| NetError::Malformed)?;
    if header.ndis_msg_type != M::TYPE {
        return Err(NetError::Malformed);
    }
    M::read_from_prefix(answer).map(|(message, _)| message).map_err(|_| NetError::Malformed)
}

fn succeeded(status: RndisStatus) -> Result<(), NetError> {
    if status == RndisStatus::SUCCESS { Ok(()) } else { Err(NetError::Refused(status.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn requests_have_the_bytes_of_linux() {
        // rndis_filter_init_device, rndis_filter_query_device, rndis_filter_set_packet_filter, rndis_filter_halt_device.
        assert_eq!(initialize(1), words(&[2, 24, 1, 1, 0, 0x4000]));
        assert_eq!(
            query(2, Oid::IEEE_802_3_PERMANENT_ADDRESS, &[]),
            words(&[4, 28, 2, 0x0101_0101, 0, 20, 0])
        );
        assert_eq!(
            set(3, Oid::GEN_CURRENT_PACKET_FILTER, &0xD_u32.to_le_bytes()),
            words(&[5, 32, 3, 0x0001_010E, 4, 20, 0, 0xD])
        );
        assert_eq!(halt(4), words(&[3, 12, 4]));
    }

    #[test]
    fn an_initialization_tells_how_packets_are_packed() {
        let answer = |status, medium, packets, alignment| {
            initialized(&words(&[
                0x8000_0002,
                52,
                1,
                status,
                1,
                0,
                1,
                medium,
                packets,
                0x4000,
                alignment,
                0,
                0,
            ]))
        };
        assert_eq!(answer(0, 0, 8, 3), Ok(Packing { packets: 8, alignment: 8 }));
        assert_eq!(answer(0, 0, 0, 0), Ok(Packing { packets: 1, alignment: 1 }));
        assert_eq!(answer(0xC000_0001, 0, 8, 3), Err(NetError::Refused(0xC000_0001)));
        assert_eq!(answer(0, 3, 8, 3), Err(NetError::Malformed));
        assert_eq!(answer(0, 0, 8, 32), Err(NetError::Malformed), "shift beyond the word");
        assert_eq!(answer(0, 0, 8, 13), Err(NetError::Malformed));
    }

    #[test]
    fn values_outside_the_answer_are_refused() {
        let answer = |length, offset| {
            let mut answer = words(&[0x8000_0004, 28, 1, 0, length, offset]);
            answer.extend([1, 2, 3, 4]);
            answer
        };
        assert_eq!(queried(&answer(4, 16)), Ok(&[1, 2, 3, 4][..]));
        assert_eq!(queried(&answer(5, 16)), Err(NetError::Malformed));
        assert_eq!(queried(&answer(4, 17)), Err(NetError::Malformed));
        assert_eq!(queried(&answer(u32::MAX, 16)), Err(NetError::Malformed));
        assert_eq!(queried(&answer(4, u32::MAX - 7)), Err(NetError::Malformed));
        assert_eq!(queried(&answer(4, 16)[..23]), Err(NetError::Malformed));
    }

    #[test]
    fn an_answer_to_another_request_is_refused() {
        assert_eq!(was_set(&words(&[0x8000_0004, 24, 1, 0, 0, 0])), Err(NetError::Malformed));
        assert_eq!(was_set(&words(&[0x8000_0005, 16, 1, 0])), Ok(()));
        assert_eq!(was_set(&words(&[0x8000_0005, 16, 1])), Err(NetError::Malformed));
        assert_eq!(queried(&words(&[0x8000_0005, 16, 1, 0])), Err(NetError::Malformed));
    }
}
