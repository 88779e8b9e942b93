//! The job `io-bench`: disk and network work between marks, so that the host can tell what each piece of it costs.
//!
//! - [`disk`], [`net`]: the work, for anything that has blocks or frames
//! - [`storvsc`], [`netvsc`], [`ide`], [`tulip`]: ways to a disk and to a network

mod disk;
mod ide;
mod net;
mod netvsc;
mod storvsc;
mod tulip;

use alloc::format;
use alloc::string::String;
use core::fmt::Display;
use core::future::pending;

use hv_abi::guid::Guid;
use hv_abi::host::Mark;
use kernel::cmdline::{IoBench, IoPath};
use vsc_drivers::{ChannelId, Vmbus};

use crate::bus::new_bus;
use crate::machine::vmbus::{KernelHal, tasks};
use crate::machine::{clock, console, exit, hyperv};

/// Does it, and gives the exit code.
pub(crate) fn run(bench: IoBench, version: Option<(u16, u16)>) -> u8 {
    for path in IoPath::ALL {
        if !bench.paths.contains(path) {
            continue;
        }
        let done = match path {
            IoPath::Storvsc | IoPath::Netvsc => synthetic(path, bench, version),
            IoPath::IdePio => emulated(path, ide::run::<ide::ByPio>(bench)),
            IoPath::IdeDma => emulated(path, ide::run::<ide::ByDma>(bench)),
            IoPath::Tulip => emulated(path, tulip::run(bench)),
        };
        if let Err(code) = done {
            return code;
        }
    }
    exit::SUCCESS
}

/// A device on VMBus, which is connected for it alone.
fn synthetic(path: IoPath, bench: IoBench, version: Option<(u16, u16)>) -> Result<(), u8> {
    let bus = new_bus(version)?;
    let work = async {
        bus.connect().await.map_err(failed("connect"))?;
        bus.all_offers_delivered().await.map_err(failed("all offers"))?;
        match path {
            IoPath::Storvsc => storvsc::run(&bus, bench).await?,
            IoPath::Netvsc => netvsc::run(&bus, bench).await?,
            IoPath::IdePio | IoPath::IdeDma | IoPath::Tulip => {}
        }
        bus.unload().await.map_err(failed("unload"))
    };
    told(path, tasks::block_on(bus.run(), work))
}

/// A device without a bus.
fn emulated(path: IoPath, work: impl Future<Output = Result<(), String>>) -> Result<(), u8> {
    told(path, tasks::block_on(pending::<()>(), work))
}

/// Tells what went wrong.
fn told(path: IoPath, done: Result<(), String>) -> Result<(), u8> {
    done.map_err(|problem| {
        log::error!("io-bench: {}: {problem}", path.name());
        exit::FAILURE
    })
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

/// A piece of work.
#[derive(Debug, Clone, Copy)]
struct Work {
    path: IoPath,
    /// `read`, `write`, `send` or `receive`.
    name: &'static str,
    /// Requests at a time; 0: as many as there is room for.
    depth: u32,
    operations: u64,
    /// Bytes of each.
    bytes: u64,
}

impl Work {
    /// Puts marks around `body`, and tells what it was.
    async fn marked(self, body: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        hyperv::mark(Mark::MEASURE_BEGIN);
        let begun = clock::now_100ns();
        body.await?;
        let elapsed_100ns = clock::now_100ns().saturating_sub(begun);
        hyperv::mark(Mark::MEASURE_END);
        let Self { path, name, depth, operations, bytes } = self;
        let path = path.name();
        log::info!(
            "{path}: {name} of {bytes} bytes, {depth} at a time: {operations} in {} us",
            elapsed_100ns / 10
        );
        console::event("io", |event| {
            event
                .str("path", path)
                .str("work", name)
                .number("depth", depth.into())
                .number("operations", operations)
                .number("bytes", bytes)
                .number("elapsed_100ns", elapsed_100ns)
                .end()
        });
        Ok(())
    }
}
