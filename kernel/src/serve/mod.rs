//! The job `serve`: an HTTP server of the files on a disk.
//!
//! One task does all: it polls the bus, the drivers and the TCP/IP stack, moves what can be moved, and halts the processor when nothing can.
//! While TCP drains what was sent, the disk reads on: [`disk`] keeps reads in flight, the connections find what they
//! need in the cache.
//!
//! - [`disk`] has a cache of the first disk, filled in the background
//! - [`mod@net`] has the sockets
//! - [`ending`]: the host may ask for the end, and sees that the guest lives

mod disk;
mod ending;
mod net;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;

use hv_abi::guid::Guid;
use hv_abi::nvsp::NVSP_INTERFACE;
use hv_abi::storvsp::SCSI_GUID;
use kernel::cmdline::ServeOptions;
use kernel::files::cache::Cache;
use kernel::files::volume::Volume;
use vsc_drivers::netvsc::{NetOptions, NetVsc};
use vsc_drivers::storvsc::{StorOptions, StorVsc};
use vsc_drivers::task::{all, beside};
use vsc_drivers::{ChannelId, SECOND_100NS};

use crate::machine::vmbus::{self, Bus, KernelHal, tasks};
use crate::machine::{console, exit};
use disk::ChunkReader;
use net::{Server, Sizes};

/// Something that goes on for as long as the server does.
type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// How long the disk's last answers may take at the end.
const STOP_LIMIT_100NS: u64 = 5 * SECOND_100NS;

/// Serves, and gives the exit code.
pub(crate) fn run(version: Option<(u16, u16)>, options: &ServeOptions) -> u8 {
    let (bus, hal) = match (crate::bus::new_bus(version), vmbus::hal()) {
        (Ok(bus), Ok(hal)) => (bus, hal),
        // The reason was told there; without a bus there would be no `hal` either.
        (Err(code), _) => return code,
        (_, Err(_)) => return exit::FAILURE,
    };
    // In a box: what is moved into a future lies in it twice, each time it is wrapped, and the stack is small.
    let main = Box::pin(serve(&bus, hal, options));
    match tasks::block_on(bus.run(), main) {
        Ok(()) => exit::SUCCESS,
        Err(reason) => {
            log::error!("cannot serve: {reason}");
            exit::FAILURE
        }
    }
}

fn failed<E: Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// The first device of a kind.
fn find(bus: &Bus, interface: Guid, name: &str) -> Result<ChannelId, String> {
    let offers = bus.offers();
    let first = offers.iter().find(|offer| offer.interface == interface && offer.sub_channel == 0);
    let missing =
        || format!("the host offers no {name}; give it one (docs/interfaces.md, `serve`)");
    first.map(|offer| offer.channel).ok_or_else(missing)
}

async fn serve(bus: &Bus, hal: KernelHal, options: &ServeOptions) -> Result<(), String> {
    let version = bus.connect().await.map_err(failed("connect to VMBus"))?;
    bus.all_offers_delivered().await.map_err(failed("the host's offers"))?;
    let (disk, card) = (find(bus, SCSI_GUID, "disk")?, find(bus, NVSP_INTERFACE, "network card")?);
    let stor = StorVsc::start(bus, disk, StorOptions::default());
    let stor = stor.await.map_err(failed("start the disk's controller"))?;
    let net = NetVsc::start(bus, card, NetOptions::default());
    let net = net.await.map_err(failed("start the network card"))?;
    log::info!("VMBus {version}, storvsp {:?}, NVSP {:?}", stor.version(), net.version());
    let ending = ending::Ending::default();
    let mut background: Vec<Task<'_>> = Vec::from([
        Box::pin(async {
            log::warn!("the disk's driver has ended: {}", stor.run().await);
        }) as Task<'_>,
        Box::pin(async {
            log::warn!("the network card's driver has ended: {}", net.run().await);
        }),
    ]);
    background.extend(ending.tasks(bus));
    let main = async {
        let result = until_end(&stor, &net, hal, options, &ending).await;
        let stopped = net.stop().await.map_err(failed("stop the network card"));
        let stopped =
            stopped.and(stor.stop(STOP_LIMIT_100NS).await.map_err(failed("stop the disk")));
        result.and(stopped)
    };
    let result = beside(all(background), Box::pin(main)).await;
    result.and(bus.unload().await.map_err(failed("leave VMBus")))
}

async fn until_end(
    stor: &StorVsc<KernelHal>,
    net: &NetVsc<KernelHal>,
    hal: KernelHal,
    options: &ServeOptions,
    ending: &ending::Ending,
) -> Result<(), String> {
    let disks = stor.disks();
    let disk = disks.first().ok_or("the host's controller has no disk; give it one by --disk")?;
    let sizes = Sizes::for_this_heap();
    let mut server = Server::new(hal, net.clone(), options, sizes);
    let buffers = disk::buffers(sizes.chunks)?;
    let cache = Cache::new(buffers, disk::blocks_of_512(disk));
    let mut reader = ChunkReader::new(disk.clone(), &cache);
    let volume = open(&cache, &mut reader).await?;
    log::info!(
        "serving disk {} on http://{}/, {} sockets",
        disk.address().lun,
        core::net::Ipv4Addr::from(options.address),
        server.sockets()
    );
    console::event("serving", |event| event.number("sockets", server.sockets() as u64).end());
    poll_fn(|context| {
        let moved = server.step(&volume, &mut reader) | reader.poll(context);
        let enough = options.requests != 0 && server.responses() >= u64::from(options.requests);
        if (enough || ending.is_asked_for()) && server.is_quiet(ending.is_asked_for()) {
            return Poll::Ready(());
        }
        if moved {
            context.waker().wake_by_ref();
        } else {
            server.wake_later(context.waker());
        }
        Poll::Pending
    })
    .await;
    tell(&server, stor);
    Ok(())
}

/// The volume, once all that it takes to find it was read.
async fn open<'c>(
    cache: &'c Cache<disk::Buffer>,
    reader: &mut ChunkReader<'c>,
) -> Result<Volume<'c, disk::Buffer>, String> {
    loop {
        match Volume::open(cache) {
            Err(kernel::files::FileError::Missing(chunk)) => {
                reader.want(chunk);
                poll_fn(
                    |context| if reader.poll(context) { Poll::Ready(()) } else { Poll::Pending },
                )
                .await;
            }
            Err(error) => return Err(format!("open the disk's first partition: {error}")),
            Ok(volume) => return Ok(volume),
        }
    }
}

fn tell(server: &Server, stor: &StorVsc<KernelHal>) {
    let (net, counts) = (server.statistics(), stor.counts());
    log::info!("{} responses", server.responses());
    console::event("served", |event| {
        event
            .number("responses", server.responses())
            .number("sent_bytes", server.sent_bytes())
            .number("frames_out", net.transmitted_frames)
            .number("frames_in", net.received_frames)
            .number("disk_requests", counts.requests)
            .end()
    });
}
