//! The job `soak`: random I/O of a disk and frames between two cards for so many seconds, at the same time and on all processors' channels, every
//! byte checked. Without a disk or a second card, the other alone.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell};
use core::fmt::Display;
use core::pin::Pin;

use hv_abi::guid::Guid;
use hv_abi::nvsp::NVSP_INTERFACE;
use hv_abi::storvsp::SCSI_GUID;
use vsc_cases::soak::disk::{Plan, Tally as DiskTally};
use vsc_cases::soak::echo::Tally as EchoTally;
use vsc_cases::soak::{disk, echo};
use vsc_drivers::netvsc::{NetOptions, NetVsc};
use vsc_drivers::storvsc::{Disk, StorOptions, StorVsc};
use vsc_drivers::task::{all, beside, both};
use vsc_drivers::{ChannelId, SECOND_100NS};

use crate::bus::new_bus;
use crate::machine::vmbus::{Bus, KernelHal, tasks};
use crate::machine::{clock, console, exit, vp};

/// Bytes of the disk that are used, at most: reading them back at the end takes time, too.
const MAX_BYTES: u64 = 32 << 20;
/// Requests in flight.
const DEPTH: usize = 64;
/// Channels of a device, at most.
const MAX_CHANNELS: u32 = 4;
/// How long the disk's last answers may take at the end.
const STOP_LIMIT_100NS: u64 = 30 * SECOND_100NS;

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Does it, and gives the exit code.
pub(crate) fn run(seconds: u32, version: Option<(u16, u16)>) -> u8 {
    let bus = match new_bus(version) {
        Ok(bus) => bus,
        Err(code) => return code,
    };
    // The work with all that it waits for is larger than a stack has room for.
    match tasks::block_on(bus.run(), Box::pin(work(&bus, u64::from(seconds) * SECOND_100NS))) {
        Ok(true) => exit::SUCCESS,
        Ok(false) => exit::FAILURE,
        Err(problem) => {
            log::error!("soak: {problem}");
            exit::FAILURE
        }
    }
}

fn failed<E: Display>(at: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{at}: {error}")
}

/// Whether nothing was lost or corrupt.
async fn work(bus: &Bus, span_100ns: u64) -> Result<bool, String> {
    bus.connect().await.map_err(failed("connect"))?;
    bus.all_offers_delivered().await.map_err(failed("all offers"))?;
    let storage = storage(bus).await?;
    let cards = cards(bus).await?;
    let disk = storage.as_ref().and_then(scratch);
    if let (Some(storage), None) = (&storage, &disk) {
        let count = storage.disks().len();
        return Err(format!("the controller has no disk that can be written, and {count} others"));
    }
    if disk.is_none() && cards.is_none() {
        return Err("there is neither a disk that can be written nor a pair of cards".into());
    }
    // The time begins with the first random request: writing the whole disk before may take longer than all of it.
    let end_100ns = OnceCell::new();
    let begin = || {
        end_100ns.get_or_init(|| {
            log::info!("soak: what was to be prepared is there");
            clock::now_100ns() + span_100ns
        });
    };
    if disk.is_none() {
        begin();
    }
    let goes_on = || end_100ns.get().is_none_or(|end| clock::now_100ns() < *end);
    let mut drivers: Vec<Task<'_>> = Vec::new();
    drivers.extend(storage.as_ref().map(|storage| task(storage.run())));
    drivers.extend(cards.iter().flatten().map(|card| task(card.run())));
    let (of_disk, of_cards) = (Cell::default(), Cell::default());
    let works = both(
        async {
            if let Some(disk) = &disk {
                let random = |_| {
                    begin();
                    goes_on()
                };
                of_disk.set(disk::soak(disk, &plan(disk), random).await);
                // If it ended before, by a failure.
                begin();
            }
        },
        async {
            if let Some([near, far]) = &cards {
                of_cards.set(
                    echo::soak(bus.hal(), (near, far), clock::now_100ns(), |_| goes_on()).await,
                );
            }
        },
    );
    beside(all(drivers), async {
        works.await;
        for card in cards.iter().flatten() {
            card.stop().await.map_err(failed("stop a card"))?;
        }
        match &storage {
            Some(storage) => {
                storage.stop(STOP_LIMIT_100NS).await.map_err(failed("stop the controller"))
            }
            None => Ok(()),
        }
    })
    .await?;
    bus.unload().await.map_err(failed("unload"))?;
    let late = storage.as_ref().map_or(0, |storage| {
        let counts = storage.counts();
        counts.timeouts + counts.resets
    });
    Ok(tell(&of_disk.into_inner(), &of_cards.into_inner(), late))
}

fn task<'a>(future: impl Future + 'a) -> Task<'a> {
    Box::pin(async {
        future.await;
    })
}

/// The devices of a kind.
fn devices(bus: &Bus, interface: Guid) -> Vec<ChannelId> {
    let offers = bus.offers();
    let ours = offers.iter().filter(|it| it.interface == interface && it.sub_channel == 0);
    ours.map(|offer| offer.channel).collect()
}

fn channels() -> u16 {
    (vp::online().count() as u32).min(MAX_CHANNELS) as u16
}

/// The first controller, with a channel for each processor.
async fn storage(bus: &Bus) -> Result<Option<StorVsc<KernelHal>>, String> {
    let Some(&channel) = devices(bus, SCSI_GUID).first() else { return Ok(None) };
    let mut options = StorOptions::default();
    options.channels = channels();
    options.vps = (0..options.channels.into()).collect();
    let started = StorVsc::start(bus, channel, options).await;
    started.map(Some).map_err(failed("start the controller"))
}

/// The first two cards.
async fn cards(bus: &Bus) -> Result<Option<[NetVsc<KernelHal>; 2]>, String> {
    let [near, far, ..] = devices(bus, NVSP_INTERFACE)[..] else { return Ok(None) };
    let start = async |channel| {
        let mut options = NetOptions::default();
        options.channels = channels();
        NetVsc::start(bus, channel, options).await.map_err(failed("start a card"))
    };
    let near = start(near).await?;
    let far = beside(near.run(), start(far)).await?;
    Ok(Some([near, far]))
}

/// The first disk that can be written.
fn scratch(storage: &StorVsc<KernelHal>) -> Option<Disk<KernelHal>> {
    storage.disks().into_iter().find(|disk| !disk.is_read_only())
}

fn plan(disk: &Disk<KernelHal>) -> Plan {
    let most = MAX_BYTES / u64::from(disk.block_bytes());
    Plan { blocks: 0..disk.blocks().min(most), depth: DEPTH, seed: clock::now_100ns() }
}

/// Prints what came of it; whether it is as it should be.
///
/// A request whose time was over and that was sent again was not lost, and yet somebody did not wake up: `late` counts those.
fn tell(disk: &DiskTally, echo: &EchoTally, late: u64) -> bool {
    let (lost, corrupt) = (disk.lost + echo.lost, disk.corrupt + echo.corrupt);
    log::info!(
        "soak: {} reads, {} writes, {} frames; {lost} lost, {corrupt} corrupt, {} failed, {late} late",
        disk.reads,
        disk.writes,
        echo.frames,
        disk.failed
    );
    for first in disk.first.iter().chain(&echo.first) {
        log::error!("soak: {first}");
    }
    console::event("soak", |event| {
        event
            .number("reads", disk.reads)
            .number("writes", disk.writes)
            .number("scattered", disk.scattered)
            .number("flushes", disk.flushes)
            .number("disk_bytes", disk.bytes)
            .number("frames", echo.frames)
            .number("frame_bytes", echo.bytes)
            .number("lost", lost)
            .number("corrupt", corrupt)
            .number("failed", disk.failed)
            .number("late", late)
            .end()
    });
    disk.is_clean() && echo.is_clean() && late == 0
}
