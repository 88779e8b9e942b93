//! The job `io-bench`: disk and network work between marks, so that the host can tell what each piece of it costs.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::Display;
use core::future::poll_fn;
use core::task::Poll;

use hv_abi::guid::Guid;
use hv_abi::host::Mark;
use hv_abi::nvsp::NVSP_INTERFACE;
use hv_abi::storvsp::SCSI_GUID;
use vsc_cases::support::beside;
use vsc_drivers::netvsc::{NetOptions, NetVsc, TransmitError, TransmitInfo};
use vsc_drivers::storvsc::{Disk, IoBuffer, StorOptions, StorVsc};
use vsc_drivers::{ChannelId, Vmbus};

use crate::bus::new_bus;
use crate::machine::vmbus::{Bus, KernelHal, tasks};
use crate::machine::{clock, console, exit, hyperv};

/// Bytes of each read and write.
const BLOCK: u64 = 4096;
/// Requests at a time.
const DEPTHS: [u32; 2] = [1, 32];
/// Bytes of a frame: an IPv4 packet of 1,500 bytes in an Ethernet header.
const FRAME: usize = 1514;
/// Nobody's address: locally administered.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0xEE];

/// Does it, and gives the exit code.
pub(crate) fn run(operations: u64, version: Option<(u16, u16)>) -> u8 {
    let bus = match new_bus(version) {
        Ok(bus) => bus,
        Err(code) => return code,
    };
    match tasks::block_on(bus.run(), measure(&bus, operations)) {
        Ok(()) => exit::SUCCESS,
        Err(problem) => {
            log::error!("io-bench: {problem}");
            exit::FAILURE
        }
    }
}

async fn measure(bus: &Bus, operations: u64) -> Result<(), String> {
    bus.connect().await.map_err(failed("connect"))?;
    bus.all_offers_delivered().await.map_err(failed("all offers"))?;
    if let Some(channel) = first(bus, SCSI_GUID) {
        let storvsc = StorVsc::start(bus, channel, StorOptions::default()).await;
        let storvsc = storvsc.map_err(failed("start the controller"))?;
        beside(storvsc.run(), disk(&storvsc, operations)).await?;
    }
    if let Some(channel) = first(bus, NVSP_INTERFACE) {
        let card = NetVsc::start(bus, channel, NetOptions::default()).await;
        let card = card.map_err(failed("start the card"))?;
        let done = beside(card.run(), send(&card, operations)).await;
        beside(card.run(), card.stop()).await.map_err(failed("stop the card"))?;
        done?;
    }
    bus.unload().await.map_err(failed("unload"))
}

fn failed<E: Display>(at: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{at}: {error}")
}

/// The first device of a kind.
fn first(bus: &Vmbus<KernelHal>, interface: Guid) -> Option<ChannelId> {
    let offers = bus.offers();
    let found = offers.iter().find(|it| it.interface == interface && it.sub_channel == 0);
    found.map(|offer| offer.channel)
}

/// Puts marks around `work`, and tells what it was.
async fn marked(
    work: &str,
    depth: u32,
    operations: u64,
    bytes: u64,
    body: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    hyperv::mark(Mark::MEASURE_BEGIN);
    let begun = clock::now_100ns();
    body.await?;
    let elapsed_100ns = clock::now_100ns().saturating_sub(begun);
    hyperv::mark(Mark::MEASURE_END);
    log::info!("{work}, {depth} at a time: {operations} in {} us", elapsed_100ns / 10);
    console::event("io", |event| {
        event
            .str("work", work)
            .number("depth", depth.into())
            .number("operations", operations)
            .number("bytes", bytes)
            .number("elapsed_100ns", elapsed_100ns)
            .end()
    });
    Ok(())
}

async fn disk(storvsc: &StorVsc<KernelHal>, operations: u64) -> Result<(), String> {
    let disks = storvsc.disks();
    let disk = disks.iter().find(|disk| !disk.is_read_only()).ok_or("no writable disk")?;
    // Once before: whoever has something to set up has done it then.
    lanes(disk, 32, 64, true).await?;
    for (work, writes) in [("read", false), ("write", true)] {
        for depth in DEPTHS {
            let body = lanes(disk, depth, operations, writes);
            marked(work, depth, operations, BLOCK, body).await?;
        }
    }
    Ok(())
}

/// `operations` in all, `depth` of them at a time.
async fn lanes(
    disk: &Disk<KernelHal>,
    depth: u32,
    operations: u64,
    writes: bool,
) -> Result<(), String> {
    let left = Cell::new(operations);
    let mut lanes: Vec<_> =
        (0..depth).map(|lane| Box::pin(lane_work(disk, lane, &left, writes))).collect();
    poll_fn(|context| {
        let mut problem = None;
        lanes.retain_mut(|lane| match lane.as_mut().poll(context) {
            Poll::Ready(done) => {
                problem = done.err().or(problem.take());
                false
            }
            Poll::Pending => true,
        });
        match problem {
            Some(problem) => Poll::Ready(Err(problem)),
            None if lanes.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

async fn lane_work(
    disk: &Disk<KernelHal>,
    lane: u32,
    left: &Cell<u64>,
    writes: bool,
) -> Result<(), String> {
    let blocks = BLOCK / u64::from(disk.block_bytes());
    let places = disk.blocks() / blocks.max(1);
    let mut buffer = IoBuffer::zeroed(BLOCK as usize).ok_or("no memory")?;
    let mut random = u64::from(lane + 1) * 0x9E37_79B9_7F4A_7C15;
    while left.get() > 0 {
        left.set(left.get() - 1);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let lba = (random % places.max(1)) * blocks;
        let done = match writes {
            true => disk.write_lent(lba, buffer).await,
            false => disk.read_lent(lba, buffer).await,
        };
        buffer = done.map_err(|failed| format!("block {lba}: {}", failed.error))?;
    }
    Ok(())
}

/// Frames to nobody, as fast as there is room, until the host has taken all.
async fn send(card: &NetVsc<KernelHal>, packets: u64) -> Result<(), String> {
    let mut frame = vec![0; FRAME];
    frame[..6].copy_from_slice(&NOBODY);
    frame[6..12].copy_from_slice(&card.mac());
    // An EtherType for experiments (IEEE 802, local experimental 1).
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    burst(card, &frame, 64).await?;
    marked("send", 0, packets, FRAME as u64, burst(card, &frame, packets)).await
}

async fn burst(card: &NetVsc<KernelHal>, frame: &[u8], packets: u64) -> Result<(), String> {
    let mut left = packets;
    while left > 0 {
        match card.transmit(frame, &TransmitInfo::default()) {
            Ok(()) => left -= 1,
            Err(TransmitError::Full) => {
                card.flush();
                card.room(frame.len()).await.map_err(failed("room"))?;
            }
            Err(error) => return Err(failed("transmit")(error)),
        }
    }
    card.flush();
    Ok(())
}
