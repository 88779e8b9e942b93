//! Answers to a host, byte for byte, without input or output: negotiation of versions, and a service's requests.

use hv_abi::guid::Guid;
use hv_abi::ic::negotiate::{
    FRAMEWORK_VERSIONS, IC_VERSION_NEGOTIATION_MAX_VER_COUNT, NegotiateAnswer, NegotiateHeader,
};
use hv_abi::ic::{IcMessageType, IcStatus, IcVersion};
use zerocopy::{FromBytes, IntoBytes};

use super::error::IcError;
use super::message::{Request, put, read};

/// What guest and host agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of headers and negotiation.
    pub framework: IcVersion,
    /// Of the component's messages.
    pub message: IcVersion,
}

/// The guest's side of a component.
pub trait Service: Send {
    /// Its interface.
    const INTERFACE: Guid;
    /// Type of its messages.
    const TYPE: IcMessageType;
    /// Versions of its messages, oldest first.
    const VERSIONS: &'static [IcVersion];

    /// Makes the request's message the answer's, in place, and says how it went.
    ///
    /// # Errors
    ///
    /// The message makes no sense; the channel is given up.
    fn answer(&mut self, versions: Versions, message: &mut [u8]) -> Result<IcStatus, IcError>;

    /// The answer to the last request is on its way.
    fn answered(&mut self) {}
}

/// A service with what is before it.
#[derive(Debug)]
pub struct Responder<S> {
    service: S,
    newest: IcVersion,
    versions: Option<Versions>,
}

impl<S: Service> Responder<S> {
    /// With all versions.
    pub const fn new(service: S) -> Self {
        Self::up_to(service, IcVersion::new(u16::MAX, u16::MAX))
    }

    /// With versions up to `newest`, as an older guest has them.
    pub const fn up_to(service: S, newest: IcVersion) -> Self {
        Self { service, newest, versions: None }
    }

    /// What was agreed on.
    pub fn versions(&self) -> Option<Versions> {
        self.versions
    }

    /// The service.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// Makes a packet's payload the answer's, in place. Whether it is to be sent.
    ///
    /// # Errors
    ///
    /// The host breaks the protocol.
    pub fn respond(&mut self, payload: &mut [u8]) -> Result<bool, IcError> {
        let request = Request::parse(payload)?;
        let body = payload.get_mut(request.body.clone()).unwrap_or_default();
        let mut size = request.header.message_size;
        let status = match request.header.message_type {
            IcMessageType::NEGOTIATE => {
                self.negotiate(body)?;
                size = size.min(size_of::<NegotiateAnswer>() as u16);
                IcStatus::S_OK
            }
            own if own == S::TYPE => {
                let versions = self.versions.ok_or(IcError::NotNegotiated)?;
                self.service.answer(versions, body)?
            }
            // So Linux, too: another component's message is well-formed, but of no use here.
            _ => IcStatus::E_FAIL,
        };
        request.answer(payload, status, size);
        Ok(request.wants_answer())
    }

    /// Chooses the newest version of each kind that both have; else none.
    fn negotiate(&mut self, body: &mut [u8]) -> Result<(), IcError> {
        const HEADER: usize = size_of::<NegotiateHeader>();
        const VERSION: usize = size_of::<IcVersion>();
        let header: NegotiateHeader = read(body, HEADER)?;
        let (framework, message) = (header.framework_count, header.message_count);
        let wrong = IcError::VersionCount { framework, message };
        let counts = [framework, message].map(usize::from);
        if counts.iter().any(|&count| count > IC_VERSION_NEGOTIATION_MAX_VER_COUNT) {
            return Err(wrong);
        }
        let list = body.get(HEADER..).unwrap_or_default();
        let (first, list) = list.split_at_checked(counts[0] * VERSION).ok_or(wrong)?;
        let second = list.get(..counts[1] * VERSION).ok_or(wrong)?;
        let own = S::VERSIONS.iter().filter(|version| **version <= self.newest);
        self.versions = newest(&FRAMEWORK_VERSIONS, first)
            .zip(newest(own, second))
            .map(|(framework, message)| Versions { framework, message });
        let count = u16::from(self.versions.is_some());
        let chosen = self
            .versions
            .unwrap_or(Versions { framework: IcVersion::default(), message: IcVersion::default() });
        let answer = NegotiateAnswer {
            header: NegotiateHeader { framework_count: count, message_count: count, ..header },
            framework: chosen.framework,
            message: chosen.message,
        };
        put(body, 0, answer.as_bytes());
        Ok(())
    }
}

/// The newest of our versions that is among the host's.
fn newest<'v>(own: impl IntoIterator<Item = &'v IcVersion>, offered: &[u8]) -> Option<IcVersion> {
    let is_offered = |version: &&IcVersion| {
        let mut offered = offered.chunks_exact(size_of::<IcVersion>());
        offered.any(|bytes| IcVersion::read_from_bytes(bytes).is_ok_and(|it| it == **version))
    };
    own.into_iter().filter(is_offered).max().copied()
}
