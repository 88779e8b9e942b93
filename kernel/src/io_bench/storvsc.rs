//! A disk by `storvsc`.

use alloc::format;
use alloc::string::String;

use hv_abi::storvsp::SCSI_GUID;
use kernel::cmdline::{IoBench, IoPath};
use vsc_drivers::storvsc::{Disk, IoBuffer, StorOptions, StorVsc};
use vsc_drivers::task::beside;

use super::disk::{self, BenchDisk};
use super::{failed, first};
use crate::machine::vmbus::{Bus, KernelHal};

/// Works on the first disk that can be written; without a controller there is nothing to do.
pub(super) async fn run(bus: &Bus, bench: IoBench) -> Result<(), String> {
    let Some(channel) = first(bus, SCSI_GUID) else { return Ok(()) };
    let storvsc = StorVsc::start(bus, channel, StorOptions::default()).await;
    let storvsc = storvsc.map_err(failed("start the controller"))?;
    let disks = storvsc.disks();
    let disk = disks.iter().find(|disk| !disk.is_read_only()).ok_or("no writable disk")?;
    beside(storvsc.run(), disk::work(disk, bench)).await
}

impl BenchDisk for Disk<KernelHal> {
    const PATH: IoPath = IoPath::Storvsc;
    const DEPTHS: &'static [u32] = &[1, 32];

    fn block_bytes(&self) -> u32 {
        Disk::block_bytes(self)
    }

    fn blocks(&self) -> u64 {
        Disk::blocks(self)
    }

    async fn transfer(&self, lba: u64, buffer: IoBuffer, writes: bool) -> Result<IoBuffer, String> {
        let done = match writes {
            true => self.write_lent(lba, buffer).await,
            false => self.read_lent(lba, buffer).await,
        };
        done.map_err(|failed| format!("block {lba}: {}", failed.error))
    }
}
