//! The host, as a test sees it.

use core::future::poll_fn;
use core::task::Poll;
use std::sync::Arc;
use std::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::hypercall::HvError;
use hv_abi::vmbus::message::{MessageHeader, MessageType, OfferChannel};
use hv_abi::vmbus::version::VmbusVersion;
use zerocopy::FromBytes;

use super::mischief::{self, Rule};
use super::protocol::Device;
use super::{FakeHal, FakeOffer, HostEnd, Machine, Mischief, lock};
use crate::bus::{BusOptions, ChannelId, Vmbus};
use crate::hal::DmaPages;

/// The guest's virtual processor.
pub(super) const VP_INDEX: u32 = 3;
/// The connection by which the guest signals a channel, less the channel's number.
const SIGNAL_CONNECTIONS: u32 = 0x1_0000;

/// The host of a [machine](super). Clones are the same host.
#[derive(Clone)]
pub struct FakeHost {
    pub(super) machine: Arc<Machine>,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeHost {
    /// A machine with a host that offers nothing yet, and speaks every version.
    pub fn new() -> Self {
        Self { machine: Machine::new() }
    }

    /// The kernel's side.
    pub fn hal(&self) -> FakeHal {
        FakeHal { machine: self.machine.clone() }
    }

    /// A bus whose interrupts this host raises. One for each machine.
    pub fn bus(&self, options: BusOptions) -> Vmbus<FakeHal> {
        let bus = Vmbus::new(self.hal(), options);
        let first = self.machine.bus.set(Arc::downgrade(&bus.shared));
        assert!(first.is_ok(), "one bus for each machine");
        bus
    }

    /// Speaks only versions from `oldest` to `newest`.
    pub fn speak(&self, oldest: VmbusVersion, newest: VmbusVersion) {
        let mut host = lock(&self.machine.host);
        (host.oldest, host.newest) = (oldest, newest);
    }

    /// Time passes by itself from now on, for tests with threads.
    pub fn real_time(&self) {
        self.machine.clock.make_real();
    }

    /// Offers something: with the others, or at once, if the guest has asked for offers already.
    pub fn offer(&self, offer: FakeOffer) -> ChannelId {
        let mut host = lock(&self.machine.host);
        let free = (1..).find(|relid| !host.devices.contains_key(relid)).expect("a free number");
        let mut message = offer.0;
        message.child_relid = free;
        message.connection_id = SIGNAL_CONNECTIONS + free;
        if message.offer.if_instance.0 == [0; 16] {
            host.serial += 1;
            message.offer.if_instance.0[..8].copy_from_slice(&host.serial.to_le_bytes());
        }
        let told = host.asked.then(|| host.offer(&message));
        host.devices.insert(free, Device::new(message));
        drop(host);
        told.into_iter().for_each(|message| self.deliver(&message));
        ChannelId::new(free).expect("few channels")
    }

    /// Takes a channel back. Its GPADLs are the host's until the guest tears them down.
    pub fn rescind(&self, channel: ChannelId) {
        self.machine.rescind(channel.relid());
    }

    /// Whether the host still has a channel that it offered, or that the guest has not done with.
    pub fn has(&self, channel: ChannelId) -> bool {
        lock(&self.machine.host).devices.contains_key(&channel.relid())
    }

    /// Misbehaves for the next `times` messages of that type.
    pub fn misbehave(&self, message: MessageType, times: usize, mischief: Mischief) {
        lock(&self.machine.host).rules.push(Rule { message, times, mischief });
    }

    /// Puts up with anything from now on: the test itself says what is not so, by [`deliver`](Self::deliver).
    pub fn forgive(&self) {
        lock(&self.machine.host).lying = true;
    }

    /// The hypervisor refuses the next messages of the guest with these statuses.
    pub fn refuse_posts(&self, statuses: impl IntoIterator<Item = HvError>) {
        lock(&self.machine.host).refusals.extend(statuses);
    }

    /// Whether the hypervisor refuses the guest's signals, as if there were no such connection.
    pub fn refuse_signals(&self, refuse: bool) {
        lock(&self.machine.host).deaf = refuse;
    }

    /// Sends the guest a message, any bytes.
    pub fn deliver(&self, message: &[u8]) {
        self.machine.deliver(message);
    }

    /// Sets an event flag of the guest.
    pub fn set_flag(&self, flag: u16) {
        self.machine.interrupt(|bus| bus.on_event(flag));
    }

    /// All messages that the guest has posted, each with the connection.
    pub fn messages(&self) -> Vec<(u32, Vec<u8>)> {
        lock(&self.machine.host).messages.clone()
    }

    /// How many messages of that type the guest has posted.
    pub fn count(&self, message: MessageType) -> usize {
        let host = lock(&self.machine.host);
        host.messages.iter().filter(|(_, bytes)| type_of(bytes) == message).count()
    }

    /// The guest's signals for a channel so far: by call, and by monitor.
    pub fn signals(&self, channel: ChannelId) -> (u64, u64) {
        self.machine.look_at_monitors();
        let host = lock(&self.machine.host);
        host.devices
            .get(&channel.relid())
            .map_or((0, 0), |device| (device.signals, device.monitor_signals))
    }

    /// The processor that signals for a channel go to.
    pub fn target_vp(&self, channel: ChannelId) -> Option<u32> {
        lock(&self.machine.host).devices.get(&channel.relid()).map(|device| device.target_vp)
    }

    /// The next `allocations` of the guest succeed, those after fail. `None`: all succeed.
    pub fn limit_memory(&self, allocations: Option<usize>) {
        self.machine.memory.fail_after(allocations);
    }

    /// Pages that the guest has allocated.
    pub fn pages_in_use(&self) -> usize {
        self.machine.memory.pages_in_use()
    }

    /// Reads guest memory, allocated or lent.
    pub fn read(&self, gpa: u64, bytes: &mut [u8]) {
        self.machine.memory.read(gpa, bytes);
    }

    /// Writes guest memory, allocated or lent.
    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        self.machine.memory.write(gpa, bytes);
    }

    /// The page numbers of a GPADL, if the host has it.
    pub fn gpadl(&self, gpadl: u32) -> Option<Vec<u64>> {
        Some(lock(&self.machine.host).gpadls.get(&gpadl)?.pages.clone())
    }

    /// Waits until the guest opens the channel (again), and gives the host's end. Each opening is given once.
    pub async fn opened(&self, channel: ChannelId) -> HostEnd {
        poll_fn(|context| {
            self.machine.wait_for_guest(context.waker());
            HostEnd::take(&self.machine, channel).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits until the guest has done something, and `look` finds what it looks for.
    pub async fn until(&self, mut look: impl FnMut(&Self) -> bool) {
        poll_fn(|context| {
            self.machine.wait_for_guest(context.waker());
            if look(self) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

fn type_of(message: &[u8]) -> MessageType {
    MessageHeader::read_from_prefix(message)
        .map_or(MessageType::INVALID, |(header, _)| header.msgtype)
}

/// The channel that a message of the guest concerns: its first field, except in a few.
fn channel_of(message: &[u8]) -> u32 {
    message.get(8..12).and_then(|bytes| u32::read_from_bytes(bytes).ok()).unwrap_or(0)
}

impl Device {
    const fn new(message: OfferChannel) -> Self {
        Self { message, gone: false, opened: None, target_vp: 0, signals: 0, monitor_signals: 0 }
    }
}

impl Machine {
    /// A message of the guest. The answer comes before this returns.
    pub(super) fn post(
        self: &Arc<Self>,
        connection: u32,
        kind: u32,
        message: &[u8],
    ) -> Result<(), HvError> {
        let mut host = lock(&self.host);
        if let Some(status) = host.refusals.pop_front() {
            return Err(status);
        }
        assert!(kind == 1 && message.len() <= 240, "no message of VMBus");
        if !host.has_connection(connection) {
            return Err(HvError::INVALID_CONNECTION_ID);
        }
        host.messages.push((connection, message.to_vec()));
        let rule = mischief::take(&mut host.rules, type_of(message));
        host.forgiving |= rule.is_some();
        host.lying |= matches!(rule, Some(Mischief::First(_) | Mischief::Instead(_)));
        drop(host);
        self.react(message, rule);
        self.wake_devices();
        Ok(())
    }

    fn react(self: &Arc<Self>, message: &[u8], mischief: Option<Mischief>) {
        let handle = || lock(&self.host).handle(message);
        let say = |answers: &[Vec<u8>]| answers.iter().for_each(|answer| self.deliver(answer));
        match mischief {
            None => say(&handle()),
            Some(Mischief::Silence) => {}
            Some(Mischief::Mute) => drop(handle()),
            Some(Mischief::Late(delay)) => {
                let (answers, machine) = (handle(), self.clone());
                self.clock.do_at(self.clock.now_100ns() + delay, move || {
                    answers.iter().for_each(|answer| machine.deliver(answer));
                });
            }
            Some(Mischief::Twice) => {
                let answers = handle();
                say(&answers);
                say(&answers);
            }
            Some(Mischief::Refuse(status)) => {
                let answers = lock(&self.host).refuse(message, status);
                say(&answers);
            }
            Some(Mischief::Cut(bytes)) => {
                handle().iter().for_each(|answer| self.deliver(&answer[..bytes.min(answer.len())]));
            }
            Some(Mischief::Rescind) => self.rescind(channel_of(message)),
            Some(Mischief::AnswerAndRescind) => {
                say(&handle());
                self.rescind(channel_of(message));
            }
            Some(Mischief::First(words)) => {
                say(&words);
                say(&handle());
            }
            Some(Mischief::Instead(words)) => say(&words),
        }
    }

    pub(super) fn deliver(&self, message: &[u8]) {
        self.interrupt(|bus| bus.on_message(message));
    }

    pub(super) fn rescind(&self, relid: u32) {
        let message = lock(&self.host).rescind(relid);
        message.into_iter().for_each(|message| self.deliver(&message));
        self.wake_devices();
    }

    /// Panics if the guest frees what the host still has.
    pub(super) fn check_free(&self, pages: &DmaPages) {
        let first = pages.gpa().0 / HV_PAGE_SIZE as u64;
        let freed = first..first + pages.pages() as u64;
        let host = lock(&self.host);
        if host.lying {
            return;
        }
        // A guest whose teardown is not answered may free what belonged to a channel that was taken back.
        let given_up = |relid| host.forgiving && host.devices.get(&relid).is_none_or(|it| it.gone);
        let mut held = host.gpadls.values().filter(|gpadl| !given_up(gpadl.relid));
        let in_use = held.any(|gpadl| gpadl.pages.iter().any(|page| freed.contains(page)));
        assert!(!in_use, "the guest frees memory that the host has");
        if let Some(contact) = host.connected {
            let signals = [contact.target, contact.monitor_page1, contact.monitor_page2];
            let in_use = signals.iter().any(|gpa| freed.contains(&(gpa / HV_PAGE_SIZE as u64)));
            assert!(!in_use, "the guest frees the pages for signals");
        }
    }
}
