//! SCSI commands past the driver: a channel of a controller on which a case says every byte itself.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::scsi::cdb::{
    CdbBlocks6, CdbBlocks10, CdbBlocks12, CdbBlocks16, CdbInquiry, CdbServiceActionIn16,
};
use hv_abi::scsi::data::ReadCapacity16;
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};
use hv_abi::scsi::{ScsiOp, ScsiStatus, service_action_in};
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

use crate::support::{check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// Pages for data.
pub const DATA_PAGES: usize = 64;
/// Bytes of a scratch disk, at least.
const SCRATCH_BYTES: u64 = 16 << 20;
/// Times that a disk may have news before it does what it is asked.
const MAX_ATTENTIONS: u32 = 16;
/// Bytes of the longest answer.
const ANSWER_BYTES: usize = 256;

/// Which way data goes, and how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// None.
    None,
    /// To the guest.
    In(u32),
    /// From the guest.
    Out(u32),
}

impl Data {
    fn direction(self) -> (DataDirection, u32, SrbFlags) {
        match self {
            Self::None => (DataDirection::UNKNOWN, 0, SrbFlags::empty()),
            Self::In(bytes) => (DataDirection::READ, bytes, SrbFlags::DATA_IN),
            Self::Out(bytes) => (DataDirection::WRITE, bytes, SrbFlags::DATA_OUT),
        }
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

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The protocol's status.
    pub status: VstorStatus,
    /// The request.
    pub request: VmscsiRequest,
}

impl Outcome {
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

    /// Key and code of fixed sense data.
    pub fn error(&self) -> Option<(SenseKey, AdditionalSense)> {
        let sense = self.sense()?;
        let code = u16::from_be_bytes([*sense.get(12)?, *sense.get(13)?]);
        Some((SenseKey(sense.get(2)? & 0xF), AdditionalSense(code)))
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
    /// The scratch disk's number.
    pub lun: u8,
    /// Its blocks.
    pub blocks: u64,
    /// Bytes of each.
    pub block_bytes: u32,
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
        Ok(Self { channel, version, data, lun: 0, blocks: 0, block_bytes: 512, next })
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
        let (data_in, bytes, flags) = data.direction();
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
    pub async fn outcome(&self) -> Result<(u64, Outcome), Problem> {
        let Reply { transaction, status, mut payload } = self.reply().await?;
        payload.resize(size_of::<VmscsiRequest>(), 0);
        let request = VmscsiRequest::read_from_bytes(&payload);
        let request = request.map_err(|_| Problem::Fail("a short answer".into()))?;
        let room = usize::from(request.sense_info_length) <= SENSE_BUFFER_BYTES;
        check(room, || "more sense data than room".into())?;
        Ok((transaction, Outcome { status, request }))
    }

    /// Sends a request as it is, and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if none comes.
    pub async fn submit(&self, request: &VmscsiRequest, bytes: u32) -> Result<Outcome, Problem> {
        let transaction = self.send(request, bytes).await?;
        let (answered, outcome) = self.outcome().await?;
        check(answered == transaction, || "an answer to something else".into())?;
        Ok(outcome)
    }

    /// A command to a disk.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if there is no answer.
    pub async fn run_at(&self, lun: u8, cdb: &[u8], data: Data) -> Result<Outcome, Problem> {
        self.submit(&self.request(lun, cdb, data), data.direction().1).await
    }

    /// A command to the scratch disk.
    ///
    /// # Errors
    ///
    /// As [`run_at`](Self::run_at).
    pub async fn run(&self, cdb: &[u8], data: Data) -> Result<Outcome, Problem> {
        self.run_at(self.lun, cdb, data).await
    }

    /// A command that must succeed; bytes that were moved.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if it does not.
    pub async fn good(&self, cdb: &[u8], data: Data) -> Result<u32, Problem> {
        let outcome = self.run(cdb, data).await?;
        check(outcome.is_good(), || format!("{cdb:x?}: {outcome:x?}"))?;
        Ok(outcome.request.data_transfer_length)
    }

    /// A command that gives data: what it gives.
    ///
    /// # Errors
    ///
    /// As [`good`](Self::good).
    pub async fn get(&self, cdb: &[u8], bytes: u32) -> Result<Vec<u8>, Problem> {
        let length = self.good(cdb, Data::In(bytes)).await?;
        check(length <= bytes, || format!("{length} of {bytes} bytes"))?;
        self.read(length as usize)
    }

    /// A command that must fail so.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if it does not.
    pub async fn refused(
        &self,
        cdb: &[u8],
        data: Data,
        key: SenseKey,
        code: AdditionalSense,
    ) -> CaseResult {
        let outcome = self.run(cdb, data).await?;
        let is_check = outcome.request.scsi_status == ScsiStatus::CHECK_CONDITION.0;
        check(is_check && outcome.error() == Some((key, code)), || {
            format!("{cdb:x?}: {:x?}, {outcome:x?}", outcome.error())
        })
    }

    /// The first bytes of the memory for data.
    ///
    /// # Errors
    ///
    /// There are not so many.
    pub fn read(&self, bytes: usize) -> Result<Vec<u8>, Problem> {
        let mut read = vec![0; bytes];
        let result = self.data.read(0, &mut read);
        result.map(|()| read).map_err(|_| Problem::Fail("more data than room".into()))
    }

    /// Fills the beginning of the memory for data.
    ///
    /// # Errors
    ///
    /// There is less.
    pub fn write(&self, bytes: &[u8]) -> CaseResult {
        self.data.write(0, bytes).map_err(|_| Problem::Fail("more data than room".into()))
    }

    /// Writes blocks.
    ///
    /// # Errors
    ///
    /// As [`good`](Self::good).
    pub async fn put(&self, lba: u64, bytes: &[u8]) -> CaseResult {
        self.write(bytes)?;
        let blocks = bytes.len() as u32 / self.block_bytes;
        let cdb = blocks_16(ScsiOp::WRITE_16, lba, blocks);
        self.good(&cdb, Data::Out(bytes.len() as u32)).await.map(drop)
    }

    /// Reads blocks.
    ///
    /// # Errors
    ///
    /// As [`good`](Self::good).
    pub async fn take(&self, lba: u64, blocks: u32) -> Result<Vec<u8>, Problem> {
        let bytes = blocks * self.block_bytes;
        self.write(&vec![0xEE; bytes as usize])?;
        self.get(&blocks_16(ScsiOp::READ_16, lba, blocks), bytes).await
    }

    /// Hears all news of a disk; whether there is one.
    ///
    /// # Errors
    ///
    /// [`Problem::Fail`] if the news have no end.
    pub async fn hear_news(&self, lun: u8) -> Result<bool, Problem> {
        for _ in 0..MAX_ATTENTIONS {
            let outcome = self.run_at(lun, &[0; 6], Data::None).await?;
            match outcome.error() {
                Some((SenseKey::UNIT_ATTENTION, _)) => {}
                _ => return Ok(outcome.is_good()),
            }
        }
        Err(Problem::Fail("news without end".into()))
    }

    /// Finds a disk that can be written to.
    async fn find_scratch(&mut self) -> CaseResult {
        for lun in 0..8 {
            if !self.hear_news(lun).await? {
                continue;
            }
            self.lun = lun;
            let answer = self.get(&read_capacity_16(32), 32).await?;
            let Ok(capacity) = ReadCapacity16::read_from_bytes(&answer) else { continue };
            self.block_bytes = capacity.block_bytes.get();
            self.blocks = capacity.last_lba.get().saturating_add(1);
            let mode = self.get(&[ScsiOp::MODE_SENSE_6.0, 8, 0x3F, 0, 64, 0], 64).await?;
            let writable = mode.get(2).is_some_and(|flags| flags & 0x80 == 0);
            if writable && self.blocks >= SCRATCH_BYTES / u64::from(self.block_bytes) {
                return Ok(());
            }
        }
        skip("there is no writable disk of 16 MiB")
    }

    /// Closes the channel; the host has nothing of the memory then.
    async fn end(self) -> CaseResult {
        let Self { channel, data, .. } = self;
        let closed = channel.close().await.map_err(failed("close"));
        drop(data);
        closed
    }
}

/// A 6-byte command on blocks.
pub fn blocks_6(op: ScsiOp, lba: u32, blocks: u8) -> [u8; 6] {
    let [_, high, middle, low] = lba.to_be_bytes();
    let lba_low = u16::from_be_bytes([middle, low]).into();
    let cdb = CdbBlocks6 { op, lba_high: high, lba_low, blocks, control: 0 };
    zerocopy::transmute!(cdb)
}

/// A 10-byte command on blocks.
pub fn blocks_10(op: ScsiOp, lba: u32, blocks: u16) -> [u8; 10] {
    let (lba, blocks) = (lba.into(), blocks.into());
    zerocopy::transmute!(CdbBlocks10 { op, flags: 0, lba, group: 0, blocks, control: 0 })
}

/// A 12-byte command on blocks.
pub fn blocks_12(op: ScsiOp, lba: u32, blocks: u32) -> [u8; 12] {
    let (lba, blocks) = (lba.into(), blocks.into());
    zerocopy::transmute!(CdbBlocks12 { op, flags: 0, lba, blocks, group: 0, control: 0 })
}

/// A 16-byte command on blocks.
pub fn blocks_16(op: ScsiOp, lba: u64, blocks: u32) -> [u8; 16] {
    let (lba, blocks) = (lba.into(), blocks.into());
    zerocopy::transmute!(CdbBlocks16 { op, flags: 0, lba, blocks, group: 0, control: 0 })
}

/// INQUIRY: a page of vital product data, or the standard data.
pub fn inquiry(page: Option<u8>, allocation: u16) -> [u8; 6] {
    let (flags, page_code) = page.map_or((0, 0), |page| (1, page));
    let allocation_length = allocation.into();
    let op = ScsiOp::INQUIRY;
    zerocopy::transmute!(CdbInquiry { op, flags, page_code, allocation_length, control: 0 })
}

/// READ CAPACITY (16).
pub fn read_capacity_16(allocation: u32) -> [u8; 16] {
    let cdb = CdbServiceActionIn16 {
        op: ScsiOp::SERVICE_ACTION_IN_16,
        service_action: service_action_in::READ_CAPACITY_16,
        lba: 0.into(),
        allocation_length: allocation.into(),
        flags: 0,
        control: 0,
    };
    zerocopy::transmute!(cdb)
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
    body: impl AsyncFnOnce(&mut Scsi<E>) -> CaseResult,
) -> CaseResult {
    with_fresh_channel(environment, 16, async |scsi| {
        if !scsi.begin(version).await? {
            return skip(format!("the host does not have version {version}"));
        }
        scsi.find_scratch().await?;
        body(scsi).await
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
    body: impl AsyncFnOnce(&mut Scsi<E>) -> CaseResult,
) -> CaseResult {
    at_version(environment, StorvspVersion::V6_2, body).await
}
