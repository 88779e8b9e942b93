//! A channel of an integration component on which a case answers with bytes of its own.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::guid::Guid;
use hv_abi::ic::negotiate::{NegotiateAnswer, NegotiateHeader};
use hv_abi::ic::{
    IC_MAX_MESSAGE_BYTES, ICMSGHDRFLAG_REQUEST, ICMSGHDRFLAG_RESPONSE, ICMSGHDRFLAG_TRANSACTION,
    IcMessageType, IcStatus, IcVersion, IcmsgHeader, PIPE_PACKET_TYPE_DATA, PipeHeader,
};
use vmbus_ring::OutgoingPacket;
use vsc_drivers::task::within;
use vsc_drivers::{Channel, OpenParams, SECOND_100NS};
use zerocopy::{FromBytes, IntoBytes};

use crate::support::{check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

const RING_BYTES: usize = 4 * HV_PAGE_SIZE;
/// Bytes of the headers before a message.
const HEADERS: usize = size_of::<PipeHeader>() + size_of::<IcmsgHeader>();

/// A request of the host's.
pub struct Request {
    /// The packet's number.
    pub transaction: u64,
    /// Its header.
    pub header: IcmsgHeader,
    /// What is behind it.
    pub body: Vec<u8>,
}

/// What the host offers at the beginning.
pub struct Offered {
    /// Versions of the framework.
    pub framework: Vec<IcVersion>,
    /// Versions of the component's messages.
    pub message: Vec<IcVersion>,
    request: Request,
}

/// A component's channel.
pub struct Component<E: Environment> {
    channel: Channel<E::Hal>,
}

impl<E: Environment> Component<E> {
    /// The host's next request, which must come within so many seconds; `None` if none does.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`]; it is malformed.
    pub async fn request_within(&self, seconds: u64) -> Result<Option<Request>, Problem> {
        let next = async {
            let mut buffer = vec![0; IC_MAX_MESSAGE_BYTES + 64];
            loop {
                let taken = self.channel.try_receive(&mut buffer, |packet| {
                    (packet.transaction_id(), packet.payload().to_vec())
                });
                match taken.map_err(failed("receive"))? {
                    Some((transaction, payload)) => return request(transaction, &payload),
                    None => self.channel.wait().await.map_err(failed("wait"))?,
                }
            }
        };
        match within(self.channel.hal(), seconds * SECOND_100NS, next).await {
            Ok(request) => request.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// ... which must come within ten seconds.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn request(&self) -> Result<Request, Problem> {
        let request = self.request_within(10).await?;
        request.map_or_else(|| Err(Problem::Fail("the host asks nothing".into())), Ok)
    }

    /// The beginning: what the host offers.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`]; it begins with something else, or its lists are malformed.
    pub async fn offered(&self) -> Result<Offered, Problem> {
        let request = self.request().await?;
        let first = request.header.message_type;
        check(first == IcMessageType::NEGOTIATE, || format!("it begins with {first:?}"))?;
        let short = |_| Problem::Fail("a negotiation cut short".into());
        let (counts, rest) = NegotiateHeader::read_from_prefix(&request.body).map_err(short)?;
        let (framework, message) =
            (usize::from(counts.framework_count), usize::from(counts.message_count));
        let bytes = size_of::<IcVersion>();
        check(framework > 0 && message > 0 && rest.len() >= (framework + message) * bytes, || {
            format!("{framework} and {message} versions in {} bytes", rest.len())
        })?;
        let mut all = rest.chunks_exact(bytes).filter_map(|it| IcVersion::read_from_bytes(it).ok());
        let framework = all.by_ref().take(framework).collect();
        let message = all.take(message).collect();
        Ok(Offered { framework, message, request })
    }

    /// Answers a request with this behind the headers.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn answer(&self, request: &Request, status: IcStatus, body: &[u8]) -> CaseResult {
        let bytes = answer(request, status, body);
        self.send(request.transaction, &bytes).await
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn send(&self, transaction: u64, bytes: &[u8]) -> CaseResult {
        let payload = [bytes];
        let packet = OutgoingPacket::in_band(transaction, &payload);
        self.channel.send(&packet).await.map_err(failed("send"))
    }

    /// Chooses versions, or refuses all.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn choose(
        &self,
        offered: &Offered,
        chosen: Option<(IcVersion, IcVersion)>,
    ) -> CaseResult {
        let count = u16::from(chosen.is_some());
        let (framework, message) = chosen.unwrap_or_default();
        let header = NegotiateHeader { framework_count: count, message_count: count, _reserved: 0 };
        let body = NegotiateAnswer { header, framework, message };
        self.answer(&offered.request, IcStatus::S_OK, body.as_bytes()).await
    }

    /// The whole beginning with the newest framework and this version of messages, if the host has it.
    ///
    /// # Errors
    ///
    /// [`Problem::Skip`] if it has not.
    pub async fn begin(&self, message: IcVersion) -> CaseResult {
        let offered = self.offered().await?;
        if !offered.message.contains(&message) {
            return skip(format!("the host does not have version {message}"));
        }
        let framework = offered.framework.iter().copied().max();
        self.choose(&offered, framework.map(|framework| (framework, message))).await
    }
}

fn request(transaction: u64, payload: &[u8]) -> Result<Request, Problem> {
    let short = || Problem::Fail(format!("a request of {} bytes", payload.len()));
    let (pipe, rest) = PipeHeader::read_from_prefix(payload).map_err(|_| short())?;
    check(pipe.flags == PIPE_PACKET_TYPE_DATA && pipe.msgsize as usize <= rest.len(), || {
        format!("{pipe:?} before {} bytes", rest.len())
    })?;
    let (header, rest) = IcmsgHeader::read_from_prefix(rest).map_err(|_| short())?;
    let asks = header.flags & (ICMSGHDRFLAG_REQUEST | ICMSGHDRFLAG_RESPONSE);
    check(asks == ICMSGHDRFLAG_REQUEST, || format!("flags {:#x}", header.flags))?;
    let body = rest.get(..header.message_size.into());
    let body = body.ok_or_else(|| Problem::Fail(format!("{header:?} before less")))?;
    Ok(Request { transaction, header, body: body.to_vec() })
}

/// The bytes of an answer.
pub fn answer(request: &Request, status: IcStatus, body: &[u8]) -> Vec<u8> {
    let header = IcmsgHeader {
        message_size: body.len() as u16,
        status,
        flags: ICMSGHDRFLAG_TRANSACTION | ICMSGHDRFLAG_RESPONSE,
        ..request.header
    };
    let msgsize = (HEADERS - size_of::<PipeHeader>() + body.len()) as u32;
    let pipe = PipeHeader { flags: PIPE_PACKET_TYPE_DATA, msgsize };
    [pipe.as_bytes(), header.as_bytes(), body].concat()
}

/// Opens a component's channel, does `body`, and closes it.
///
/// # Errors
///
/// That of `body`, or there is no such component.
pub async fn with_component<E: Environment>(
    environment: &E,
    (interface, name): (Guid, &str),
    body: impl AsyncFnOnce(&Component<E>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let offers = connected.of_kind(interface, name)?;
        let Some(offer) = offers.first() else { return skip(format!("no {name}")) };
        let params = OpenParams {
            send_bytes: RING_BYTES,
            receive_bytes: RING_BYTES,
            ..OpenParams::default()
        };
        let opened = connected.bus.open(offer.channel, &params).await;
        let component = Component { channel: opened.map_err(failed("open"))? };
        let result = body(&component).await;
        result.and(component.channel.close().await.map_err(failed("close")))
    })
    .await
}
