//! Any guest at all, one step after the other in the caller's thread: for the fuzzer, and for property tests.
//!
//! The input is a list of steps: an opcode, then what the step needs. Some are any bytes in a message or in memory; others do
//! one thing right, so that what comes after is reached at all.

use std::sync::Arc;

use hv_abi::guid::Guid;
use hv_abi::hypercall::{HV_CALL_SIGNAL_EVENT, HypercallInput};
use hv_abi::synic::{HvInputPostMessage, HvInputSignalEvent};
use hv_abi::vmbus::message::MessageType;
use hv_abi::vmbus::version::VmbusVersion;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmbus_ring::OutgoingPacket;
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::{FromZeros, IntoBytes};

use super::server::Bus;
use super::{
    DeviceId, DeviceOffer, GuestRanges, HostChannel, ServeError, ServerOptions, VmbusDevice, Wake,
};
use crate::hyperv::synic::lines::{Line, SintLines};
use crate::hyperv::synic::{Registers, RouteUse, Sint, Synic};

const RAM_BYTES: usize = 256 << 10;
const VPS: u32 = 2;
const MESSAGE_PAGE: u64 = 0x1000;
const EVENT_PAGE: u64 = 0x2000;
/// First page of what rings and other memory are made of.
const FREE_PAGE: u64 = 0x10;

/// Does what `bytes` say to a bus of its own.
///
/// # Panics
/// If the bus breaks a promise: a provider that is not told of its channel's end, or messages without bound.
pub fn guest_messages(bytes: &[u8]) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_BYTES)]);
    let memory = memory.expect("the host has some KiB");
    let synic = Synic::new(memory.clone(), VPS, Box::new(NoLines), Arc::new(|_| {}));
    for vp in 0..VPS {
        let (message_page, event_page) = (MESSAGE_PAGE | 1, EVENT_PAGE | 1);
        synic.registers_changed(vp, Registers { control: 1, message_page, event_page });
    }
    let bus = Bus::new(Arc::new(synic), memory, ServerOptions::new(VPS));
    bus.connect_messages().expect("nobody else is there");
    let mut guest = Guest { bus, bytes, devices: Vec::new() };
    guest.add_device(0);
    while guest.step().is_some() {
        guest.bus.run_pending();
    }
    guest.end();
}

struct Guest<'a> {
    bus: Arc<Bus>,
    bytes: &'a [u8],
    devices: Vec<DeviceId>,
}

impl<'a> Guest<'a> {
    /// `None`: the input is at its end.
    fn step(&mut self) -> Option<()> {
        match self.byte()? % 12 {
            0 => self.any_message()?,
            1 => self.any_memory()?,
            2 => self.take_messages(),
            3 => self.signal()?,
            4 => self.contact()?,
            5 => self.post(1, [MessageType::REQUESTOFFERS.0, 0].as_bytes()),
            6 => self.lend()?,
            7 => self.open()?,
            8 => self.add_device(self.devices.len() as u32),
            9 => self.remove_device()?,
            10 => self.about_channel()?,
            _ => self.packet()?,
        }
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(byte)
    }

    /// Bytes behind their number.
    fn some_bytes(&mut self) -> Option<&'a [u8]> {
        let count = usize::from(self.byte()?).min(self.bytes.len());
        let (some, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(some)
    }

    fn post(&self, connection_id: u32, bytes: &[u8]) {
        let mut input = HvInputPostMessage::new_zeroed();
        input.connection_id = connection_id;
        for (to, from) in input.payload.iter_mut().zip(bytes) {
            *to = *from;
            input.payload_size += 1;
        }
        // Too many are refused, which is a guest's own concern.
        let _ = self.bus.inbox().post(&input);
    }

    fn any_message(&mut self) -> Option<()> {
        let connection = if self.byte()?.is_multiple_of(2) { 1 } else { 4 };
        let bytes = self.some_bytes()?;
        self.post(connection, bytes);
        Some(())
    }

    fn any_memory(&mut self) -> Option<()> {
        let address = u64::from(self.byte()?) << 12 | u64::from(self.byte()?) << 4;
        let bytes = self.some_bytes()?;
        // Beyond RAM there is nothing to write to.
        let _ = self.bus.memory().write_slice(bytes, GuestAddress(address));
        Some(())
    }

    /// The guest empties every slot until nothing comes any more.
    fn take_messages(&self) {
        for _ in 0..10_000 {
            for vp in 0..VPS {
                // A message that waited knows by this that its slot is free.
                let (message_page, event_page) = (MESSAGE_PAGE | 1, EVENT_PAGE | 1);
                let registers = Registers { control: 1, message_page, event_page };
                self.bus.synic().registers_changed(vp, registers);
                self.bus.synic().work(vp);
            }
            let mut any = false;
            for slot in 0..16 {
                let at = GuestAddress(MESSAGE_PAGE + slot * 256);
                any |= self.bus.memory().read_obj::<u32>(at).unwrap_or(0) != 0;
                let _ = self.bus.memory().write_obj(0_u32, at);
            }
            self.bus.run_pending();
            if !any {
                return;
            }
        }
        panic!("messages without end");
    }

    fn signal(&mut self) -> Option<()> {
        let connection_id = match self.byte()? {
            byte @ 0..16 => byte.into(),
            byte => 0x2000 + u32::from(byte % 16),
        };
        let input = HvInputSignalEvent { connection_id, flag_number: 0, _reserved: 0 };
        let call = HypercallInput::new(HV_CALL_SIGNAL_EVENT);
        let _ = self.bus.synic().hypercall(call, input.fast());
        Some(())
    }

    fn contact(&mut self) -> Option<()> {
        let choice = usize::from(self.byte()?);
        let version = VmbusVersion::ALL.get(choice % 11)?;
        let connection = if *version >= VmbusVersion::V5_0 { 4 } else { 1 };
        let target = if connection == 4 { 2 } else { 0x3000 };
        let vp = choice as u32 / 11 % VPS;
        let words = [14, 0, version.0, vp, target, 0, 0x4000, 0, 0x5000, 0_u32];
        self.post(connection, words.as_bytes());
        Some(())
    }

    fn lend(&mut self) -> Option<()> {
        let (channel, gpadl) = (u32::from(self.byte()? % 8), u32::from(self.byte()? % 8));
        let (first, count) = (u64::from(self.byte()? % 64), u32::from(self.byte()? % 32));
        let head = [8, 0, channel, gpadl, (8 + count * 8) | 1 << 16, count << 12, 0_u32];
        let pages: Vec<u64> = (0..count.into()).map(|page| FREE_PAGE + first + page).collect();
        let list = pages.as_bytes();
        let (begin, rest) = list.split_at(list.len().min(208));
        self.post(1, &[head.as_bytes(), begin].concat());
        if !rest.is_empty() {
            self.post(1, &[[9, 0, 1, gpadl].as_bytes(), rest].concat());
        }
        Some(())
    }

    fn open(&mut self) -> Option<()> {
        let (channel, gpadl) = (u32::from(self.byte()? % 8), u32::from(self.byte()? % 8));
        let (offset, vp) = (u32::from(self.byte()? % 16), u32::from(self.byte()? % 4));
        let head = [5, 0, channel, 1, gpadl, vp, offset];
        self.post(1, &[head.as_bytes(), &[0; 128]].concat());
        Some(())
    }

    fn about_channel(&mut self) -> Option<()> {
        let types = [7, 11, 13, 16, 22];
        let choice = usize::from(self.byte()?);
        let message_type = types.get(choice % types.len()).copied()?;
        let (channel, other) = (u32::from(self.byte()? % 8), u32::from(self.byte()? % 8));
        self.post(1, [message_type, 0, channel, other].as_bytes());
        Some(())
    }

    /// A packet in the first ring that there may be, as far as its place goes.
    fn packet(&mut self) -> Option<()> {
        let page = FREE_PAGE + u64::from(self.byte()? % 64);
        let packet = self.some_bytes()?;
        let data = GuestAddress((page + 1) << 12);
        let _ = self.bus.memory().write_slice(packet, data);
        let end = (packet.len() as u32).next_multiple_of(8);
        let _ = self.bus.memory().write_obj(end, GuestAddress(page << 12));
        Some(())
    }

    fn add_device(&mut self, number: u32) {
        if let Ok(id) = self.bus.add(Arc::new(Anything(number))) {
            self.devices.push(id);
        }
    }

    fn remove_device(&mut self) -> Option<()> {
        let choice = usize::from(self.byte()?);
        let index = choice.checked_rem(self.devices.len())?;
        self.bus.remove(self.devices.swap_remove(index));
        Some(())
    }

    /// Whatever has happened, a guest can unload or connect anew, and the bus stop.
    fn end(&self) {
        self.take_messages();
        self.bus.disconnect_messages();
        self.bus.shut_down();
        assert!(self.bus.wait_for_workers().is_empty(), "a provider does not end");
    }
}

/// A device that makes use of all that a packet can have.
struct Anything(u32);

impl VmbusDevice for Anything {
    fn offer(&self) -> DeviceOffer {
        let monitored = self.0.is_multiple_of(2);
        let instance = Guid::new(self.0, 0, 0, 0);
        DeviceOffer { monitored, ..DeviceOffer::new("any", Guid::ZERO, instance) }
    }

    fn serve(&self, channel: &mut HostChannel) -> Result<(), ServeError> {
        channel.offer_sub_channels(1)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            while let Some(packet) = channel.receive_into(&mut buffer)? {
                if let Ok(ranges) = GuestRanges::of_packet(channel.memory(), &packet) {
                    ranges.write(0, &vec![0xA5; ranges.len().min(1 << 16) as usize])?;
                }
                let gpadl = packet.gpadl().ok().and_then(|id| channel.gpadl(id).ok());
                if let Some(range) = gpadl.as_ref().and_then(|gpadl| gpadl.range()) {
                    range.write(0, &[0x5A])?;
                }
                let payload = [packet.payload()];
                channel.send(&OutgoingPacket::completion(packet.transaction_id(), &payload))?;
            }
            if channel.wait(&[], None)? == Wake::Closed {
                return Ok(());
            }
        }
    }
}

struct NoLines;

impl SintLines for NoLines {
    fn connect(&self, _: Sint, _: RouteUse) -> Result<Line, errno::Error> {
        let interrupt = EventFd::new(libc::EFD_NONBLOCK)?;
        Ok(Line { interrupt, acknowledged: None })
    }

    fn disconnect(&self, _: Sint, _: &Line) {}

    fn connect_event(&self, _: u32, _: &EventFd) -> Result<(), errno::Error> {
        Err(errno::Error::new(libc::ENOTTY))
    }

    fn disconnect_event(&self, _: u32, _: &EventFd) {}
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_guest_harms_the_bus(steps in vec(vec(any::<u8>(), 1..40), 0..60)) {
            // Most begin with a connection.
            let begin = [4, 1, 5, 2, 6, 1, 1, 0, 4, 7, 1, 1, 2, 0, 2];
            guest_messages(&[&begin, steps.concat().as_slice()].concat());
        }
    }

    #[test]
    fn a_step_of_each_kind() {
        guest_messages(&[
            4, 1, 5, 2, 6, 1, 1, 0, 31, 7, 1, 1, 2, 0, 2, 3, 17, 11, 0, 24, 6, 0, 2, 0, 2, 0, 0, 0,
            1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 17, 8, 9, 0, 10, 0, 1, 1, 10, 1, 1,
            1, 0, 0, 3, 1, 2, 3, 1, 1, 1, 1, 9, 10, 3, 0, 0, 2,
        ]);
    }
}
