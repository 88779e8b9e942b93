//! What the fake host knows, and how it answers each message of the guest.

use std::collections::{BTreeMap, VecDeque};
use std::vec;
use std::vec::Vec;

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::{
    CloseChannel, GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown,
    InitiateContact, MessageHeader, MessageType, ModifyChannel, ModifyChannelResponse,
    OfferChannel, OpenChannel, OpenChannelResult, RelidReleased, RescindChannelOffer,
    VersionResponse, VersionResponse2, VmbusMessage,
};
use hv_abi::vmbus::version::VmbusVersion;
use vmbus_ring::gpa::GpaRanges;
use zerocopy::{FromBytes, IntoBytes};

use super::mischief::Rule;

/// The connection that the host names for messages from version 5.0 on.
pub(super) const MESSAGE_CONNECTION: u32 = 0x2004;
/// Bytes of an offer before version 1.1.
const OFFER_0_13_BYTES: usize = 190;

/// A channel that is open.
pub(super) struct Opened {
    pub(super) message: OpenChannel,
    /// Counts all openings.
    pub(super) serial: u64,
    /// Whether somebody plays the device.
    pub(super) served: bool,
}

pub(super) struct Device {
    pub(super) message: OfferChannel,
    /// Taken back, and the guest has not yet said that it has done with it.
    pub(super) gone: bool,
    pub(super) opened: Option<Opened>,
    pub(super) target_vp: u32,
    /// How often the guest has signalled, by call and by monitor.
    pub(super) signals: u64,
    pub(super) monitor_signals: u64,
}

pub(super) struct Gpadl {
    pub(super) relid: u32,
    pub(super) pages: Vec<u64>,
    raw: Vec<u8>,
    bytes: usize,
    refuse: u32,
}

pub(super) struct Host {
    pub(super) newest: VmbusVersion,
    pub(super) oldest: VmbusVersion,
    pub(super) connected: Option<InitiateContact>,
    /// Whether the guest has asked for offers.
    pub(super) asked: bool,
    pub(super) devices: BTreeMap<u32, Device>,
    pub(super) gpadls: BTreeMap<u32, Gpadl>,
    pub(super) rules: Vec<Rule>,
    /// Set by the first mischief: the guest may then be out of step.
    pub(super) forgiving: bool,
    /// Set when the host says what is not so: the guest may then do anything.
    pub(super) lying: bool,
    /// Refuses signals.
    pub(super) deaf: bool,
    pub(super) refusals: VecDeque<HvError>,
    pub(super) messages: Vec<(u32, Vec<u8>)>,
    pub(super) serial: u64,
}

impl Host {
    pub(super) const fn new() -> Self {
        Self {
            newest: VmbusVersion::V6_0,
            oldest: VmbusVersion::V0_13,
            connected: None,
            asked: false,
            devices: BTreeMap::new(),
            gpadls: BTreeMap::new(),
            rules: Vec::new(),
            forgiving: false,
            lying: false,
            deaf: false,
            refusals: VecDeque::new(),
            messages: Vec::new(),
            serial: 0,
        }
    }

    pub(super) fn version(&self) -> Option<VmbusVersion> {
        self.connected.map(|contact| contact.vmbus_version_requested)
    }

    /// Whether the guest may post to that connection.
    pub(super) fn has_connection(&self, connection: u32) -> bool {
        let old = self.version().is_none_or(|version| version < VmbusVersion::V5_0);
        match connection {
            1 => old,
            4 => self.newest >= VmbusVersion::V5_0,
            MESSAGE_CONNECTION => !old,
            _ => false,
        }
    }

    /// Does what the message asks for; returns the answers.
    pub(super) fn handle(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let header: MessageHeader = read(message);
        match header.msgtype {
            InitiateContact::TYPE => vec![self.contact(read(message))],
            MessageType::REQUESTOFFERS => self.offers(),
            GpadlHeader::TYPE => self.gpadl(message),
            GpadlBody::TYPE => self.gpadl_body(message),
            OpenChannel::TYPE => vec![self.open(read(message))],
            CloseChannel::TYPE => self.close(read(message)),
            GpadlTeardown::TYPE => self.teardown(read(message)),
            RelidReleased::TYPE => self.released(read(message)),
            ModifyChannel::TYPE => self.modify(read(message)),
            MessageType::UNLOAD => self.unload(),
            other => panic!("the guest sends a message of type {}", other.0),
        }
    }

    /// The answer that refuses a message with `status`, for those that can be refused.
    pub(super) fn refuse(&mut self, message: &[u8], status: u32) -> Vec<Vec<u8>> {
        let header: MessageHeader = read(message);
        match header.msgtype {
            InitiateContact::TYPE => vec![version_response(true, status as u8, 0, read(message))],
            OpenChannel::TYPE => vec![open_result(read(message), status)],
            ModifyChannel::TYPE => vec![modified(read(message), status)],
            GpadlHeader::TYPE => {
                let answers = self.gpadl(message);
                let gpadl: GpadlHeader = read(message);
                if answers.is_empty() {
                    self.gpadls.get_mut(&gpadl.gpadl).expect("just made").refuse = status;
                    return answers;
                }
                self.gpadls.remove(&gpadl.gpadl);
                vec![created(gpadl.child_relid, gpadl.gpadl, status)]
            }
            other => panic!("a message of type {} can't be refused", other.0),
        }
    }

    /// What the guest may have known is forgotten.
    fn forget(&mut self) {
        self.gpadls.clear();
        self.devices.retain(|_, device| !device.gone);
        self.devices.values_mut().for_each(|device| device.opened = None);
        self.asked = false;
        self.connected = None;
    }

    fn contact(&mut self, message: InitiateContact) -> Vec<u8> {
        self.forget();
        let version = message.vmbus_version_requested;
        let supported = version.is_known() && (self.oldest..=self.newest).contains(&version);
        self.connected = supported.then_some(message);
        let connection = if version >= VmbusVersion::V5_0 { MESSAGE_CONNECTION } else { version.0 };
        version_response(supported, 0, connection, message)
    }

    fn offers(&mut self) -> Vec<Vec<u8>> {
        self.insist(!self.asked, "offers are asked for once");
        self.asked = true;
        let offers = self.devices.values().filter(|device| !device.gone);
        let mut all: Vec<_> = offers.map(|device| self.offer(&device.message)).collect();
        all.push(MessageHeader::new(MessageType::ALLOFFERS_DELIVERED).as_bytes().to_vec());
        all
    }

    /// The offer as hosts of this version send it.
    pub(super) fn offer(&self, message: &OfferChannel) -> Vec<u8> {
        let mut bytes = message.as_bytes().to_vec();
        if self.version().is_some_and(|version| version < VmbusVersion::V1_1) {
            bytes.truncate(OFFER_0_13_BYTES);
        }
        bytes
    }

    /// Panics unless `kept`, if the guest has no excuse.
    fn insist(&self, kept: bool, rule: &str) {
        assert!(kept || self.forgiving || self.lying, "the guest breaks a rule: {rule}");
    }

    fn device(&mut self, relid: u32) -> Option<&mut Device> {
        self.insist(self.devices.contains_key(&relid), "channels are the host's");
        self.devices.get_mut(&relid)
    }

    fn gpadl(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let (header, list) = GpadlHeader::read_from_prefix(message).expect("a whole header");
        if self.device(header.child_relid).is_none() {
            return Vec::new();
        }
        assert_eq!(header.rangecount, 1);
        assert!(header.gpadl != 0 && !self.gpadls.contains_key(&header.gpadl), "GPADL in use");
        let gpadl = Gpadl {
            relid: header.child_relid,
            pages: Vec::new(),
            raw: list.to_vec(),
            bytes: header.range_buflen.into(),
            refuse: 0,
        };
        self.gpadls.insert(header.gpadl, gpadl);
        self.complete_gpadl(header.gpadl)
    }

    fn gpadl_body(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let (body, list) = GpadlBody::read_from_prefix(message).expect("a whole body");
        let Some(gpadl) = self.gpadls.get_mut(&body.gpadl) else {
            self.insist(false, "bodies follow a header");
            return Vec::new();
        };
        gpadl.raw.extend(list);
        self.complete_gpadl(body.gpadl)
    }

    fn complete_gpadl(&mut self, id: u32) -> Vec<Vec<u8>> {
        let gpadl = self.gpadls.get_mut(&id).expect("just looked up");
        if gpadl.raw.len() < gpadl.bytes {
            return Vec::new();
        }
        assert_eq!(gpadl.raw.len(), gpadl.bytes, "more pages than announced");
        let ranges = GpaRanges::parse(1, &gpadl.raw).expect("a well-formed range");
        ranges.iter().for_each(|range| gpadl.pages.extend(range.page_numbers()));
        let (relid, status) = (gpadl.relid, gpadl.refuse);
        if status != 0 {
            self.gpadls.remove(&id);
        }
        vec![created(relid, id, status)]
    }

    fn open(&mut self, message: OpenChannel) -> Vec<u8> {
        let pages = self.gpadls.get(&message.ringbuffer_gpadlhandle).map_or(0, |it| it.pages.len());
        let split = (message.downstream_ringbuffer_pageoffset as usize) < pages;
        self.insist(split, "two rings are in the rings' GPADL");
        self.serial += 1;
        let serial = self.serial;
        let lying = self.lying;
        let device = self.device(message.child_relid);
        let Some(device) = device.filter(|_| split) else { return open_result(message, 1) };
        assert!(device.opened.is_none() || lying, "opened twice");
        device.target_vp = message.target_vp;
        device.opened = Some(Opened { message, serial, served: false });
        open_result(message, 0)
    }

    fn close(&mut self, message: CloseChannel) -> Vec<Vec<u8>> {
        let device = self.device(message.child_relid);
        let closed = device.is_none_or(|device| device.opened.take().is_some() || device.gone);
        self.insist(closed, "what is closed was open");
        Vec::new()
    }

    fn teardown(&mut self, message: GpadlTeardown) -> Vec<Vec<u8>> {
        let device = self.device(message.child_relid);
        let rings = |opened: &Opened| opened.message.ringbuffer_gpadlhandle == message.gpadl;
        let in_use = device.is_some_and(|device| device.opened.as_ref().is_some_and(rings));
        self.insist(!in_use, "a channel is closed before its rings are torn down");
        if self.gpadls.remove(&message.gpadl).is_none() {
            self.insist(false, "what is torn down was made");
            return Vec::new();
        }
        let header = MessageHeader::new(GpadlTorndown::TYPE);
        vec![GpadlTorndown { header, gpadl: message.gpadl }.as_bytes().to_vec()]
    }

    fn released(&mut self, message: RelidReleased) -> Vec<Vec<u8>> {
        let gone = self.device(message.child_relid).is_some_and(|device| device.gone);
        self.insist(gone, "what is released was taken back");
        let theirs = |gpadl: &Gpadl| gpadl.relid == message.child_relid;
        self.insist(!self.gpadls.values().any(theirs), "memory is taken back before a release");
        if gone {
            self.devices.remove(&message.child_relid);
            self.gpadls.retain(|_, gpadl| !theirs(gpadl));
        }
        Vec::new()
    }

    fn modify(&mut self, message: ModifyChannel) -> Vec<Vec<u8>> {
        if let Some(device) = self.device(message.child_relid) {
            device.target_vp = message.target_vp;
        }
        let answered = self.version().is_some_and(|version| version >= VmbusVersion::V5_3);
        if answered { vec![modified(message, 0)] } else { Vec::new() }
    }

    fn unload(&mut self) -> Vec<Vec<u8>> {
        let answered = self.version().is_some_and(|version| version >= VmbusVersion::V1_1);
        self.forget();
        let answer = MessageHeader::new(MessageType::UNLOAD_RESPONSE).as_bytes().to_vec();
        if answered { vec![answer] } else { Vec::new() }
    }

    /// Takes a channel back; the message that says so, if the guest knows the channel.
    pub(super) fn rescind(&mut self, relid: u32) -> Option<Vec<u8>> {
        let asked = self.asked;
        if !asked {
            self.devices.remove(&relid);
            return None;
        }
        let device = self.device(relid)?;
        device.gone = true;
        device.opened = None;
        let header = MessageHeader::new(RescindChannelOffer::TYPE);
        Some(RescindChannelOffer { header, child_relid: relid }.as_bytes().to_vec())
    }
}

fn read<T: FromBytes>(message: &[u8]) -> T {
    T::read_from_prefix(message).expect("the guest's messages are whole").0
}

fn version_response(
    supported: bool,
    state: u8,
    msg_conn_id: u32,
    message: InitiateContact,
) -> Vec<u8> {
    let whole = VersionResponse2 {
        header: MessageHeader::new(VersionResponse::TYPE),
        version_supported: supported.into(),
        connection_state: state,
        _padding: 0,
        msg_conn_id,
        supported_features: 0,
    };
    let mut bytes = whole.as_bytes().to_vec();
    if message.vmbus_version_requested < VmbusVersion::V6_0 {
        bytes.truncate(size_of::<VersionResponse>());
    }
    bytes
}

fn created(child_relid: u32, gpadl: u32, creation_status: u32) -> Vec<u8> {
    let header = MessageHeader::new(GpadlCreated::TYPE);
    GpadlCreated { header, child_relid, gpadl, creation_status }.as_bytes().to_vec()
}

fn open_result(message: OpenChannel, status: u32) -> Vec<u8> {
    let header = MessageHeader::new(OpenChannelResult::TYPE);
    let OpenChannel { child_relid, openid, .. } = message;
    OpenChannelResult { header, child_relid, openid, status }.as_bytes().to_vec()
}

fn modified(message: ModifyChannel, status: u32) -> Vec<u8> {
    let header = MessageHeader::new(ModifyChannelResponse::TYPE);
    ModifyChannelResponse { header, child_relid: message.child_relid, status }.as_bytes().to_vec()
}
