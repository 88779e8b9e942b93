//! Requests as a host writes them, and answers as it reads them.

use std::vec;
use std::vec::Vec;

use crate::ic::{IcError, Responder, Service};

/// `HeaderFlags::new().with_transaction(true).with_request(true)`.
const REQUEST: u8 = 3;
pub(super) const BODY: usize = 8 + 20;

/// A request: pipe header, header, body.
pub(super) fn request(message_type: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend([1, 0, 0, 0]);
    bytes.extend((20 + body.len() as u32).to_le_bytes());
    // Versions, which guests do not look at.
    bytes.extend([3, 0, 0, 0]);
    bytes.extend(message_type.to_le_bytes());
    bytes.extend([3, 0, 0, 0]);
    bytes.extend((body.len() as u16).to_le_bytes());
    bytes.extend([0, 0, 0, 0, 0x5A, REQUEST, 0, 0]);
    bytes.extend(body);
    // A packet ends at a multiple of eight bytes, with whatever was there.
    bytes.resize(bytes.len().next_multiple_of(8), 0xEE);
    bytes
}

/// The versions that a host offers.
pub(super) fn negotiation(framework: &[(u16, u16)], message: &[(u16, u16)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((framework.len() as u16).to_le_bytes());
    body.extend((message.len() as u16).to_le_bytes());
    body.extend([0; 4]);
    for (major, minor) in framework.iter().chain(message) {
        body.extend(major.to_le_bytes());
        body.extend(minor.to_le_bytes());
    }
    request(0, &body)
}

/// An answer's status and body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u32,
    pub(super) body: Vec<u8>,
}

/// Reads an answer to a request, as strictly as OpenVMM's `read_message`.
pub(super) fn answer(payload: &[u8], message_type: u16) -> Answer {
    assert_eq!(payload[..4], [1, 0, 0, 0], "PIPE_PACKET_TYPE_DATA");
    let told = get32(payload, 4) as usize;
    assert!(told <= payload.len() - 8);
    assert_eq!(get16(payload, 8 + 4), message_type);
    let size = usize::from(get16(payload, 8 + 10));
    assert_eq!(payload[8 + 16], 0x5A, "the request's transaction");
    assert_eq!(payload[8 + 17], 1 | 4, "transaction and response");
    assert!(20 + size <= told);
    Answer { status: get32(payload, 8 + 12), body: payload[BODY..BODY + size].to_vec() }
}

/// Asks, and gives the answer.
pub(super) fn ask<S: Service>(
    responder: &mut Responder<S>,
    message_type: u16,
    body: &[u8],
) -> Result<Answer, IcError> {
    let mut payload = request(message_type, body);
    let before = payload.len();
    assert!(responder.respond(&mut payload)?, "there is an answer");
    assert_eq!(payload.len(), before);
    Ok(answer(&payload, message_type))
}

/// A service that has agreed on these versions with a host that offers no others.
pub(super) fn agreed<S: Service>(service: S, version: (u16, u16)) -> Responder<S> {
    let mut responder = Responder::new(service);
    let mut payload = negotiation(&[(3, 0)], &[version]);
    assert!(responder.respond(&mut payload).unwrap());
    let versions = responder.versions().unwrap();
    assert_eq!((versions.message.major, versions.message.minor), version);
    responder
}

pub(super) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// UTF-16 with its zero.
pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// A `hv_kvp_msg` of an operation: `body` from byte 4 on, 2,580 bytes in all.
pub(super) fn kvp(operation: u8, pool: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![operation, pool, 0, 0];
    bytes.extend(body);
    bytes.resize(2580, 0);
    bytes
}
