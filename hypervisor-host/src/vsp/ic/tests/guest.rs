//! The guest's end of a channel: reads the host's bytes as Linux's structs have them, and writes answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hv_abi::ic::IcVersion;

use super::super::component::Component;
use super::super::error::IcError;
use super::super::session::{Engine, OfferedVersions};

/// Offsets in a packet: `struct vmbuspipe_hdr`, `struct icmsg_hdr`.
const TYPE: usize = 8 + 4;
const SIZE: usize = 8 + 10;
const STATUS: usize = 8 + 12;
const TRANSACTION: usize = 8 + 16;
const FLAGS: usize = 8 + 17;
pub(crate) const BODY: usize = 8 + 20;

/// A component with a channel opened, and a clock that stands still.
pub(crate) struct Guest<C: Component> {
    pub(crate) engine: Engine<C::Session>,
    pub(crate) now: Instant,
}

impl<C: Component> Guest<C> {
    /// Opens the channel of `component`, with all versions offered.
    pub(crate) fn open(component: &C) -> Self {
        Self::open_offered(component, OfferedVersions::all(C::VERSIONS))
    }

    pub(crate) fn open_offered(component: &C, offered: OfferedVersions) -> Self {
        let engine = Engine::new(offered, component.open(Arc::new(|| {})));
        Self { engine, now: Instant::now() }
    }

    /// Opens it and agrees on this version of the message (and 3.0 of the framework).
    pub(crate) fn agree(component: &C, version: IcVersion) -> Self {
        let mut guest = Self::open(component);
        let request = guest.request();
        guest.answer_versions(&request, &[(3, 0), (version.major, version.minor)]).unwrap();
        guest
    }

    /// The next request, if there is one.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.engine.poll(self.now).0
    }

    /// The next request, which must be there.
    pub(crate) fn request(&mut self) -> Vec<u8> {
        self.next().expect("the host asks something")
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn send(&mut self, payload: &[u8]) -> Result<(), IcError> {
        self.engine.receive(self.now, payload)
    }

    /// Sends the request back as the answer, with a change, as Linux does.
    pub(crate) fn answer(
        &mut self,
        request: &[u8],
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), IcError> {
        self.send(&answer_to(request, change))
    }

    /// Answers a negotiation with these versions: of the framework, then of the message.
    pub(crate) fn answer_versions(
        &mut self,
        request: &[u8],
        versions: &[(u16, u16)],
    ) -> Result<(), IcError> {
        self.answer(request, |body| {
            let counts: [u16; 2] = if versions.is_empty() { [0, 0] } else { [1, 1] };
            put16(body, 0, counts[0]);
            put16(body, 2, counts[1]);
            for (index, (major, minor)) in versions.iter().enumerate() {
                put16(body, 8 + 4 * index, *major);
                put16(body, 10 + 4 * index, *minor);
            }
        })
    }
}

/// The request as an answer: `ICMSGHDRFLAG_TRANSACTION | ICMSGHDRFLAG_RESPONSE`, the body changed.
pub(crate) fn answer_to(request: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut answer = request.to_vec();
    answer[FLAGS] = 1 | 4;
    change(&mut answer[BODY..]);
    answer
}

/// The same with a status.
pub(crate) fn refusal_of(request: &[u8], status: u32) -> Vec<u8> {
    let mut answer = answer_to(request, |_| {});
    answer[STATUS..STATUS + 4].copy_from_slice(&status.to_le_bytes());
    answer
}

/// An answer to another transaction.
pub(crate) fn with_transaction(mut answer: Vec<u8>, transaction: u8) -> Vec<u8> {
    answer[TRANSACTION] = transaction;
    answer
}

/// An answer that tells of fewer bytes.
pub(crate) fn with_size(mut answer: Vec<u8>, size: u16) -> Vec<u8> {
    put16(&mut answer, SIZE, size);
    answer
}

/// An answer of another type.
pub(crate) fn with_type(mut answer: Vec<u8>, message_type: u16) -> Vec<u8> {
    put16(&mut answer, TYPE, message_type);
    answer
}

pub(crate) fn type_of(payload: &[u8]) -> u16 {
    get16(payload, TYPE)
}

pub(crate) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}
