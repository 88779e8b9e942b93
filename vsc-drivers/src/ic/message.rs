//! Requests taken apart with all checks, and made into answers in place.
//!
//! An answer is the request with a few fields changed, whatever else the host had in it: that is what hosts have got from
//! Linux since 2009.

use core::mem::offset_of;
use core::ops::Range;

use hv_abi::ic::{
    ICMSGHDRFLAG_REQUEST, ICMSGHDRFLAG_RESPONSE, ICMSGHDRFLAG_TRANSACTION, IcStatus, IcmsgHeader,
    PIPE_PACKET_TYPE_DATA, PipeHeader,
};
use zerocopy::{FromBytes, IntoBytes};

use super::error::IcError;

const PIPE_BYTES: usize = size_of::<PipeHeader>();

/// A request's headers, checked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) header: IcmsgHeader,
    /// Where in the payload the message is.
    pub(super) body: Range<usize>,
}

impl Request {
    /// Takes a packet's payload apart.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, IcError> {
        let too_short = |_| IcError::TooShort(payload.len());
        let (pipe, rest) = PipeHeader::read_from_prefix(payload).map_err(too_short)?;
        if pipe.flags != PIPE_PACKET_TYPE_DATA {
            return Err(IcError::PipeType(pipe.flags));
        }
        let length = IcError::PipeLength { told: pipe.msgsize, present: rest.len() };
        let message = rest.get(..pipe.msgsize as usize).ok_or(length)?;
        let (header, rest) = IcmsgHeader::read_from_prefix(message).map_err(|_| length)?;
        let size = usize::from(header.message_size);
        if size > rest.len() {
            return Err(IcError::MessageLength { told: header.message_size, present: rest.len() });
        }
        if header.flags & ICMSGHDRFLAG_RESPONSE != 0 {
            return Err(IcError::NoRequest(header.flags));
        }
        let begin = PIPE_BYTES + size_of::<IcmsgHeader>();
        Ok(Self { header, body: begin..begin + size })
    }

    /// Whether the host waits for an answer. OpenVMM sends samples of time without either flag, and never reads an answer.
    pub(super) fn wants_answer(&self) -> bool {
        self.header.flags & (ICMSGHDRFLAG_REQUEST | ICMSGHDRFLAG_TRANSACTION) != 0
    }

    /// Makes the payload's header an answer's.
    pub(super) fn answer(&self, payload: &mut [u8], status: IcStatus, message_size: u16) {
        let header = IcmsgHeader {
            status,
            message_size,
            flags: ICMSGHDRFLAG_TRANSACTION | ICMSGHDRFLAG_RESPONSE,
            ..self.header
        };
        put(payload, PIPE_BYTES, header.as_bytes());
    }
}

/// Writes what fits.
pub(super) fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in to.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// A struct from the beginning of `bytes`. What they have not is zero, from `least` bytes on.
pub(super) fn read<T: FromBytes + IntoBytes>(bytes: &[u8], least: usize) -> Result<T, IcError> {
    if bytes.len() < least {
        return Err(IcError::MessageShort { present: bytes.len(), needed: least });
    }
    let mut value = T::new_zeroed();
    put(value.as_mut_bytes(), 0, bytes);
    Ok(value)
}

const _: () = assert!(offset_of!(IcmsgHeader, flags) == 17);
