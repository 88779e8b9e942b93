//! The job `vmbus`: connects, lists what the host offers, disconnects; twice, because a second kernel may come after the first.

use hv_abi::vmbus::version::VmbusVersion;
use vsc_drivers::{BusError, BusOptions, Offer};

use crate::machine::vmbus::{self, Bus, tasks};
use crate::machine::{console, exit};

/// Does it, and gives the exit code.
pub(crate) fn run(version: Option<(u16, u16)>) -> u8 {
    let bus = match new_bus(version) {
        Ok(bus) => bus,
        Err(code) => return code,
    };
    let done = tasks::block_on(bus.run(), async {
        visit(&bus).await?;
        visit(&bus).await
    });
    match done {
        Ok(()) => exit::SUCCESS,
        Err(error) => {
            log::error!("VMBus: {error}; {:?}", bus.counts());
            exit::FAILURE
        }
    }
}

/// A bus that is not connected, or the exit code if there can be none, which has been told then.
pub(crate) fn new_bus(version: Option<(u16, u16)>) -> Result<Bus, u8> {
    let mut options = BusOptions::default();
    if let Some((major, minor)) = version {
        let version = VmbusVersion::new(major, minor);
        if !version.is_known() {
            log::error!(
                "cannot use vmbus-version={version}: no such version of VMBus; leave it out"
            );
            return Err(exit::BAD_INPUT);
        }
        options = options.forced(version);
    }
    match vmbus::hal() {
        Ok(hal) => Ok(vmbus::replace(hal, options)),
        Err(reason) => {
            log::error!("no VMBus: {reason}; run this on a hypervisor that has one");
            Err(exit::FAILURE)
        }
    }
}

async fn visit(bus: &Bus) -> Result<(), BusError> {
    let version = bus.connect().await?;
    log::info!("VMBus {version}");
    console::event("vmbus", |event| {
        event.number("major", version.major().into()).number("minor", version.minor().into()).end()
    });
    bus.all_offers_delivered().await?;
    bus.offers().iter().for_each(tell);
    bus.unload().await
}

fn tell(offer: &Offer) {
    let Offer { channel, interface, instance, .. } = offer;
    log::info!("channel {channel}: {interface}, instance {instance}");
    console::event("offer", |event| {
        event
            .number("channel", channel.relid().into())
            .text("interface", format_args!("{interface}"))
            .text("instance", format_args!("{instance}"))
            .number("sub_channel", offer.sub_channel.into())
            .end()
    });
}
