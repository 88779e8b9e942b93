//! A network card's channel on which a case says every byte itself: NVSP's messages, and RNDIS's in guest memory.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::nvsp::{
    NVSP_INTERFACE, NVSP_NO_SECTION, NVSP_RECEIVE_BUFFER_ID, NvspChannelType, NvspInit,
    NvspInitComplete, NvspMessage, NvspReceiveSection, NvspSendNdisVersion, NvspSendReceiveBuffer,
    NvspSendReceiveBufferComplete, NvspSendRndisPacket, NvspSendRndisPacketComplete, NvspStatus,
    NvspVersion,
};
use hv_abi::rndis::{RndisHeader, RndisMessage};
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::OutgoingPacket;
use vmbus_ring::gpa::GpaRange;
use vsc_drivers::task::within;
use vsc_drivers::{Channel, DmaBuffer, OpenParams, SECOND_100NS, SharedBuffer};
use zerocopy::{FromBytes, IntoBytes};

use crate::support::{check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// Pages of a receive buffer.
pub const RECEIVE_PAGES: usize = 64;
const RING_BYTES: usize = 8 * HV_PAGE_SIZE;
const MAX_PACKET: usize = 4096;

/// A packet of the host's.
enum Packet {
    /// An answer to a packet of ours.
    Completion(u64, Vec<u8>),
    /// Pieces of the receive buffer, each an RNDIS message: offset and bytes.
    Pieces(u64, Vec<(u32, u32)>),
    /// Anything else.
    Other,
}

/// A card's channel.
pub struct Card<E: Environment> {
    /// The channel.
    pub channel: Channel<E::Hal>,
    receive: Option<SharedBuffer<E::Hal>>,
    request: DmaBuffer<E::Hal>,
    next: Cell<u64>,
}

impl<E: Environment> Card<E> {
    fn new(channel: Channel<E::Hal>) -> Result<Self, Problem> {
        let Some(request) = DmaBuffer::new(channel.hal(), 1) else { return skip("no memory") };
        Ok(Self { channel, receive: None, request, next: Cell::new(1) })
    }

    fn transaction(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// The host's next packet, which must come within five seconds.
    async fn packet(&self) -> Result<Packet, Problem> {
        let next = async {
            loop {
                let mut buffer = [0; MAX_PACKET];
                let taken = self.channel.try_receive(&mut buffer, |packet| {
                    let transaction = packet.transaction_id();
                    match (packet.kind(), packet.transfer_pages()) {
                        (PacketType::COMP, _) => {
                            Packet::Completion(transaction, packet.payload().to_vec())
                        }
                        (PacketType::DATA_USING_XFER_PAGES, Ok(pages)) => {
                            let piece = |range: hv_abi::vmbus::packet::TransferPageRange| {
                                (range.byte_offset, range.byte_count)
                            };
                            Packet::Pieces(transaction, pages.ranges().map(piece).collect())
                        }
                        _ => Packet::Other,
                    }
                });
                match taken.map_err(failed("receive"))? {
                    Some(packet) => return Ok(packet),
                    None => self.channel.wait().await.map_err(failed("wait"))?,
                }
            }
        };
        match within(self.channel.hal(), 5 * SECOND_100NS, next).await {
            Ok(packet) => packet,
            Err(_) => Err(Problem::Fail("no answer came".into())),
        }
    }

    /// Sends bytes in a packet, and waits for its completion.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if none comes.
    pub async fn ask_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, Problem> {
        let transaction = self.transaction();
        let payload = [bytes];
        let packet = OutgoingPacket::in_band(transaction, &payload).with_completion();
        self.channel.send(&packet).await.map_err(failed("send"))?;
        self.completion(transaction).await
    }

    async fn completion(&self, of: u64) -> Result<Vec<u8>, Problem> {
        loop {
            match self.packet().await? {
                Packet::Completion(transaction, bytes) if transaction == of => return Ok(bytes),
                Packet::Completion(other, _) => {
                    return check(false, || format!("a completion of {other}"))
                        .map(|()| Vec::new());
                }
                Packet::Pieces(transaction, _) => self.release(transaction).await?,
                Packet::Other => {}
            }
        }
    }

    /// Sends an NVSP message as long as the oldest version's, and waits for its completion.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if none comes, or a shorter one.
    pub async fn ask<M: NvspMessage, A: NvspMessage>(&self, message: &M) -> Result<A, Problem> {
        let bytes = self.ask_bytes(&padded(message.as_bytes())).await?;
        let answer = A::read_from_prefix(&bytes).map(|(answer, _)| answer);
        answer.map_err(|_| Problem::Fail(format!("an answer of {} bytes", bytes.len())))
    }

    /// Tells something that is answered with nothing.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn tell<M: NvspMessage>(&self, message: &M) -> CaseResult {
        let payload = padded(message.as_bytes());
        let payload = [&payload[..]];
        let packet = OutgoingPacket::in_band(self.transaction(), &payload);
        self.channel.send(&packet).await.map_err(failed("send"))
    }

    /// Asks for a version within bounds; the one that is agreed on, if any.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn version(
        &self,
        oldest: NvspVersion,
        newest: NvspVersion,
    ) -> Result<Option<NvspVersion>, Problem> {
        let init = NvspInit {
            msg_type: NvspInit::TYPE,
            min_protocol_ver: oldest,
            max_protocol_ver: newest,
        };
        let answer: NvspInitComplete = self.ask(&init).await?;
        check(answer.msg_type == NvspInitComplete::TYPE, || format!("{:?}", answer.msg_type))?;
        let agreed = answer.status == NvspStatus::SUCCESS;
        Ok(agreed.then_some(answer.negotiated_protocol_ver))
    }

    /// Lends memory as the receive buffer: what the host says to it.
    ///
    /// # Errors
    ///
    /// [`Problem`].
    pub async fn lend_receive_buffer(
        &mut self,
    ) -> Result<(NvspStatus, u32, NvspReceiveSection), Problem> {
        if self.receive.is_none() {
            let Some(buffer) = DmaBuffer::new(self.channel.hal(), RECEIVE_PAGES) else {
                return skip("no memory");
            };
            self.receive = Some(self.channel.share(buffer).await.map_err(failed("share"))?);
        }
        let gpadl = self.receive.as_ref().map_or(0, SharedBuffer::gpadl);
        self.name_receive_buffer(gpadl).await
    }

    /// Names memory as the receive buffer.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn name_receive_buffer(
        &self,
        gpadl_handle: u32,
    ) -> Result<(NvspStatus, u32, NvspReceiveSection), Problem> {
        let message = NvspSendReceiveBuffer {
            msg_type: NvspSendReceiveBuffer::TYPE,
            gpadl_handle,
            id: NVSP_RECEIVE_BUFFER_ID,
            _reserved: 0,
        };
        let answer: NvspSendReceiveBufferComplete = self.ask(&message).await?;
        Ok((answer.status, answer.num_sections, answer.section))
    }

    /// All that comes before RNDIS.
    ///
    /// # Errors
    ///
    /// [`Problem`].
    pub async fn begin(&mut self) -> CaseResult {
        let agreed = self.version(NvspVersion::V1, NvspVersion::V1).await?;
        if agreed.is_none() {
            return skip("the host does not have version 1 of NVSP");
        }
        let msg_type = NvspSendNdisVersion::TYPE;
        self.tell(&NvspSendNdisVersion { msg_type, ndis_major_ver: 6, ndis_minor_ver: 1 }).await?;
        let (status, ..) = self.lend_receive_buffer().await?;
        check(status == NvspStatus::SUCCESS, || format!("receive buffer: {status:?}"))
    }

    /// Sends an RNDIS control message; the packet's number.
    async fn post_control(&self, message: &[u8]) -> Result<u64, Problem> {
        self.request.write(0, message).map_err(|_| Problem::Fail("a long message".into()))?;
        let pages: Vec<u64> = self.request.page_numbers().collect();
        let range = GpaRange { byte_count: message.len() as u32, byte_offset: 0, pages: &pages };
        let nvsp = NvspSendRndisPacket {
            msg_type: NvspSendRndisPacket::TYPE,
            channel_type: NvspChannelType::CONTROL,
            send_buf_section_index: NVSP_NO_SECTION,
            send_buf_section_size: 0,
        };
        let (ranges, payload) = ([range], padded(nvsp.as_bytes()));
        let (transaction, payload) = (self.transaction(), [&payload[..]]);
        let packet = OutgoingPacket::gpa_direct(transaction, &ranges, &payload).with_completion();
        self.channel.send(&packet).await.map_err(failed("send"))?;
        Ok(transaction)
    }

    /// Sends an RNDIS control message; how the packet was taken. An answer by RNDIS is passed over.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn send_control(&self, message: &[u8]) -> Result<NvspStatus, Problem> {
        let transaction = self.post_control(message).await?;
        status_of(&self.completion(transaction).await?)
    }

    /// Asks by RNDIS; the answer of type `A`, with all of its bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if none comes.
    pub async fn rndis<A: RndisMessage>(&self, message: &[u8]) -> Result<(A, Vec<u8>), Problem> {
        let transaction = self.post_control(message).await?;
        let (mut taken, mut answer) = (false, None);
        while !taken || answer.is_none() {
            match self.packet().await? {
                Packet::Pieces(number, pieces) => {
                    for piece in pieces {
                        answer = answer.or(self.read::<A>(piece)?);
                    }
                    self.release(number).await?;
                }
                Packet::Completion(number, bytes) if number == transaction => {
                    let status = status_of(&bytes)?;
                    check(status == NvspStatus::SUCCESS, || format!("not taken: {status:?}"))?;
                    taken = true;
                }
                _ => {}
            }
        }
        answer.map_or_else(|| Err(Problem::Fail("no answer".into())), Ok)
    }

    /// A piece of the receive buffer, if it is a message of type `A`.
    fn read<A: RndisMessage>(
        &self,
        (offset, bytes): (u32, u32),
    ) -> Result<Option<(A, Vec<u8>)>, Problem> {
        let outside = |_| Problem::Fail("a message outside the receive buffer".into());
        let Some(buffer) = &self.receive else { return Ok(None) };
        check(bytes as usize <= RECEIVE_PAGES * HV_PAGE_SIZE, || format!("{bytes} bytes"))?;
        let mut message = vec![0; bytes as usize];
        buffer.read(offset as usize, &mut message).map_err(outside)?;
        let header = RndisHeader::read_from_prefix(&message).map(|(header, _)| header);
        let header = header.map_err(|_| Problem::Fail("a message without a header".into()))?;
        check(header.msg_len <= bytes, || format!("{} bytes in {bytes}", header.msg_len))?;
        if header.ndis_msg_type != A::TYPE {
            return Ok(None);
        }
        let read = A::read_from_prefix(&message).map(|(read, _)| read);
        let read = read.map_err(|_| Problem::Fail("a message cut short".into()))?;
        Ok(Some((read, message)))
    }

    /// Gives pieces of the receive buffer back.
    async fn release(&self, transaction: u64) -> CaseResult {
        let done = NvspSendRndisPacketComplete {
            msg_type: NvspSendRndisPacketComplete::TYPE,
            status: NvspStatus::SUCCESS,
        };
        let payload = padded(done.as_bytes());
        let packet = [&payload[..]];
        let packet = OutgoingPacket::completion(transaction, &packet);
        self.channel.send(&packet).await.map_err(failed("complete"))
    }

    async fn end(self) -> CaseResult {
        let closed = self.channel.close().await.map_err(failed("close"));
        match self.receive {
            Some(buffer) => {
                let back = buffer.unshare().await.map(drop).map_err(failed("take back"));
                closed.and(back)
            }
            None => closed,
        }
    }
}

fn status_of(completion: &[u8]) -> Result<NvspStatus, Problem> {
    let done = NvspSendRndisPacketComplete::read_from_prefix(completion);
    let status = done.map(|(done, _)| done.status);
    status.map_err(|_| Problem::Fail("a completion cut short".into()))
}

/// A message as long as those of old versions are (Linux, `netvsc_init_buf` and others send `sizeof(struct nvsp_message)`).
fn padded(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes.resize(bytes.len().max(hv_abi::nvsp::NVSP_MESSAGE_BYTES), 0);
    bytes
}

/// Opens the first card's channel, does `body`, and closes it.
///
/// # Errors
///
/// That of `body`, or there is no card.
pub async fn with_channel<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&mut Card<E>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let offers = connected.of_kind(NVSP_INTERFACE, "network card")?;
        let Some(offer) = offers.first() else { return skip("no card") };
        let params = OpenParams {
            send_bytes: RING_BYTES,
            receive_bytes: RING_BYTES,
            ..OpenParams::default()
        };
        let opened = connected.bus.open(offer.channel, &params).await;
        let mut card = Card::new(opened.map_err(failed("open"))?)?;
        let result = body(&mut card).await;
        result.and(card.end().await)
    })
    .await
}

/// ... when all is done that comes before RNDIS.
///
/// # Errors
///
/// As [`with_channel`].
pub async fn begun<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&mut Card<E>) -> CaseResult,
) -> CaseResult {
    with_channel(environment, async |card| {
        card.begin().await?;
        body(card).await
    })
    .await
}

/// Sends a packet that is none of the protocol's, and sees that a driver can have the card afterwards. A host may end the channel or go
/// on; it may not answer as if all were well.
///
/// # Errors
///
/// [`Problem::Fail`].
pub async fn survives<E: Environment>(
    environment: &E,
    packets: &[OutgoingPacket<'_>],
) -> CaseResult {
    for packet in packets {
        with_channel(environment, async |card| {
            card.channel.send(packet).await.map_err(failed("send"))
        })
        .await?;
    }
    with_channel(environment, async |card| {
        let agreed = card.version(NvspVersion::V1, NvspVersion::V6_1).await?;
        check(agreed.is_some(), || "no version is agreed on after that".into())
    })
    .await
}
