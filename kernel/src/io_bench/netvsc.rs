//! A card by `netvsc`.

use alloc::string::String;

use hv_abi::nvsp::NVSP_INTERFACE;
use kernel::cmdline::{IoBench, IoPath};
use vsc_drivers::SECOND_100NS;
use vsc_drivers::netvsc::{NetOptions, NetVsc, TransmitError, TransmitInfo};
use vsc_drivers::task::{beside, within};

use super::net::{self, BenchCard};
use super::{failed, first};
use crate::machine::vmbus::{Bus, KernelHal};

/// Bytes of an Ethernet header.
const HEADER: usize = 14;

/// What the device can do best: jumbo frames, and bursts as long as the send buffer, each given to the host at once.
fn options() -> NetOptions {
    let mut options = NetOptions::default();
    options.mtu = 9000;
    options.batch_frames = 1024;
    options
}

/// Works on the first card; without one there is nothing to do.
pub(super) async fn run(bus: &Bus, bench: IoBench) -> Result<(), String> {
    let Some(channel) = first(bus, NVSP_INTERFACE) else { return Ok(()) };
    let card = NetVsc::start(bus, channel, options()).await;
    let card = Card { bus: bus.clone(), card: card.map_err(failed("start the card"))? };
    let done = beside(card.card.run(), net::work(&card, bench)).await;
    beside(card.card.run(), card.card.stop()).await.map_err(failed("stop the card"))?;
    done
}

struct Card {
    bus: Bus,
    card: NetVsc<KernelHal>,
}

impl BenchCard for Card {
    const PATH: IoPath = IoPath::Netvsc;

    fn mac(&self) -> [u8; 6] {
        self.card.mac()
    }

    fn longest_frame(&self) -> usize {
        self.card.mtu() + HEADER
    }

    async fn send(&self, frame: &[u8], count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            match self.card.transmit(frame, &TransmitInfo::default()) {
                Ok(()) => left -= 1,
                Err(TransmitError::Full) => {
                    self.card.flush();
                    self.card.room(frame.len()).await.map_err(failed("room"))?;
                }
                Err(error) => return Err(failed("transmit")(error)),
            }
        }
        self.card.sent().await.map_err(failed("send all"))
    }

    async fn receive(&self, bytes: usize, count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            let frame = within(self.bus.hal(), 10 * SECOND_100NS, self.card.received()).await;
            let frame = frame.map_err(|_| "no frames came")?.map_err(failed("receive"))?;
            left -= u64::from(frame.len() == bytes);
        }
        Ok(())
    }
}
