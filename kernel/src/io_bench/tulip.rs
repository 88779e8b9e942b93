//! A card by the driver for DEC's 21140A.

use alloc::format;
use alloc::string::String;

use kernel::cmdline::{IoBench, IoPath};
use kernel::tulip::{HEADER_BYTES, MTU, TransmitError, TulipOptions};
use vsc_drivers::SECOND_100NS;
use vsc_drivers::task::{beside, within};

use super::failed;
use super::net::{self, BenchCard};
use crate::machine::tulip::{self, Card};

/// Units of 100 ns that negotiation may take.
const LINK_LIMIT_100NS: u64 = 10 * SECOND_100NS;

/// What the driver can do best: the longest rings, one interrupt for half of one, its timer in place of interrupts under load.
fn options() -> TulipOptions {
    TulipOptions { transmit_descriptors: 256, receive_descriptors: 256, ..TulipOptions::default() }
}

/// Works on the first card; without one there is nothing to do.
pub(super) async fn run(bench: IoBench) -> Result<(), String> {
    if !tulip::is_there() {
        return Ok(());
    }
    let card = tulip::start(options()).await?;
    let work = async {
        card.link_up(LINK_LIMIT_100NS).await.map_err(failed("link"))?;
        net::work(&card, bench).await
    };
    let done = beside(card.run(), work).await;
    log::info!("tulip: {}", card.statistics());
    tulip::forget();
    card.stop();
    done
}

impl BenchCard for Card {
    const PATH: IoPath = IoPath::Tulip;

    fn mac(&self) -> [u8; 6] {
        Card::mac(self)
    }

    fn longest_frame(&self) -> usize {
        HEADER_BYTES + MTU
    }

    async fn send(&self, frame: &[u8], count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            match self.transmit(frame) {
                Ok(()) => left -= 1,
                Err(TransmitError::Full) => {
                    self.flush();
                    self.room().await.map_err(failed("room"))?;
                }
                Err(error) => return Err(format!("transmit: {error}")),
            }
        }
        self.sent().await.map_err(failed("send all"))
    }

    async fn receive(&self, bytes: usize, count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            let frame = within(self.hal(), 10 * SECOND_100NS, self.received()).await;
            let frame = frame.map_err(|_| "no frames came")?.map_err(failed("receive"))?;
            left -= u64::from(frame.len() == bytes);
        }
        Ok(())
    }
}
