//! The network adapter's driver against a host that follows a script: while it starts, some answers come from there; later everything
//! does.
//!
//! Whatever happens, the driver neither panics nor hangs, hands out only frames as long as frames can be, and gives all memory back.

#![no_main]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use enlighten_fuzz::Script;
use hv_abi::nvsp::{NVSP_INTERFACE, NVSP_RECEIVE_BUFFER_ID};
use hv_abi::vmbus::packet::{PacketType, TransferPageRange};
use libfuzzer_sys::fuzz_target;
use vmbus_ring::{OutgoingKind, OutgoingPacket};
use vsc_drivers::fake::{FakeHal, FakeHost, FakeOffer, HostEnd, HostPacket};
use vsc_drivers::netvsc::{NetOptions, NetVsc, Offload, TransmitInfo, VlanTag};
use vsc_drivers::task::{block_on, both};
use vsc_drivers::{BusOptions, ChannelId};

const BUFFER_BYTES: usize = 64 << 10;
const MAX_STEPS: usize = 200;
/// Where in the receive buffer answers to requests are put.
const ANSWERS: usize = BUFFER_BYTES - 4096;

fuzz_target!(|bytes: &[u8]| {
    let host = FakeHost::new();
    host.forgive();
    let channel = host.offer(FakeOffer::new(NVSP_INTERFACE));
    let bus = host.bus(BusOptions::default());
    let card = Card::new(bytes);
    block_on(bus.hal(), both(bus.run(), card.serve(&host, channel)), async {
        bus.connect().await.expect("a connection");
        bus.all_offers_delivered().await.expect("all offers");
        let before = host.pages_in_use();
        let mut options = NetOptions::default();
        options.receive_buffer_bytes = BUFFER_BYTES;
        options.send_buffer_bytes = BUFFER_BYTES;
        options.ring_pages = 4;
        options.time_limit_100ns = 1000;
        if let Ok(net) = NetVsc::start(&bus, channel, options).await {
            card.lies.set(false);
            for _ in 0..MAX_STEPS {
                if card.step(&net, &host, channel).is_none() {
                    break;
                }
            }
            let _ = net.stop().await;
        }
        // All that the guest had is free again, in the end.
        host.until(|host| host.pages_in_use() == before).await;
    });
});

struct Card<'a> {
    script: RefCell<Script<'a>>,
    /// Answers come from the script.
    lies: Cell<bool>,
    end: RefCell<Option<Rc<HostEnd>>>,
    receive_gpadl: Cell<u32>,
    /// Transactions of frames.
    frames: RefCell<Vec<u64>>,
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .map_or(0, |word| u32::from_le_bytes(*word))
}

impl<'a> Card<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut script = Script(bytes);
        let flags = script.byte().unwrap_or(0);
        Self {
            script: RefCell::new(script),
            lies: Cell::new(flags & 1 != 0),
            end: RefCell::new(None),
            receive_gpadl: Cell::new(0),
            frames: RefCell::new(Vec::new()),
        }
    }

    async fn serve(&self, host: &FakeHost, channel: ChannelId) {
        let end = Rc::new(host.opened(channel).await);
        *self.end.borrow_mut() = Some(end.clone());
        while let Some(packet) = end.receive().await {
            self.handle(&end, &packet);
        }
    }

    fn handle(&self, end: &HostEnd, packet: &HostPacket) {
        if packet.kind == PacketType::COMP {
            return;
        }
        let kind = word(&packet.payload, 0);
        let answer = match kind {
            1 => words(&[2, 2, 34, 1]),
            101 => {
                self.receive_gpadl.set(word(&packet.payload, 4));
                words(&[102, 1, 1, 0, 2048, 30, 61_440])
            }
            104 => words(&[105, 1, 6144]),
            107 if word(&packet.payload, 4) == 1 => {
                let _ = end.try_send(&OutgoingPacket::completion(
                    packet.transaction_id,
                    &[&words(&[108, 1])],
                ));
                return self.request(end, &end.read_ranges(packet));
            }
            107 => return self.frames.borrow_mut().push(packet.transaction_id),
            _ => return,
        };
        if let Some(answer) = self.perhaps_lie(answer) {
            let _ = end.try_send(&OutgoingPacket::completion(packet.transaction_id, &[&answer]));
        }
    }

    /// The answer, another, or none.
    fn perhaps_lie(&self, answer: Vec<u8>) -> Option<Vec<u8>> {
        let mut script = self.script.borrow_mut();
        if !self.lies.get() {
            return Some(answer);
        }
        match script.byte().unwrap_or(0xFF) {
            0 => None,
            1 => script.bytes().map(<[u8]>::to_vec),
            2 => {
                // One word is another.
                let (at, value) = (usize::from(script.byte()?) * 4, script.number()?);
                let mut answer = answer;
                if let Some(field) = answer.get_mut(at..at + 4) {
                    field.copy_from_slice(&value.to_le_bytes());
                }
                Some(answer)
            }
            _ => Some(answer),
        }
    }

    fn request(&self, end: &HostEnd, request: &[u8]) {
        let id = word(request, 8);
        let value = match word(request, 12) {
            0x0101_0101 => vec![0, 0x15, 0x5d, 1, 2, 3],
            0xFC01_020D => {
                let mut value = vec![0; 156];
                value[..4].copy_from_slice(&[0xA7, 3, 156, 0]);
                for (at, byte) in [(4, 2), (8, 0x54), (20, 2), (24, 0x55), (80, 2), (85, 0xF0)] {
                    value[at] = byte;
                }
                value
            }
            _ => words(&[1500]),
        };
        let mut answer = match word(request, 0) {
            2 => words(&[0x8000_0002, 52, id, 0, 1, 0, 1, 0, 8, 0x4000, 3, 0, 0]),
            4 => words(&[0x8000_0004, 24 + value.len() as u32, id, 0, value.len() as u32, 16]),
            5 => words(&[0x8000_0005, 16, id, 0]),
            _ => return,
        };
        if word(request, 0) == 4 {
            answer.extend(value);
        }
        if let Some(answer) = self.perhaps_lie(answer) {
            self.write(end, ANSWERS, &answer);
            let range =
                TransferPageRange { byte_count: answer.len() as u32, byte_offset: ANSWERS as u32 };
            self.send_pages(end, NVSP_RECEIVE_BUFFER_ID, &[range]);
        }
    }

    fn write(&self, end: &HostEnd, offset: usize, bytes: &[u8]) {
        let fits = offset + bytes.len() <= BUFFER_BYTES;
        if fits && self.receive_gpadl.get() != 0 && end.is_open() {
            end.write_gpadl(self.receive_gpadl.get(), offset, bytes);
        }
    }

    fn send_pages(&self, end: &HostEnd, set_id: u16, ranges: &[TransferPageRange]) {
        let kind = OutgoingKind::TransferPages { set_id, sender_owns_set: false, ranges };
        let payload = words(&[107, 0, u32::MAX, 0]);
        let _ = end.try_send(&OutgoingPacket::new(kind, 1, &[&payload]).with_completion());
    }

    /// One step of the script; `None` at its end.
    fn step(&self, net: &NetVsc<FakeHal>, host: &FakeHost, channel: ChannelId) -> Option<()> {
        let end = self.end.borrow().clone()?;
        let mut script = *self.script.borrow();
        match script.byte()? % 8 {
            0 => {
                let at = script.number()? as usize;
                self.write(&end, at % BUFFER_BYTES, script.bytes()?);
            }
            1 => {
                let set_id = if script.byte()? == 0 { 0 } else { NVSP_RECEIVE_BUFFER_ID };
                let mut ranges = Vec::new();
                for _ in 0..script.byte()? % 8 {
                    let (byte_offset, byte_count) = (script.number()?, script.number()?);
                    ranges.push(TransferPageRange { byte_count, byte_offset });
                }
                self.send_pages(&end, set_id, &ranges);
            }
            2 => {
                let frames = self.frames.borrow();
                let choice = script.number()?;
                let known = frames.get(choice as usize % frames.len().max(1)).copied();
                let transaction = match script.byte()? & 1 {
                    0 => known.unwrap_or(1),
                    _ => u64::from(choice) << 32 | u64::from(script.number()?),
                };
                let payload = script.bytes()?;
                let _ = end.try_send(&OutgoingPacket::completion(transaction, &[payload]));
            }
            3 => {
                let payload = script.bytes()?;
                let _ = end.try_send(&OutgoingPacket::in_band(0, &[payload]));
            }
            4 => transmit(net, &mut script)?,
            5 => {
                net.poll();
                while let Some(packet) = end.try_receive() {
                    self.handle(&end, &packet);
                }
                while let Some(frame) = net.receive() {
                    assert!((14..=72 << 10).contains(&frame.len()));
                    let _ = frame.has_right_checksum();
                }
            }
            6 => self.send_frame(&end, &mut script)?,
            _ => {
                if script.byte()? == 0xEE {
                    host.rescind(channel);
                }
            }
        }
        *self.script.borrow_mut() = script;
        Some(())
    }

    /// A frame with infos from the script, and one word of its head that lies.
    fn send_frame(&self, end: &HostEnd, script: &mut Script<'_>) -> Option<()> {
        let infos = script.bytes()?;
        let frame = script.bytes()?;
        let (info_bytes, frame_bytes) = (infos.len() as u32, frame.len() as u32);
        let (data, offset) = (36 + info_bytes, if infos.is_empty() { 0 } else { 36 });
        let mut message = words(&[
            1,
            8 + data + frame_bytes,
            data,
            frame_bytes,
            0,
            0,
            0,
            offset,
            info_bytes,
            0,
            0,
        ]);
        let at = usize::from(script.byte()?) * 4;
        if let Some(field) = message.get_mut(at..at + 4) {
            field.copy_from_slice(&script.number()?.to_le_bytes());
        }
        message.extend(infos);
        message.extend(frame);
        self.write(end, 0, &message);
        let range = TransferPageRange { byte_count: message.len() as u32, byte_offset: 0 };
        self.send_pages(end, NVSP_RECEIVE_BUFFER_ID, &[range]);
        Some(())
    }
}

/// The guest sends any frame, with anything to do for the host.
fn transmit(net: &NetVsc<FakeHal>, script: &mut Script<'_>) -> Option<()> {
    let mut frame = script.bytes()?.to_vec();
    let flags = script.byte()?;
    if flags & 1 != 0 {
        frame.resize(script.number()? as usize % (72 << 10), flags);
    }
    let offload = match flags >> 1 & 3 {
        0 => Offload::None,
        1 => Offload::Checksum,
        _ => Offload::Segment { mss: script.number()? as u16 },
    };
    let vlan = (flags & 8 != 0).then(|| VlanTag::from_tci(u16::from(flags) << 4));
    let _ = net.transmit(&frame, &TransmitInfo { offload, vlan });
    if flags & 16 != 0 {
        net.flush();
    }
    Some(())
}
