//! A guest's driver that does what it is told.

use std::sync::Arc;

use hv_abi::storvsp::{
    DataDirection, Operation, ProtocolVersion, StorvspVersion, VmscsiRequest, VstorHeader,
    VstorStatus,
};
use hv_abi::vmbus::message::OfferChannel;
use hv_abi::vmbus::packet::PacketType;
use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::{Bytes, GuestAddress};
use vmbus_ring::{GpaRange, OutgoingPacket};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::super::{StorvspDevice, StorvspOptions};
use crate::storage::controller::Controller;
use crate::storage::disk::Disk;
use crate::storage::engine::{EngineChoice, Engines};
use crate::storage::unit::Unit;
use crate::vmbus::testing::{TestChannel, TestGuest};

/// Pages of each ring.
const RING_PAGES: u64 = 9;

/// A machine with a controller.
pub(super) struct Machine {
    pub(super) guest: TestGuest,
    pub(super) controller: Arc<Controller>,
    pub(super) offer: OfferChannel,
}

/// A request's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: VstorStatus,
    pub(super) srb_status: u8,
    pub(super) scsi_status: u8,
    pub(super) bytes: u32,
    /// Key, additional code and qualifier.
    pub(super) sense: Option<(u8, u8, u8)>,
}

impl Outcome {
    pub(super) fn done(bytes: u32) -> Self {
        let status = VstorStatus::SUCCESS;
        Self { status, srb_status: 1, scsi_status: 0, bytes, sense: None }
    }

    pub(super) fn failed(key: u8, asc: u8, ascq: u8) -> Self {
        let (status, sense) = (VstorStatus::UNSUCCESSFUL, Some((key, asc, ascq)));
        Self { status, srb_status: 0x84, scsi_status: 2, bytes: 0, sense }
    }

    pub(super) fn refused(srb_status: u8, status: VstorStatus) -> Self {
        Self { status, srb_status, scsi_status: 0, bytes: 0, sense: None }
    }
}

/// Disks at 0, 1 and so on.
pub(super) fn controller(disks: &[Arc<dyn Disk>]) -> Arc<Controller> {
    let controller = Controller::default();
    for (lun, disk) in (0..).zip(disks) {
        controller.plug(lun, Arc::new(Unit::new("test", lun.into(), disk.clone()))).unwrap();
    }
    Arc::new(controller)
}

impl Machine {
    pub(super) fn new(disks: &[Arc<dyn Disk>]) -> Self {
        Self::with(disks, StorvspOptions::new(4), VmbusVersion::V5_3, EngineChoice::Auto)
    }

    pub(super) fn with(
        disks: &[Arc<dyn Disk>],
        options: StorvspOptions,
        bus: VmbusVersion,
        engine: EngineChoice,
    ) -> Self {
        let guest = TestGuest::new();
        let controller = controller(disks);
        let engines = Engines::new(engine).unwrap();
        let device = StorvspDevice::new(controller.clone(), engines, options);
        guest.server.add(Arc::new(device)).unwrap();
        let offer = guest.connect(bus).remove(0);
        Self { guest, controller, offer }
    }

    /// The primary channel, before the protocol's beginning.
    pub(super) fn open(&self) -> Channel<'_> {
        self.open_offer(&self.offer)
    }

    pub(super) fn open_offer(&self, offer: &OfferChannel) -> Channel<'_> {
        let channel = self.guest.open(offer, RING_PAGES);
        let version = StorvspVersion::V6_2;
        Channel { guest: &self.guest, channel, connection: offer.connection_id, version, next: 1 }
    }

    /// The primary channel, ready for requests.
    pub(super) fn start(&self) -> Channel<'_> {
        let mut channel = self.open();
        channel.begin(StorvspVersion::V6_2);
        channel
    }
}

/// An open channel.
pub(super) struct Channel<'g> {
    pub(super) guest: &'g TestGuest,
    pub(super) channel: TestChannel,
    /// By which the host is signalled.
    pub(super) connection: u32,
    pub(super) version: StorvspVersion,
    next: u64,
}

impl Channel<'_> {
    /// Sends these bytes as a packet that wants an answer; gives its transaction.
    pub(super) fn send_bytes(&mut self, payload: &[u8]) -> u64 {
        let transaction = self.next;
        self.next += 1;
        let parts = [payload];
        let packet = OutgoingPacket::in_band(transaction, &parts).with_completion();
        self.channel.send(self.guest, &packet);
        transaction
    }

    /// The next answer, and the transaction that it answers.
    pub(super) fn answer(&mut self) -> (u64, Vec<u8>) {
        let received = self.channel.receive(self.guest);
        assert_eq!(received.kind, PacketType::COMP);
        (received.transaction_id, received.payload)
    }

    /// Asks for something that is not a SCSI request. Gives the status, and what follows the header.
    pub(super) fn ask(&mut self, operation: Operation, payload: &[u8]) -> (VstorStatus, Vec<u8>) {
        let header = VstorHeader { operation, flags: 1, status: VstorStatus::SUCCESS };
        let mut bytes = [header.as_bytes(), payload].concat();
        bytes.resize(self.version.packet_bytes(), 0);
        let transaction = self.send_bytes(&bytes);
        let (answered, answer) = self.answer();
        assert_eq!((answered, answer.len()), (transaction, bytes.len()));
        let (header, rest) = VstorHeader::read_from_prefix(&answer).unwrap();
        assert_eq!(header.operation, Operation::COMPLETE_IO);
        (header.status, rest.to_vec())
    }

    /// Asks, with success.
    #[track_caller]
    pub(super) fn expect(&mut self, operation: Operation, payload: &[u8]) -> Vec<u8> {
        let (status, rest) = self.ask(operation, payload);
        assert_eq!(status, VstorStatus::SUCCESS, "{operation:?}");
        rest
    }

    pub(super) fn query_version(&mut self, version: StorvspVersion) -> VstorStatus {
        let asked = ProtocolVersion { major_minor: version, revision: 0 };
        self.ask(Operation::QUERY_PROTOCOL_VERSION, asked.as_bytes()).0
    }

    /// The protocol's beginning with this version.
    pub(super) fn begin(&mut self, version: StorvspVersion) {
        self.expect(Operation::BEGIN_INITIALIZATION, &[]);
        assert_eq!(self.query_version(version), VstorStatus::SUCCESS);
        self.version = version;
        self.expect(Operation::QUERY_PROPERTIES, &[]);
        self.expect(Operation::END_INITIALIZATION, &[]);
    }

    /// A request as Linux makes it.
    pub(super) fn request(
        &self,
        lun: u8,
        cdb: &[u8],
        way: DataDirection,
        bytes: u32,
    ) -> VmscsiRequest {
        let mut request = VmscsiRequest::new_zeroed();
        request.length = self.version.srb_bytes() as u16;
        request.lun = lun;
        request.cdb_length = cdb.len() as u8;
        request.sense_info_length = self.version.sense_bytes() as u8;
        request.data_in = way;
        request.data_transfer_length = bytes;
        request.cdb_or_sense[..cdb.len()].copy_from_slice(cdb);
        request
    }

    /// Sends a request with these ranges of memory.
    pub(super) fn send_request(&mut self, request: &VmscsiRequest, ranges: &[GpaRange<'_>]) -> u64 {
        let header = VstorHeader {
            operation: Operation::EXECUTE_SRB,
            flags: 1,
            status: VstorStatus::SUCCESS,
        };
        let srb = &request.as_bytes()[..self.version.srb_bytes()];
        let parts = [header.as_bytes(), srb];
        let transaction = self.next;
        self.next += 1;
        let packet = match ranges {
            [] => OutgoingPacket::in_band(transaction, &parts),
            ranges => OutgoingPacket::gpa_direct(transaction, ranges, &parts),
        };
        self.channel.send(self.guest, &packet.with_completion());
        transaction
    }

    /// The next request's outcome.
    pub(super) fn outcome(&mut self) -> (u64, Outcome) {
        let (transaction, answer) = self.answer();
        assert_eq!(answer.len(), self.version.packet_bytes());
        let (header, rest) = VstorHeader::read_from_prefix(&answer).unwrap();
        assert_eq!(header.operation, Operation::COMPLETE_IO);
        let mut srb = [0; size_of::<VmscsiRequest>()];
        srb[..rest.len()].copy_from_slice(rest);
        let srb = VmscsiRequest::read_from_bytes(&srb).unwrap();
        let sense = srb.cdb_or_sense;
        let outcome = Outcome {
            status: header.status,
            srb_status: srb.srb_status.0,
            scsi_status: srb.scsi_status,
            bytes: srb.data_transfer_length,
            sense: srb.srb_status.has_autosense().then_some((sense[2], sense[12], sense[13])),
        };
        if srb.srb_status.has_autosense() {
            assert_eq!(srb.sense_info_length, 18);
        }
        (transaction, outcome)
    }

    /// A command without data.
    pub(super) fn command(&mut self, lun: u8, cdb: &[u8]) -> Outcome {
        let request = self.request(lun, cdb, DataDirection::UNKNOWN, 0);
        self.send_request(&request, &[]);
        self.outcome().1
    }

    /// A command that reads so many bytes.
    pub(super) fn read(&mut self, lun: u8, cdb: &[u8], bytes: u32) -> (Outcome, Vec<u8>) {
        let memory = Memory::new(self.guest, bytes);
        let request = self.request(lun, cdb, DataDirection::READ, bytes);
        self.send_request(&request, &[memory.range()]);
        let (_, outcome) = self.outcome();
        let content = memory.content(self.guest);
        let (moved, rest) = content.split_at(outcome.bytes as usize);
        assert!(rest.iter().all(|&byte| byte == UNTOUCHED), "more was written than was said");
        (outcome, moved.to_vec())
    }

    /// A command that writes these bytes.
    pub(super) fn write(&mut self, lun: u8, cdb: &[u8], content: &[u8]) -> Outcome {
        let memory = Memory::new(self.guest, content.len() as u32);
        memory.fill(self.guest, content);
        let request = self.request(lun, cdb, DataDirection::WRITE, content.len() as u32);
        self.send_request(&request, &[memory.range()]);
        self.outcome().1
    }

    /// READ (10).
    pub(super) fn read_blocks(&mut self, lun: u8, lba: u32, count: u16) -> (Outcome, Vec<u8>) {
        self.read(lun, &blocks_10(0x28, lba, count), u32::from(count) * 512)
    }

    /// WRITE (10).
    pub(super) fn write_blocks(&mut self, lun: u8, lba: u32, content: &[u8]) -> Outcome {
        self.write(lun, &blocks_10(0x2A, lba, (content.len() / 512) as u16), content)
    }
}

/// A command of 10 bytes about blocks.
pub(super) fn blocks_10(op: u8, lba: u32, count: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (lba.to_be_bytes(), count.to_be_bytes());
    [op, 0, a, b, c, d, 0, e, f, 0]
}

/// What fresh memory is filled with.
const UNTOUCHED: u8 = 0xEE;
/// Where in its first page memory begins.
const OFFSET: u32 = 512;

/// Guest memory whose pages do not lie in order.
pub(super) struct Memory {
    pub(super) pages: Vec<u64>,
    bytes: u32,
}

impl Memory {
    pub(super) fn new(guest: &TestGuest, bytes: u32) -> Self {
        let mut pages = guest.pages(u64::from(OFFSET + bytes).div_ceil(4096));
        pages.reverse();
        let memory = Self { pages, bytes };
        memory.fill(guest, &vec![UNTOUCHED; bytes as usize]);
        memory
    }

    pub(super) fn range(&self) -> GpaRange<'_> {
        GpaRange { byte_count: self.bytes, byte_offset: OFFSET, pages: &self.pages }
    }

    fn addresses(&self) -> impl Iterator<Item = GuestAddress> {
        (0..u64::from(self.bytes)).map(|at| {
            let at = at + u64::from(OFFSET);
            GuestAddress(self.pages[(at / 4096) as usize] * 4096 + at % 4096)
        })
    }

    pub(super) fn fill(&self, guest: &TestGuest, content: &[u8]) {
        for (address, byte) in self.addresses().zip(content) {
            guest.memory.write_obj(*byte, address).unwrap();
        }
    }

    pub(super) fn content(&self, guest: &TestGuest) -> Vec<u8> {
        self.addresses().map(|address| guest.memory.read_obj(address).unwrap()).collect()
    }
}
