//! The guest's storage driver against a host that says anything: the input is the host's script, from the first answer on.
//!
//! A panic is the driver's; so is a hang, which the fake machine finds out by its virtual time. When the script is at its end, the host is
//! honest.

#![no_main]

use std::cell::RefCell;
use std::pin::pin;

use hv_abi::storvsp::SCSI_GUID;
use libfuzzer_sys::fuzz_target;
use vmbus_ring::{Control, OutgoingPacket};
use vsc_drivers::fake::{FakeHal, FakeHost, FakeOffer, HostEnd, HostPacket};
use vsc_drivers::storvsc::{Disk, IoBuffer, StorOptions, StorVsc};
use vsc_drivers::task::{block_on, both, sleep_until};
use vsc_drivers::{BusOptions, ChannelId, Hal, SECOND_100NS, Vmbus};

/// What the guest does at most, so that no input takes long.
const MAX_ORDERS: usize = 24;
/// Packets that the host looks at; then it takes the device away.
const MAX_PACKETS: usize = 2000;

fuzz_target!(|bytes: &[u8]| {
    let host = FakeHost::new();
    host.forgive();
    let channel = host.offer(FakeOffer::new(SCSI_GUID));
    let bus = host.bus(BusOptions::default());
    let script = RefCell::new(Script(bytes));
    let device = async {
        let mut packets = 0;
        loop {
            let end = host.opened(channel).await;
            while let Some(packet) = end.receive().await {
                packets += 1;
                if packets > MAX_PACKETS {
                    host.rescind(channel);
                    break;
                }
                answer(&host, channel, &end, packet, &mut script.borrow_mut());
            }
        }
    };
    let ms = SECOND_100NS / 1000;
    let mut options = StorOptions::default();
    options.request_limit_100ns = 20 * ms;
    options.reset_limit_100ns = 5 * ms;
    options.reset_grace_100ns = ms;
    options.depth = 8;
    options.ring_bytes = 8192;
    block_on(bus.hal(), pin!(both(bus.run(), device)), async {
        bus.connect().await.expect("the bus is honest");
        bus.all_offers_delivered().await.expect("the bus is honest");
        drive(&bus, channel, options, &script).await;
        // So that the memory of the rings comes back: the bus's task sees to that.
        let _ = bus.unload().await;
        sleep_until(bus.hal(), bus.hal().now_100ns() + ms).await;
    });
});

async fn drive(
    bus: &Vmbus<FakeHal>,
    channel: ChannelId,
    options: StorOptions,
    script: &RefCell<Script<'_>>,
) {
    let Ok(storvsc) = StorVsc::start(bus, channel, options).await else { return };
    let body = async {
        use_disks(&storvsc, script).await;
        let _ = storvsc.stop(SECOND_100NS / 100).await;
    };
    let mut body = pin!(body);
    let mut driver = pin!(storvsc.run());
    let mut driver_runs = true;
    std::future::poll_fn(|context| {
        if driver_runs && driver.as_mut().poll(context).is_ready() {
            driver_runs = false;
        }
        body.as_mut().poll(context)
    })
    .await;
}

/// What the guest does, also by the script.
async fn use_disks<H: Hal>(storvsc: &StorVsc<H>, script: &RefCell<Script<'_>>) {
    let mut watcher = storvsc.watch();
    for _ in 0..MAX_ORDERS {
        let [order, lba] = [0; 2].map(|_: u8| script.borrow_mut().byte());
        let _ = watcher.try_next();
        let Some(disk) = storvsc.disks().into_iter().next() else {
            let _ = storvsc.rescan().await;
            continue;
        };
        give(&disk, order, lba.into()).await;
    }
}

async fn give<H: Hal>(disk: &Disk<H>, order: u8, lba: u64) {
    let block = disk.block_bytes() as usize;
    let buffer = |blocks: usize| IoBuffer::zeroed(blocks * block).expect("little memory");
    match order % 8 {
        0 => drop(disk.read(lba, &mut vec![0; block * 3]).await),
        1 => drop(disk.write(lba, &vec![7; block * 2]).await),
        2 => drop(disk.read_lent(lba, buffer(40)).await),
        3 => drop(disk.write_lent_vectored(lba, vec![buffer(1), buffer(2), buffer(9)]).await),
        4 => drop(disk.flush().await),
        5 => drop(disk.discard(lba, 300).await),
        6 => drop(disk.write_zeroes(lba, 300).await),
        _ => {
            // Dropped while the host may have it.
            let mut both = pin!(disk.read_lent(lba, buffer(1)));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = both.as_mut().poll(&mut context);
        }
    }
}

/// The input, from the front; zeros behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

fn answer(
    host: &FakeHost,
    channel: ChannelId,
    end: &HostEnd,
    packet: HostPacket,
    script: &mut Script<'_>,
) {
    // A ring that is full or broken takes nothing more.
    let send = |packet: &OutgoingPacket<'_>| {
        let _ = end.try_send(packet);
    };
    let complete = |id: u64, payload: &[u8]| send(&OutgoingPacket::completion(id, &[payload]));
    let id = packet.transaction_id;
    match script.byte() % 16 {
        1 => {
            let count = script.byte() % 80;
            complete(id, &script.bytes(count.into()));
        }
        2 => complete(id ^ 1u64.rotate_left(script.byte().into()), &honest(end, &packet)),
        3 => {
            let count = script.byte() % 80;
            send(&OutgoingPacket::in_band(script.byte().into(), &[&script.bytes(count.into())]));
        }
        4 => {}
        5 => {
            let payload = honest(end, &packet);
            complete(id, &payload);
            complete(id, &payload);
        }
        // Only for reads: what a guest lends for writing may be read-only there, and this host has no page tables of its own.
        6 if packet.payload[22] == 1 => {
            let data = script.bytes(64);
            let moved = end.write_ranges(&packet, &data);
            complete(id, &statuses(&packet, 0, 1, 0, moved as u32));
        }
        7 => {
            // Statuses and sense data.
            let [vstor, srb, scsi, moved] = [0; 4].map(|_: u8| script.byte());
            let mut payload = statuses(&packet, u32::from(vstor) << 24, srb, scsi, moved.into());
            payload[21] = script.byte();
            let sense = script.bytes(18);
            payload[28..46].copy_from_slice(&sense);
            complete(id, &payload);
        }
        8 if script.byte() < 32 => host.rescind(channel),
        9 if script.byte() < 32 => {
            let words = [Control::WriteIndex, Control::ReadIndex];
            let word = words[usize::from(script.byte() % 2)];
            let value = script.bytes(4);
            end.break_ring(word, u32::from_le_bytes([value[0], value[1], value[2], value[3]]));
            end.interrupt();
        }
        10 => {
            let at = u32::from(script.byte()) * 8;
            end.scribble(at, &script.bytes(16));
            complete(id, &honest(end, &packet));
        }
        // Tells of other disks.
        11 => {
            send(&OutgoingPacket::in_band(0, &[&11u32.to_le_bytes(), &[0; 60]]));
            complete(id, &honest(end, &packet));
        }
        _ => complete(id, &honest(end, &packet)),
    }
}

/// An answer as long as the question.
fn statuses(packet: &HostPacket, vstor: u32, srb: u8, scsi: u8, moved: u32) -> Vec<u8> {
    let mut payload = packet.payload.clone();
    payload.resize(payload.len().max(64), 0);
    payload[0..8].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    payload[8..12].copy_from_slice(&vstor.to_le_bytes());
    payload[14..16].copy_from_slice(&[srb, scsi]);
    payload[21] = 0;
    payload[24..28].copy_from_slice(&moved.to_le_bytes());
    payload
}

/// What an honest host with one disk of 1 MiB on unit 0 answers.
fn honest(end: &HostEnd, packet: &HostPacket) -> Vec<u8> {
    let operation = packet.payload[0];
    if operation != 3 {
        let mut payload = packet.payload.clone();
        payload[0..12].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        if operation == 10 {
            payload[24..28].copy_from_slice(&0x2_0000u32.to_le_bytes());
        }
        return payload;
    }
    let asked = u32::from_le_bytes([24, 25, 26, 27].map(|at| packet.payload[at]));
    let cdb = &packet.payload[28..44];
    let data: Vec<u8> = match (cdb[0], cdb[1] & 1, cdb[2]) {
        (0x12, 0, _) => [&[0, 0, 5, 2, 31, 0, 0, 2][..], b"Msft    Virtual Disk    1.0 "].concat(),
        (0x12, _, 0) => vec![0, 0, 0, 5, 0, 0x80, 0x83, 0xB0, 0xB2],
        (0x12, _, page) => vec![0, page, 0, 4, 0, 0xC0, 2, 0],
        (0x1A, ..) => vec![3, 0, 0x10, 0],
        (0x25, ..) => vec![0, 0, 7, 0xFF, 0, 0, 2, 0],
        (0x9E, ..) => vec![0, 0, 0, 0, 0, 0, 7, 0xFF, 0, 0, 2, 0, 0, 0, 0x80, 0],
        (0xA0, ..) => vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        _ => return statuses(packet, 0, 1, 0, asked),
    };
    let moved = end.write_ranges(packet, &data);
    statuses(packet, 0, 1, 0, moved as u32)
}
