//! A disk on an IDE controller, which does one command at a time.

use alloc::format;
use alloc::string::String;
use core::marker::PhantomData;

use hv_abi::ata::SECTOR_BYTES;
use kernel::cmdline::{IoBench, IoPath};
use kernel::ide::Mode;
use vsc_drivers::storvsc::IoBuffer;

use super::disk::{self, BenchDisk};
use crate::drives::is_scratch;
use crate::machine::ide;

/// How data goes.
pub(super) trait Way {
    const PATH: IoPath;
    const MODE: Mode;
    const WRITES_ONE_OF: u64;
}

/// By the data register, in blocks as large as the disk takes.
pub(super) struct ByPio;
/// By the bus master.
pub(super) struct ByDma;

impl Way for ByPio {
    const PATH: IoPath = IoPath::IdePio;
    const MODE: Mode = Mode::PioMultiple;
    // On KVM a write visits the host for each unit of the data register.
    const WRITES_ONE_OF: u64 = 32;
}

impl Way for ByDma {
    const PATH: IoPath = IoPath::IdeDma;
    const MODE: Mode = Mode::Dma;
    const WRITES_ONE_OF: u64 = 1;
}

/// Works on the first disk that may be overwritten; without a controller there is nothing to do.
pub(super) async fn run<W: Way>(bench: IoBench) -> Result<(), String> {
    let Some(controller) = ide::start().await else { return Ok(()) };
    for disk in controller.disks() {
        if is_scratch(disk).await? {
            let name = W::MODE.name();
            let disk = disk.in_mode(W::MODE).ok_or_else(|| format!("the disk has no {name}"))?;
            return disk::work(&Bench::<W>(disk, PhantomData), bench).await;
        }
    }
    Err("no disk that says it is for tests".into())
}

struct Bench<W>(ide::Disk, PhantomData<W>);

impl<W: Way> BenchDisk for Bench<W> {
    const PATH: IoPath = W::PATH;
    const DEPTHS: &'static [u32] = &[1];
    const WRITES_ONE_OF: u64 = W::WRITES_ONE_OF;

    fn block_bytes(&self) -> u32 {
        SECTOR_BYTES as u32
    }

    fn blocks(&self) -> u64 {
        self.0.facts().sectors
    }

    async fn transfer(&self, lba: u64, buffer: IoBuffer, writes: bool) -> Result<IoBuffer, String> {
        let done = match writes {
            true => self.0.write_lent(lba, buffer).await,
            false => self.0.read_lent(lba, buffer).await,
        };
        done.map_err(|error| format!("sector {lba}: {error}"))
    }
}
