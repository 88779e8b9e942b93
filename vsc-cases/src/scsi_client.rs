//! SCSI commands past the driver: a channel of a controller on which a case says every byte itself.

use alloc::format;
use alloc::vec::Vec;
use core::cell::Cell;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::scsi::ScsiStatus;
use hv_abi::scsi::sense::SenseKey;
use hv_abi::storvsp::{
    DataDirection, Operation, ProtocolVersion, REQUEST_COMPLETION_FLAG, SCSI_GUID,
    SENSE_BUFFER_BYTES, SrbFlags, SrbStatus, StorvspVersion, VmscsiRequest, VstorHeader,
    VstorStatus,
};
use hv_abi::vmbus::packet::PacketType;
use vmbus_ring::OutgoingPacket;
use vmbus_ring::gpa::GpaRange;
use vsc_drivers::task::within;
use vsc_drivers::{Channel, DmaBuffer, OpenParams, SECOND_100NS};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::scsi::target::{Data, Outcome, ScsiDisk, Target};
use crate::support::{check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// Pages for data.
pub const DATA_PAGES: usize = 64;
/// Times that a disk may have news before it does what it is asked.
const MAX_ATTENTIONS: u32 = 16;
/// Bytes of the longest answer.
const ANSWER_BYTES: usize = 256;

/// A direction as a request has it, with its bytes and flags.
fn direction(data: Data) -> (DataDirection, u32, SrbFlags) {
    match data {
        Data::None => (DataDirection::UNKNOWN, 0, SrbFlags::empty()),
        Data::In(bytes) => (DataDirection::READ, bytes, SrbFlags::DATA_IN),
        Data::Out(bytes) => (DataDirection::WRITE, bytes, SrbFlags::DATA_OUT),
    }
}

/// An answer to any operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its transaction.
    pub transaction: u64,
    /// Its status.
    pub status: VstorStatus,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The protocol's status.
    pub status: VstorStatus,
    /// The request.
    pub request: VmscsiRequest,
}

impl Answer {
    /// Whether it succeeded.
    pub fn is_good(&self) -> bool {
        self.status == VstorStatus::SUCCESS
            && self.request.srb_status.code() == SrbStatus::SUCCESS
            && self.request.scsi_status == ScsiStatus::GOOD.0
    }

    /// The sense data, if there is any.
    pub fn sense(&self) -> Option<&[u8]> {
        let length = usize::from(self.request.sense_info_length);
        let sense = self.request.cdb_or_sense.get(..length)?;
        self.request.srb_status.has_autosense().then_some(sense)
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self {
            good: answer.is_good(),
            status: ScsiStatus(answer.request.scsi_status),
            sense: answer.sense().map(<[u8]>::to_vec),
            moved: answer.request.data_transfer_length,
        }
    }
}

/// A controller's channel, ready for commands.
pub struct Scsi<E: Environment> {
    /// The channel.
    pub channel: Channel<E::Hal>,
    /// The version that was agreed on.
    pub version: StorvspVersion,
    /// Memory for data.
    pub data: DmaBuffer<E::Hal>,
    next: Cell<u64>,
}

impl<E: Environment> Scsi<E> {
    /// A channel that was opened, before the protocol's beginning.
    ///
    /// # Errors
    ///
    /// [`Problem::Skip`] if there is no memory.
    pub fn new(channel: Channel<E::Hal>) -> Result<Self, Problem> {
        let Some(data) = DmaBuffer::new(channel.hal(), DATA_PAGES) else {
            return skip("no memory for data");
        };
        let (version, next) = (StorvspVersion::V6_2, Cell::new(1));
        Ok(Self { channel, version, data, next })
    }

    /// A new number for a packet.
    pub fn transaction(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// The header of an operation, with this behind it, as long as the version's packets are.
    pub fn packet(&self, operation: Operation, payload: &[u8]) -> Vec<u8> {
        let status = VstorStatus::SUCCESS;
        let header = VstorHeader { operation, flags: REQUEST_COMPLETION_FLAG, status };
        let mut packet = [header.as_bytes(), payload].concat();
        packet.resize(self.version.packet_bytes(), 0);
        packet
    }

    /// The next answer, which must come within ten seconds. News that nobody asked for are passed over.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn reply(&self) -> Result<Reply, Problem> {
        let next = async {
            loop {
                let mut buffer = [0; ANSWER_BYTES];
                let taken = self.channel.try_receive(&mut buffer, |packet| {
                    let read = VstorHeader::read_from_prefix(packet.payload()).ok();
                    let is_answer = packet.kind() == PacketType::COMP;
                    read.filter(|_| is_answer).map(|(header, rest)| Reply {
                        transaction: packet.transaction_id(),
                        status: header.status,
                        payload: rest.to_vec(),
                    })
                });
                match taken.map_err(failed("receive"))? {
                    Some(Some(reply)) => return Ok(reply),
                    Some(None) => {}
                    None => self.channel.wait().await.map_err(failed("wait"))?,
                }
            }
        };
        match within(self.channel.hal(), 10 * SECOND_100NS, next).await {
            Ok(reply) => reply,
            Err(_) => Err(Problem::Fail("no answer came".into())),
        }
    }

    /// Asks for an operation, and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if none comes.
    pub async fn ask(&self, operation: Operation, payload: &[u8]) -> Result<Reply, Problem> {
        let (transaction, packet) = (self.transaction(), self.packet(operation, payload));
        let payload = [&packet[..]];
        let packet = OutgoingPacket::in_band(transaction, &payload).with_completion();
        self.channel.send(&packet).await.map_err(failed("send"))?;
        let reply = self.reply().await?;
        check(reply.transaction == transaction, || "an answer to something else".into())?;
        Ok(reply)
    }

    /// The protocol's beginning with a version; whether the host has that.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn begin(&mut self, version: StorvspVersion) -> Result<bool, Problem> {
        self.version = version;
        let begun = self.ask(Operation::BEGIN_INITIALIZATION, &[]).await?;
        check(begun.status == VstorStatus::SUCCESS, || format!("begin: {:?}", begun.status))?;
        let asked = ProtocolVersion { major_minor: version, revision: 0 };
        let asked = self.ask(Operation::QUERY_PROTOCOL_VERSION, asked.as_bytes()).await?;
        if asked.status != VstorStatus::SUCCESS {
            return Ok(false);
        }
        for operation in [Operation::QUERY_PROPERTIES, Operation::END_INITIALIZATION] {
            let reply = self.ask(operation, &[]).await?;
            check(reply.status == VstorStatus::SUCCESS, || {
                format!("{operation:?}: {:?}", reply.status)
            })?;
        }
        Ok(true)
    }

    /// A request as the version has it.
    pub fn request(&self, lun: u8, cdb: &[u8], data: Data) -> VmscsiRequest {
        let (data_in, bytes, flags) = direction(data);
        let mut request = VmscsiRequest::new_zeroed();
        request.length = self.version.srb_bytes() as u16;
        request.lun = lun;
        request.cdb_length = cdb.len() as u8;
        request.sense_info_length = self.version.sense_bytes() as u8;
        request.data_in = data_in;
        request.data_transfer_length = bytes;
        request.cdb_or_sense[..cdb.len()].copy_from_slice(cdb);
        request.srb_flags = flags.bits();
        request.time_out_value = 60;
        request
    }

    /// Sends a request with the first `bytes` bytes of the memory for data; its transaction.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn send(&self, request: &VmscsiRequest, bytes: u32) -> Result<u64, Problem> {
        let pages: Vec<u64> = self.data.page_numbers().collect();
        let used = (bytes as usize).div_ceil(HV_PAGE_SIZE);
        let range = GpaRange { byte_count: bytes, byte_offset: 0, pages: &pages[..used] };
        self.send_ranges(request, if bytes == 0 { &[] } else { core::slice::from_ref(&range) })
            .await
    }

    /// ... with these ranges of memory.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn send_ranges(
        &self,
        request: &VmscsiRequest,
        ranges: &[GpaRange<'_>],
    ) -> Result<u64, Problem> {
        let (transaction, packet) =
            (self.transaction(), self.packet(Operation::EXECUTE_SRB, request.as_bytes()));
        let payload = [&packet[..self.version.packet_bytes()]];
        let packet = match ranges {
            [] => OutgoingPacket::in_band(transaction, &payload),
            ranges => OutgoingPacket::gpa_direct(transaction, ranges, &payload),
        };
        self.channel.send(&packet.with_completion()).await.map_err(failed("send"))?;
        Ok(transaction)
    }

    /// The next answer, to whatever request.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`].
    pub async fn answer(&self) -> Result<(u64, Answer), Problem> {
        let Reply { transaction, status, mut payload } = self.reply().await?;
        payload.resize(size_of::<VmscsiRequest>(), 0);
        let request = VmscsiRequest::read_from_bytes(&payload);
        let request = request.map_err(|_| Problem::Fail("a short answer".into()))?;
        let room = usize::from(request.sense_info_length) <= SENSE_BUFFER_BYTES;
        check(room, || "more sense data than room".into())?;
        Ok((transaction, Answer { status, request }))
    }

    /// Sends a request as it is, and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if none comes.
    pub async fn submit(&self, request: &VmscsiRequest, bytes: u32) -> Result<Answer, Problem> {
        let transaction = self.send(request, bytes).await?;
        let (answered, answer) = self.answer().await?;
        check(answered == transaction, || "an answer to something else".into())?;
        Ok(answer)
    }

    /// Closes the channel; the host has nothing of the memory then.
    async fn end(self) -> CaseResult {
        let Self { channel, data, .. } = self;
        let closed = channel.close().await.map_err(failed("close"));
        drop(data);
        closed
    }
}

impl<E: Environment> Target for Scsi<E> {
    async fn run(&self, lun: u8, cdb: &[u8], data: Data) -> Result<Outcome, Problem> {
        self.submit(&self.request(lun, cdb, data), direction(data).1).await.map(Outcome::from)
    }

    fn read(&self, bytes: &mut [u8]) -> CaseResult {
        self.data.read(0, bytes).map_err(|_| Problem::Fail("more data than room".into()))
    }

    fn write(&self, bytes: &[u8]) -> CaseResult {
        self.data.write(0, bytes).map_err(|_| Problem::Fail("more data than room".into()))
    }

    async fn is_there(&self, lun: u8) -> Result<bool, Problem> {
        for _ in 0..MAX_ATTENTIONS {
            let outcome = self.run(lun, &[0; 6], Data::None).await?;
            match outcome.error() {
                Some((SenseKey::UNIT_ATTENTION, _)) => {}
                _ => return Ok(outcome.is_good()),
            }
        }
        Err(Problem::Fail("news without end".into()))
    }
}

/// Opens the first controller's channel with rings of so many pages, and does `body` before the protocol's beginning.
///
/// # Errors
///
/// That of `body`, or the channel does not open or close.
pub async fn with_fresh_channel<E: Environment>(
    environment: &E,
    ring_pages: usize,
    body: impl AsyncFnOnce(&mut Scsi<E>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let offers = connected.of_kind(SCSI_GUID, "SCSI controller")?;
        let Some(offer) = offers.first() else { return skip("no controller") };
        let bytes = ring_pages * HV_PAGE_SIZE;
        let params =
            OpenParams { send_bytes: bytes, receive_bytes: bytes, ..OpenParams::default() };
        let opened = connected.bus.open(offer.channel, &params).await;
        let mut scsi = Scsi::new(opened.map_err(failed("open"))?)?;
        let result = body(&mut scsi).await;
        result.and(scsi.end().await)
    })
    .await
}

/// Opens the first controller's channel, and does `body` with its scratch disk, at a version.
///
/// # Errors
///
/// That of `body`, or there is no such disk or version.
pub async fn at_version<E: Environment>(
    environment: &E,
    version: StorvspVersion,
    body: impl AsyncFnOnce(ScsiDisk<'_, Scsi<E>>) -> CaseResult,
) -> CaseResult {
    with_fresh_channel(environment, 16, async |scsi| {
        if !scsi.begin(version).await? {
            return skip(format!("the host does not have version {version}"));
        }
        body(ScsiDisk::find(scsi).await?).await
    })
    .await
}

/// ... at the newest version that the host has.
///
/// # Errors
///
/// As [`at_version`].
pub async fn with_disk<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(ScsiDisk<'_, Scsi<E>>) -> CaseResult,
) -> CaseResult {
    at_version(environment, StorvspVersion::V6_2, body).await
}
