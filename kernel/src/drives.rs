//! The job `ide`: lists the drives on the IDE controller, and tries them. Only a disk that says it is for tests is written to
//! ([`kernel::ide::scratch`]).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::future::pending;

use hv_abi::ata::SECTOR_BYTES;
use hv_abi::ata::command::AtaCommand;
use hv_abi::ata::packet::CD_SECTOR_BYTES;
use kernel::ide::scratch::{self, ACROSS_28_BITS, CD_SEED, Region, by_mode};
use kernel::ide::{Command, IdeError, Mode, Reach};
use vsc_drivers::storvsc::{BlockDevice, IoBuffer};

use crate::guest_tests::report;
use crate::machine::ide::{Cd, Controller, Disk, start};
use crate::machine::vmbus::tasks;
use crate::machine::{console, exit};

/// Sectors of the commands that fill a region, 592 in all ([`scratch::MAX_SECTORS`]).
const LENGTHS: [usize; 6] = [1, 2, 16, 17, 256, 300];
/// Sectors of 2,048 bytes that are read from a CD-ROM at most.
const MAX_CD_SECTORS: u64 = 512;

/// Does it, with so many sectors in each mode of PIO, and gives the exit code.
pub(crate) fn run(pio_sectors: u32) -> u8 {
    tasks::block_on(pending::<()>(), async {
        let Some(controller) = start().await else {
            log::error!("no IDE controller; give the machine one");
            return exit::FAILURE;
        };
        list(&controller);
        let mut failures = controller.problems().len();
        for disk in controller.disks() {
            match is_scratch(disk).await {
                Ok(true) => failures += try_disk(disk, pio_sectors).await,
                Ok(false) => log::info!("no disk for tests; it is left alone"),
                Err(_) => failures += 1,
            }
        }
        for cd in controller.cd_roms() {
            failures += try_cd(cd).await;
        }
        for channel in controller.channels() {
            log::info!("{:?}", channel.counts());
        }
        if failures == 0 { exit::SUCCESS } else { exit::FAILURE }
    })
}

fn list(controller: &Controller) {
    for disk in controller.disks() {
        let facts = disk.facts();
        log::info!("{disk:?}");
        tell("disk", facts.model.as_str(), facts.sectors);
    }
    for cd in controller.cd_roms() {
        log::info!("CD-ROM drive: {}", cd.facts().model.as_str());
        tell("cd-rom", cd.facts().model.as_str(), 0);
    }
    for (place, problem) in controller.problems() {
        log::error!("IDE drive {place}: {problem}");
    }
}

fn tell(kind: &str, model: &str, sectors: u64) {
    console::event("drive", |event| {
        event.str("kind", kind).str("model", model).number("sectors", sectors).end()
    });
}

/// Whether a disk says that it may be overwritten.
pub(crate) async fn is_scratch(disk: &Disk) -> Result<bool, String> {
    let mut sector = [0; SECTOR_BYTES];
    disk.read(0, &mut sector).await.map_err(|error| format!("sector 0: {error}"))?;
    Ok(scratch::is_scratch(&sector))
}

/// Tells an outcome; 1 if it is a failure.
fn outcome(name: &str, done: Result<(), String>) -> usize {
    match &done {
        Ok(()) => report(name, "pass", None),
        Err(why) => report(name, "fail", Some(why)),
    }
    usize::from(done.is_err())
}

/// Tries everything that a disk can do; how much of it failed.
async fn try_disk(disk: &Disk, pio_sectors: u32) -> usize {
    let mut failures = 0;
    if disk.facts().sectors > ACROSS_28_BITS.lba {
        return outcome("ide::beyond_28_bits", beyond_28_bits(disk).await);
    }
    for (index, region) in by_mode(pio_sectors.into()).iter().enumerate() {
        let (mode, interrupts) = (Mode::ALL[index / 2], index % 2 == 1);
        let waits = if interrupts { "interrupts" } else { "polled" };
        let name = format!("ide::{}::{waits}", mode.name().replace('-', "_"));
        disk.channel().use_interrupts(interrupts);
        failures += outcome(&name, in_mode(disk, mode, *region).await);
    }
    disk.channel().use_interrupts(true);
    failures + outcome("ide::errors_are_told_and_do_no_harm", errors(disk).await)
}

fn at<E: core::fmt::Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

async fn in_mode(disk: &Disk, mode: Mode, region: Region) -> Result<(), String> {
    let disk = disk.in_mode(mode).ok_or("the disk can't")?;
    write_region(&disk, region).await?;
    disk.flush().await.map_err(at("flush"))?;
    for mode in Mode::ALL {
        if let Some(disk) = disk.in_mode(mode) {
            read_region(&disk, region).await?;
        }
    }
    // As one piece of memory that begins anywhere.
    let bytes = vec![0; region.sectors as usize * SECTOR_BYTES];
    let bytes = disk.read_lent(region.lba, IoBuffer::from(bytes)).await.map_err(at("read"))?;
    filled(region.seed, region.lba, &bytes)
}

async fn write_region(disk: &Disk, region: Region) -> Result<(), String> {
    let mut lba = region.lba;
    for (index, sectors) in pieces(region).enumerate() {
        let mut bytes = vec![0; sectors * SECTOR_BYTES];
        scratch::fill_all(region.seed, lba, &mut bytes);
        match index % 2 {
            0 => disk.write(lba, &bytes).await.map_err(at("write"))?,
            _ => drop(disk.write_lent(lba, bytes.into()).await.map_err(at("write"))?),
        }
        lba += sectors as u64;
    }
    Ok(())
}

async fn read_region(disk: &Disk, region: Region) -> Result<(), String> {
    let mut lba = region.lba;
    for sectors in pieces(region) {
        let mut bytes = vec![0; sectors * SECTOR_BYTES];
        disk.read(lba, &mut bytes).await.map_err(at("read"))?;
        filled(region.seed, lba, &bytes)?;
        lba += sectors as u64;
    }
    Ok(())
}

/// Lengths of commands that make up a region.
fn pieces(region: Region) -> impl Iterator<Item = usize> {
    let mut left = region.sectors as usize;
    LENGTHS.into_iter().cycle().map_while(move |length| {
        let now = length.min(left);
        left -= now;
        (now != 0).then_some(now)
    })
}

fn filled(seed: u64, lba: u64, bytes: &[u8]) -> Result<(), String> {
    match scratch::is_filled(seed, lba, bytes) {
        true => Ok(()),
        false => Err(format!("sectors from {lba} on are not what was written")),
    }
}

/// Across what 28 bits reach, and the last sectors.
async fn beyond_28_bits(disk: &Disk) -> Result<(), String> {
    let last = Region { seed: 49, lba: disk.facts().sectors - 40, sectors: 40 };
    for region in [ACROSS_28_BITS, last] {
        for mode in Mode::ALL {
            let disk = disk.in_mode(mode).ok_or("the disk can't")?;
            write_region(&disk, region).await?;
            read_region(&disk, region).await?;
        }
    }
    disk.flush().await.map_err(at("flush"))
}

/// The drive's own errors, and those that the driver finds before.
async fn errors(disk: &Disk) -> Result<(), String> {
    let end = disk.facts().sectors;
    let mut sector = [0; SECTOR_BYTES];
    let mut outcomes = Vec::new();
    outcomes.push(disk.read(end, &mut sector).await == Err(IdeError::OutOfRange));
    outcomes.push(disk.write(u64::MAX, &sector).await == Err(IdeError::OutOfRange));
    outcomes.push(disk.read(0, &mut sector[1..]).await == Err(IdeError::Misaligned));
    let unknown = Command::plain(AtaCommand(0xFF));
    let refused = disk.order(&unknown).await;
    outcomes.push(matches!(refused, Err(IdeError::Drive(error)) if error.is_abort()));
    let verify = Command {
        code: AtaCommand::READ_VERIFY_SECTORS_EXT,
        features: 0,
        count: 1,
        lba: end + 1000,
        reach: Reach::Lba48,
    };
    let beyond = disk.order(&verify).await;
    outcomes.push(match beyond {
        Err(IdeError::Drive(_)) => true,
        // QEMU's disks verify nothing.
        Ok(()) => disk.facts().model.as_str().starts_with("QEMU"),
        _ => false,
    });
    outcomes.push(is_scratch(disk).await == Ok(true));
    match outcomes.iter().position(|good| !good) {
        None => Ok(()),
        Some(number) => Err(format!("number {number}: {refused:?}, {beyond:?}")),
    }
}

/// Tries a CD-ROM drive; how much of it failed.
async fn try_cd(cd: &Cd) -> usize {
    let mut failures = 0;
    for (waits, interrupts) in [("polled", false), ("interrupts", true)] {
        for (way, dma) in [("pio", false), ("dma", true)] {
            cd.channel().use_interrupts(interrupts);
            let name = format!("ide::cd_rom::{way}::{waits}");
            failures += match cd.by_dma(dma) {
                Some(cd) => outcome(&name, read_cd(cd).await),
                None => outcome(&name, Err("the drive can't".into())),
            };
        }
    }
    failures
}

async fn read_cd(mut cd: Cd) -> Result<(), String> {
    let about = cd.inquiry().await.map_err(at("inquiry"))?;
    log::debug!("{}", about.product.escape_ascii());
    let sectors = match cd.capacity().await {
        Err(IdeError::Sense(sense)) if sense.is_no_medium() => return Ok(()),
        sectors => sectors.map_err(at("capacity"))?,
    };
    let sector = CD_SECTOR_BYTES as usize;
    let mut first = vec![0; sector];
    cd.read(0, &mut first).await.map_err(at("read sector 0"))?;
    if cd.write(0, &first).await != Err(IdeError::ReadOnly) {
        return Err("it could be written to".into());
    }
    match cd.read(sectors + 10, &mut first).await {
        Err(IdeError::Sense(_)) => {}
        other => return Err(format!("behind its end: {other:?}")),
    }
    if scratch::is_scratch(&first) {
        let count = sectors.min(MAX_CD_SECTORS) - 1;
        let mut bytes = vec![0; count as usize * sector];
        cd.read(1, &mut bytes).await.map_err(at("read"))?;
        filled(CD_SEED, 4, &bytes)?;
    }
    Ok(())
}
