//! Packets' payloads: taken apart with all checks, put together.

use hv_abi::ic::{
    ICMSGHDRFLAG_REQUEST, ICMSGHDRFLAG_RESPONSE, ICMSGHDRFLAG_TRANSACTION, IcMessageType, IcStatus,
    IcmsgHeader, PIPE_PACKET_TYPE_DATA, PipeHeader,
};
use zerocopy::{FromBytes, IntoBytes};

use super::error::IcError;
use super::session::Versions;

/// An answer of the guest's, headers checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// What it answers.
    pub message_type: IcMessageType,
    /// The transaction that it answers.
    pub transaction: u8,
    /// How the guest did.
    pub status: IcStatus,
    /// The message.
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Takes a packet's payload apart.
    ///
    /// # Errors
    /// It is not an answer, or its lengths lie.
    pub fn parse(payload: &'a [u8]) -> Result<Self, IcError> {
        let too_short = |_| IcError::TooShort(payload.len());
        let (pipe, rest) = PipeHeader::read_from_prefix(payload).map_err(too_short)?;
        if pipe.flags != PIPE_PACKET_TYPE_DATA {
            return Err(IcError::PipeType(pipe.flags));
        }
        let length = IcError::PipeLength { told: pipe.msgsize, present: rest.len() };
        let message = rest.get(..pipe.msgsize as usize).ok_or(length)?;
        let (header, rest) = IcmsgHeader::read_from_prefix(message).map_err(|_| length)?;
        let length = IcError::MessageLength { told: header.message_size, present: rest.len() };
        let body = rest.get(..header.message_size.into()).ok_or(length)?;
        const ANSWER: u8 = ICMSGHDRFLAG_TRANSACTION | ICMSGHDRFLAG_RESPONSE;
        if header.flags & (ANSWER | ICMSGHDRFLAG_REQUEST) != ANSWER {
            return Err(IcError::NoAnswer(header.flags));
        }
        Ok(Self {
            message_type: header.message_type,
            transaction: header.transaction_id,
            status: header.status,
            body,
        })
    }

    /// The message as a struct. Bytes that the guest left out from `least` on are zero; those it has too many are its own
    /// business.
    ///
    /// # Errors
    /// It has fewer than `least` bytes.
    pub fn read<T: FromBytes + IntoBytes>(&self, least: usize) -> Result<T, IcError> {
        read(self.body, least)
    }
}

/// [`Answer::read`], from any bytes.
pub(super) fn read<T: FromBytes + IntoBytes>(bytes: &[u8], least: usize) -> Result<T, IcError> {
    if bytes.len() < least {
        return Err(IcError::MessageShort { present: bytes.len(), needed: least });
    }
    let mut value = T::new_zeroed();
    for (to, from) in value.as_mut_bytes().iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(value)
}

/// The payload of a request. `versions` is `None` while they are negotiated.
pub(super) fn request(
    message_type: IcMessageType,
    versions: Option<Versions>,
    transaction: u8,
    body: &[u8],
) -> Vec<u8> {
    let versions = versions.unwrap_or_default();
    let header = IcmsgHeader {
        framework_version: versions.framework,
        message_type,
        message_version: versions.message,
        // The longest has less than 3 KiB.
        message_size: body.len() as u16,
        status: IcStatus::S_OK,
        transaction_id: transaction,
        flags: ICMSGHDRFLAG_TRANSACTION | ICMSGHDRFLAG_REQUEST,
        _reserved: [0; 2],
    };
    let bytes = size_of::<IcmsgHeader>() + body.len();
    let pipe = PipeHeader { flags: PIPE_PACKET_TYPE_DATA, msgsize: bytes as u32 };
    [pipe.as_bytes(), header.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to a heartbeat as Linux gives it: `hv_util.c`, `heartbeat_onchannelcallback`.
    #[rustfmt::skip]
    pub(super) const ANSWER: [u8; 40] = [
        1, 0, 0, 0, 28, 0, 0, 0,
        3, 0, 0, 0, 1, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 9, 5, 0, 0,
        6, 0, 0, 0, 0, 0, 0, 0,
        // Packets end at multiples of eight bytes.
        0xAA, 0xAA, 0xAA, 0xAA,
    ];

    fn changed(change: impl FnOnce(&mut [u8; 40])) -> Result<Vec<u8>, IcError> {
        let mut bytes = ANSWER;
        change(&mut bytes);
        Answer::parse(&bytes).map(|answer| answer.body.to_vec())
    }

    #[test]
    fn an_answer_of_linux_is_understood() {
        let answer = Answer::parse(&ANSWER).unwrap();
        assert_eq!(answer.message_type, IcMessageType::HEARTBEAT);
        assert_eq!((answer.transaction, answer.status), (9, IcStatus::S_OK));
        assert_eq!(answer.body, [6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer.read::<u64>(8), Ok(6));
        assert_eq!(answer.read::<[u64; 2]>(8), Ok([6, 0]), "what is left out is zero");
        let error = IcError::MessageShort { present: 8, needed: 9 };
        assert_eq!(answer.read::<[u64; 2]>(9), Err(error));
    }

    #[test]
    fn packets_without_room_for_headers_are_refused() {
        for length in 0..28 {
            let error = Answer::parse(&ANSWER[..length]).unwrap_err();
            match length {
                0..8 => assert_eq!(error, IcError::TooShort(length)),
                _ => assert_eq!(error, IcError::PipeLength { told: 28, present: length - 8 }),
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let pipe = |told| IcError::PipeLength { told, present: 32 };
        assert_eq!(changed(|it| it[4] = 33), Err(pipe(33)));
        assert_eq!(changed(|it| it[7] = 0xFF), Err(pipe(0xFF00_001C)));
        assert_eq!(changed(|it| it[4] = 19), Err(pipe(19)), "less than a header");
        let message = |told| IcError::MessageLength { told, present: 8 };
        assert_eq!(changed(|it| it[18] = 9), Err(message(9)));
        assert_eq!(changed(|it| it[19] = 0xFF), Err(message(0xFF08)));
        assert_eq!(changed(|it| it[18] = 0), Ok(Vec::new()));
    }

    #[test]
    fn only_answers_are_answers() {
        for flags in [0, 1, 4, 3, 7, 2, 6] {
            assert_eq!(changed(|it| it[25] = flags), Err(IcError::NoAnswer(flags)));
        }
        assert_eq!(changed(|it| it[0] = 2), Err(IcError::PipeType(2)));
    }

    #[test]
    fn a_request_is_laid_out_as_linux_reads_it() {
        let versions =
            Versions { framework: hv_abi::ic::IcVersion::new(3, 0), ..Default::default() };
        let bytes = request(IcMessageType::TIMESYNC, Some(versions), 7, &[0xAB]);
        #[rustfmt::skip]
        let golden = [
            1, 0, 0, 0, 21, 0, 0, 0,
            3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 7, 3, 0, 0,
            0xAB,
        ];
        assert_eq!(bytes, golden);
    }

    proptest::proptest! {
        #[test]
        fn any_payload_is_refused_or_stays_inside(payload: Vec<u8>, start in 0_usize..40) {
            // Half of them begin as a good answer does.
            let payload = [&ANSWER[..start], &payload].concat();
            if let Ok(answer) = Answer::parse(&payload) {
                assert!(answer.body.len() + 28 <= payload.len());
            }
        }
    }
}
