//! Reads and writes of `storvsc`, 4 KiB each.

use hv_abi::storvsp::SCSI_GUID;
use in_process::InProcessHal;
use vsc_drivers::storvsc::{Disk, IoBuffer, StorOptions, StorVsc};
use vsc_drivers::task::{all, beside};

use crate::Guest;

const BYTES: usize = 4096;

/// `DEPTH` reads at a time, `rounds` times.
pub(crate) fn reads<const DEPTH: u32>(rounds: u32) {
    work(DEPTH, rounds, false);
}

/// `DEPTH` writes at a time, `rounds` times.
pub(crate) fn writes<const DEPTH: u32>(rounds: u32) {
    work(DEPTH, rounds, true);
}

fn work(depth: u32, rounds: u32, writes: bool) {
    let guest = Guest::new();
    let channel = guest.channels(SCSI_GUID)[0];
    let (storvsc, disk) = guest.prepare(async {
        let storvsc = StorVsc::start(&guest.bus, channel, StorOptions::default()).await;
        let storvsc = storvsc.expect("a controller");
        let disk = storvsc.disk(0).expect("a disk");
        // What is set up at first use does not count.
        beside(storvsc.run(), lanes(&disk, depth, 2, writes)).await;
        (storvsc, disk)
    });
    guest.counted(beside(storvsc.run(), lanes(&disk, depth, rounds, writes)));
}

async fn lanes(disk: &Disk<InProcessHal>, depth: u32, rounds: u32, writes: bool) {
    all((0..depth).map(|lane| Box::pin(one_lane(disk, lane, rounds, writes)))).await;
}

async fn one_lane(disk: &Disk<InProcessHal>, lane: u32, rounds: u32, writes: bool) {
    let mut buffer = IoBuffer::zeroed(BYTES).expect("memory");
    for round in 0..rounds {
        let place = u64::from(lane * 97 + round) % 1024;
        let lba = place * BYTES as u64 / u64::from(disk.block_bytes());
        let done = match writes {
            true => disk.write_lent(lba, buffer).await,
            false => disk.read_lent(lba, buffer).await,
        };
        buffer = done.expect("a good disk");
    }
}
