//! A guest in this process, for tests: it posts messages by hypercalls, empties message slots, reads event flags, and has its
//! ends of rings, all in the plain memory of a machine without processors.
//!
//! [`TestGuest`] does one thing at a time and knows nothing by itself, so that it can misbehave as well. [`TestChannel`] is
//! a channel that it has opened.

mod channel;
mod lines;

pub(crate) use self::channel::{TestChannel, request as open_request};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};
use hv_abi::synic::{HV_MESSAGE_PAYLOAD_BYTES, HvInputPostMessage, HvInputSignalEvent, HvMessage};
use hv_abi::synic::{HvMessageHeader, HvMessageType};
use hv_abi::vmbus::message::{
    CloseChannel, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, InitiateContact,
    MessageHeader, MessageType, OfferChannel, RescindChannelOffer, VersionResponse, VmbusMessage,
};
use hv_abi::vmbus::packet::GpaRangeHeader;
use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use self::lines::TestLines;
use super::{ServerOptions, VmbusServer};
use crate::hyperv::synic::{Registers, Sint, Synic};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Processors.
pub(crate) const VPS: u32 = 2;
/// The source of messages, unless a test asks for another.
pub(crate) const SINT: u8 = 2;
/// RAM.
pub(crate) const RAM_BYTES: u64 = 64 << 20;
/// Input of `HvCallPostMessage`.
const INPUT: u64 = 0x1000;
/// Pages of a VP: messages and events.
const SYNIC_PAGES: u64 = 0x10_000;
/// The interrupt page of old guests.
pub(crate) const INTERRUPT_PAGE: u64 = 0x2000;
/// Host to guest, and guest to host.
pub(crate) const MONITOR_PAGES: [u64; 2] = [0x3000, 0x4000];
/// Memory that nothing above is in.
const FREE_PAGES: u64 = 0x100;

/// A machine with a bus, and its guest.
pub(crate) struct TestGuest {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) synic: Arc<Synic>,
    pub(crate) server: Arc<VmbusServer>,
    lines: TestLines,
    next_page: AtomicU64,
    next_gpadl: AtomicU64,
    /// Where messages come.
    pub(crate) target: Sint,
}

impl TestGuest {
    /// With every version.
    pub(crate) fn new() -> Self {
        Self::with(ServerOptions::new(VPS))
    }

    pub(crate) fn with(options: ServerOptions) -> Self {
        let ram = [(GuestAddress(0), RAM_BYTES as usize)];
        let memory = GuestMemoryMmap::from_ranges(&ram).unwrap();
        let lines = TestLines::default();
        let (kicks, kicked) = channel();
        let kick = Arc::new(move |vp| {
            // Nobody is there to be kicked when the test has ended.
            let _ = kicks.send(vp);
        });
        let synic = Synic::new(memory.clone(), VPS, Box::new(lines.clone()), kick);
        let synic = Arc::new(synic);
        let processors: Weak<Synic> = Arc::downgrade(&synic);
        std::thread::spawn(move || {
            while let (Ok(vp), Some(synic)) = (kicked.recv(), processors.upgrade()) {
                synic.work(vp);
            }
        });
        enable_synic(&synic, true);
        let server = VmbusServer::new(synic.clone(), memory.clone(), options).unwrap();
        let (next_page, next_gpadl) = (AtomicU64::new(FREE_PAGES), AtomicU64::new(0xE1E10));
        let target = Sint { vp: 0, number: SINT };
        Self { memory, synic, server, lines, next_page, next_gpadl, target }
    }

    /// Switches all SynICs on or off.
    pub(crate) fn enable_synic(&self, on: bool) {
        enable_synic(&self.synic, on);
    }

    /// Pages that nobody uses yet.
    pub(crate) fn pages(&self, count: u64) -> Vec<u64> {
        let first = self.next_page.fetch_add(count, Ordering::SeqCst);
        assert!((first + count) << 12 <= RAM_BYTES, "the test needs more RAM");
        (first..first + count).collect()
    }

    pub(crate) fn new_gpadl_number(&self) -> u32 {
        self.next_gpadl.fetch_add(1, Ordering::SeqCst) as u32
    }

    /// Posts once.
    pub(crate) fn try_post(&self, connection: u32, bytes: &[u8]) -> Result<(), HvError> {
        let mut input = HvInputPostMessage::new_zeroed();
        input.connection_id = connection;
        input.message_type = HvMessageType(1);
        input.payload_size = bytes.len() as u32;
        input.payload[..bytes.len()].copy_from_slice(bytes);
        self.memory.write_slice(input.as_bytes(), GuestAddress(INPUT)).unwrap();
        self.synic.hypercall(HypercallInput::new(HV_CALL_POST_MESSAGE), INPUT)
    }

    /// Posts to connection 1, again while the host has no room.
    pub(crate) fn post_bytes(&self, bytes: &[u8]) {
        self.post_by(1, bytes);
    }

    pub(crate) fn post_by(&self, connection: u32, bytes: &[u8]) {
        wait_for("room for a message", || match self.try_post(connection, bytes) {
            Err(HvError::INSUFFICIENT_BUFFERS) => None,
            result => Some(result),
        })
        .unwrap();
    }

    pub(crate) fn post<M: VmbusMessage>(&self, message: &M) {
        self.post_bytes(message.as_bytes());
    }

    pub(crate) fn post_header(&self, message_type: MessageType) {
        self.post_bytes(MessageHeader::new(message_type).as_bytes());
    }

    /// Takes the message in the slot of messages, if there is one.
    pub(crate) fn try_take(&self) -> Option<Vec<u8>> {
        let at = messages(self.target.vp) + u64::from(self.target.number) * 256;
        let slot = self.memory.get_slice(GuestAddress(at), 256).unwrap();
        let message_type = slot.get_atomic_ref::<std::sync::atomic::AtomicU32>(0).unwrap();
        if message_type.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let message: HvMessage = {
            let mut bytes = [0; size_of::<HvMessage>()];
            self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
            HvMessage::read_from_bytes(&bytes).unwrap()
        };
        message_type.store(0, Ordering::SeqCst);
        let header: HvMessageHeader = message.header;
        let flags: u8 = self.memory.read_obj(GuestAddress(at + 5)).unwrap();
        if flags & 1 != 0 {
            self.lines.acknowledge(self.target);
        }
        assert_eq!(header.message_type, HvMessageType(1));
        Some(message.payload[..usize::from(header.payload_size)].to_vec())
    }

    /// The next message's bytes.
    pub(crate) fn take_bytes(&self) -> Vec<u8> {
        wait_for("a message", || self.try_take())
    }

    /// The next message, which must be of this type.
    pub(crate) fn take<M: VmbusMessage>(&self) -> M {
        let bytes = self.take_bytes();
        let header = MessageHeader::read_from_prefix(&bytes).unwrap().0;
        assert_eq!(header.msgtype, M::TYPE, "{bytes:?}");
        M::read_from_bytes(&bytes).unwrap()
    }

    /// The next message, which must be nothing but a header of this type.
    pub(crate) fn take_header(&self, message_type: MessageType) {
        assert_eq!(self.take_bytes(), MessageHeader::new(message_type).as_bytes());
    }

    /// Nothing comes: the host has answered what was posted before, and sent no more.
    pub(crate) fn expect_silence(&self) {
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(self.try_take(), None);
    }

    /// A request for a connection as Linux makes it.
    pub(crate) fn contact_request(&self, version: VmbusVersion) -> InitiateContact {
        let old = version < VmbusVersion::V5_0;
        InitiateContact {
            header: MessageHeader::new(MessageType::INITIATE_CONTACT),
            vmbus_version_requested: version,
            target_vcpu: self.target.vp,
            target: if old { INTERRUPT_PAGE } else { self.target.number.into() },
            monitor_page1: MONITOR_PAGES[0],
            monitor_page2: MONITOR_PAGES[1],
        }
    }

    /// Asks for a connection, by the connection for messages that the version has.
    pub(crate) fn contact(&self, version: VmbusVersion) -> VersionResponse {
        let by = if version < VmbusVersion::V5_0 { 1 } else { 4 };
        self.post_by(by, self.contact_request(version).as_bytes());
        let bytes = self.take_bytes();
        VersionResponse::read_from_prefix(&bytes).unwrap().0
    }

    /// Connects, and takes the offers.
    pub(crate) fn connect(&self, version: VmbusVersion) -> Vec<OfferChannel> {
        assert_eq!(self.contact(version).version_supported, 1);
        self.request_offers()
    }

    pub(crate) fn request_offers(&self) -> Vec<OfferChannel> {
        self.post_header(MessageType::REQUESTOFFERS);
        let mut offers = Vec::new();
        loop {
            let bytes = self.take_bytes();
            match OfferChannel::read_from_bytes(&bytes) {
                Ok(offer) => offers.push(offer),
                Err(_) => {
                    let end = MessageHeader::new(MessageType::ALLOFFERS_DELIVERED);
                    assert_eq!(bytes, end.as_bytes());
                    return offers;
                }
            }
        }
    }

    /// Lends whole pages to a channel, in as many messages as it takes. Posts only.
    pub(crate) fn post_gpadl(&self, channel: u32, gpadl: u32, pages: &[u64]) {
        let range = GpaRangeHeader { byte_count: (pages.len() as u32) << 12, byte_offset: 0 };
        let mut list = range.as_bytes().to_vec();
        list.extend(pages.iter().flat_map(|page| page.to_le_bytes()));
        self.post_gpadl_list(channel, gpadl, 1, &list);
    }

    /// The same for any list of ranges.
    pub(crate) fn post_gpadl_list(&self, channel: u32, gpadl: u32, ranges: u16, list: &[u8]) {
        let header = GpadlHeader {
            header: MessageHeader::new(MessageType::GPADL_HEADER),
            child_relid: channel,
            gpadl,
            range_buflen: list.len() as u16,
            rangecount: ranges,
        };
        let room = (HV_MESSAGE_PAYLOAD_BYTES - size_of::<GpadlHeader>()) / 8 * 8;
        let (first, rest) = list.split_at(list.len().min(room));
        self.post_bytes(&[header.as_bytes(), first].concat());
        for (number, part) in rest.chunks(224).enumerate() {
            let head = [9, 0, number as u32 + 1, gpadl];
            self.post_bytes(&[head.as_bytes(), part].concat());
        }
    }

    /// Lends pages, with success.
    pub(crate) fn lend(&self, channel: u32, pages: &[u64]) -> u32 {
        let gpadl = self.new_gpadl_number();
        self.post_gpadl(channel, gpadl, pages);
        let created: GpadlCreated = self.take();
        assert_eq!((created.child_relid, created.gpadl), (channel, gpadl));
        assert_eq!(created.creation_status, 0);
        gpadl
    }

    pub(crate) fn post_teardown(&self, child_relid: u32, gpadl: u32) {
        let header = MessageHeader::new(MessageType::GPADL_TEARDOWN);
        self.post(&GpadlTeardown { header, child_relid, gpadl });
    }

    /// Takes memory back.
    pub(crate) fn tear_down(&self, child_relid: u32, gpadl: u32) {
        self.post_teardown(child_relid, gpadl);
        assert_eq!(self.take::<GpadlTorndown>().gpadl, gpadl);
    }

    pub(crate) fn post_close(&self, child_relid: u32) {
        let header = MessageHeader::new(MessageType::CLOSECHANNEL);
        self.post(&CloseChannel { header, child_relid });
    }

    /// The next message rescinds this channel.
    pub(crate) fn expect_rescind(&self, channel: u32) {
        assert_eq!(self.take::<RescindChannelOffer>().child_relid, channel);
    }

    /// Opens a channel with rings of so many pages each.
    pub(crate) fn open(&self, offer: &OfferChannel, ring_pages: u64) -> TestChannel {
        TestChannel::open(self, offer, ring_pages, 0)
    }

    /// `HvCallSignalEvent`.
    pub(crate) fn signal(&self, connection_id: u32) -> Result<(), HvError> {
        let input = HvInputSignalEvent { connection_id, flag_number: 0, _reserved: 0 };
        self.synic.hypercall(HypercallInput::new(HV_CALL_SIGNAL_EVENT), input.fast())
    }

    /// Clears an event flag; tells whether it was set.
    pub(crate) fn take_flag(&self, sint: Sint, flag: u32) -> bool {
        let at = events(sint.vp) + u64::from(sint.number) * 256 + u64::from(flag / 8);
        self.take_bit(at, flag % 8)
    }

    /// Clears a bit of a byte; tells whether it was set.
    pub(crate) fn take_bit(&self, address: u64, bit: u32) -> bool {
        let slice = self.memory.get_slice(GuestAddress(address), 1).unwrap();
        let byte = slice.get_atomic_ref::<std::sync::atomic::AtomicU8>(0).unwrap();
        byte.fetch_and(!(1 << bit), Ordering::SeqCst) & 1 << bit != 0
    }

    pub(crate) fn set_bit(&self, address: u64, bit: u32) {
        let slice = self.memory.get_slice(GuestAddress(address), 1).unwrap();
        let byte = slice.get_atomic_ref::<std::sync::atomic::AtomicU8>(0).unwrap();
        byte.fetch_or(1 << bit, Ordering::SeqCst);
    }

    /// Interrupts of a source since the last call; `None`: there is no route.
    pub(crate) fn take_interrupts(&self, sint: Sint) -> Option<u64> {
        self.lines.take_interrupts(sint)
    }

    /// Routes there are.
    pub(crate) fn routes(&self) -> usize {
        self.lines.count()
    }

    /// How often the guest did something wrong, by name.
    pub(crate) fn errors(&self, name: &str) -> u64 {
        self.server.report().errors.get(name).copied().unwrap_or(0)
    }

    /// Waits until an error was counted so often.
    pub(crate) fn expect_errors(&self, name: &str, count: u64) {
        wait_for(name, || (self.errors(name) >= count).then_some(()));
        assert_eq!(self.errors(name), count, "{:?}", self.server.report().errors);
    }
}

/// Waits for something.
pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn enable_synic(synic: &Synic, on: bool) {
    for vp in 0..VPS {
        let (message_page, event_page) = (messages(vp) | 1, events(vp) | 1);
        let control = on.into();
        synic.registers_changed(vp, Registers { control, message_page, event_page });
        synic.work(vp);
    }
}

fn messages(vp: u32) -> u64 {
    SYNIC_PAGES + u64::from(vp) * 0x2000
}

fn events(vp: u32) -> u64 {
    messages(vp) + 0x1000
}
