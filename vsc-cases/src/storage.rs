//! Disks. Cases write to the first disk that is not read-only and has at least 16 MiB: it is a scratch disk.

use alloc::format;
use alloc::vec::Vec;

use hv_abi::storvsp::SCSI_GUID;
use vsc_drivers::storvsc::{Disk, DiskErrorKind, Failed, IoBuffer, StorOptions, StorVsc};
use vsc_drivers::task::beside;

use crate::support::{Connected, check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// Bytes that a scratch disk must have.
const SCRATCH_BYTES: u64 = 16 << 20;

/// Starts the first controller and does `body`, with the driver's task beside it.
async fn with_controller<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&StorVsc<E::Hal>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let storvsc = start(&connected).await?;
        let result = beside(storvsc.run(), body(&storvsc)).await;
        drop(storvsc);
        result
    })
    .await
}

async fn start<E: Environment>(connected: &Connected<'_, E>) -> Result<StorVsc<E::Hal>, Problem> {
    let offers = connected.of_kind(SCSI_GUID, "SCSI controller")?;
    let Some(first) = offers.first() else { return skip("no controller") };
    let started = StorVsc::start(connected.bus, first.channel, StorOptions::default()).await;
    started.map_err(failed("start the controller"))
}

async fn with_scratch<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&Disk<E::Hal>) -> CaseResult,
) -> CaseResult {
    with_controller(environment, async |storvsc| {
        let big = |disk: &&Disk<E::Hal>| {
            !disk.is_read_only() && disk.blocks() >= SCRATCH_BYTES / u64::from(disk.block_bytes())
        };
        match storvsc.disks().iter().find(big) {
            Some(disk) => body(disk).await,
            None => skip("there is no writable disk of 16 MiB"),
        }
    })
    .await
}

/// Bytes that can be told from their place.
pub(crate) fn pattern(seed: u32, bytes: &mut [u8]) {
    let mut word = seed.wrapping_mul(0x9E37_79B9) | 1;
    for chunk in bytes.chunks_mut(4) {
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

pub(crate) fn lend<E: Environment>(environment: &E, bytes: usize) -> Result<IoBuffer, Problem> {
    environment.lend(bytes).map_or_else(|| skip(format!("no memory for {bytes} bytes")), Ok)
}

pub(crate) fn lost(at: &str) -> impl FnOnce(Failed) -> Problem {
    move |failed| Problem::Fail(format!("{at}: {}", failed.error))
}

/// The protocol's beginning, and at least one disk.
///
/// # Errors
///
/// As every case.
pub async fn the_controller_starts_and_finds_disks<E: Environment>(environment: &E) -> CaseResult {
    with_controller(environment, async |storvsc| {
        for disk in storvsc.disks() {
            let (bytes, blocks) = (disk.block_bytes(), disk.blocks());
            check(bytes.is_power_of_two() && blocks != 0, || format!("{blocks} of {bytes} bytes"))?;
        }
        if storvsc.disks().is_empty() { skip("the controller has no disk") } else { Ok(()) }
    })
    .await
}

/// From one block to a mebibyte, at the beginning, in the middle, at the end.
///
/// # Errors
///
/// As every case.
pub async fn what_is_written_is_read_again<E: Environment>(environment: &E) -> CaseResult {
    with_scratch(environment, async |disk| {
        let block = disk.block_bytes() as usize;
        let end = disk.blocks();
        for (number, bytes) in [block, 4096, 65_536, 1 << 20].into_iter().enumerate() {
            let blocks = (bytes / block) as u64;
            for (place, lba) in [0, end / 2 + 1, end - blocks].into_iter().enumerate() {
                let mut buffer = lend(environment, bytes)?;
                pattern((number * 3 + place) as u32, &mut buffer);
                let expected = buffer.to_vec();
                let mut buffer = disk.write_lent(lba, buffer).await.map_err(lost("write"))?;
                buffer.fill(0);
                let buffer = disk.read_lent(lba, buffer).await.map_err(lost("read"))?;
                check(*buffer == *expected, || format!("{bytes} bytes at block {lba} differ"))?;
            }
        }
        Ok(())
    })
    .await
}

/// Several buffers, which begin anywhere and cross pages.
///
/// # Errors
///
/// As every case.
pub async fn pieces_across_pages_keep_their_order<E: Environment>(environment: &E) -> CaseResult {
    with_scratch(environment, async |disk| {
        let block = disk.block_bytes() as usize;
        let sizes = [1, 9, 2, 17, 1, 3];
        let mut whole = lend(environment, sizes.iter().sum::<usize>() * block)?;
        pattern(77, &mut whole);
        let expected = whole.to_vec();
        let mut pieces = Vec::new();
        let mut rest = &expected[..];
        for size in sizes {
            let (piece, after) = rest.split_at(size * block);
            let mut buffer = lend(environment, piece.len())?;
            buffer.copy_from_slice(piece);
            pieces.push(buffer);
            rest = after;
        }
        let written = disk.write_lent_vectored(40, pieces).await.map_err(lost("write"))?;
        check(written.len() == sizes.len(), || format!("{} buffers came back", written.len()))?;
        let whole = disk.read_lent(40, whole).await.map_err(lost("read"))?;
        check(*whole == *expected, || "what was written in pieces is not what is read".into())
    })
    .await
}

/// With and without anything to flush.
///
/// # Errors
///
/// As every case.
pub async fn a_flush_is_answered<E: Environment>(environment: &E) -> CaseResult {
    with_scratch(environment, async |disk| {
        disk.flush().await.map_err(failed("flush"))?;
        let buffer = lend(environment, 4096)?;
        let buffer = disk.write_lent(0, buffer).await.map_err(lost("write"))?;
        disk.flush().await.map_err(failed("flush"))?;
        disk.write_through(0, buffer).await.map(drop).map_err(lost("write through"))
    })
    .await
}

/// The driver looks first; so this goes past it by a disk that it thinks larger only if the host tells so. What can be seen
/// here is that the last block is there and the next is not.
///
/// # Errors
///
/// As every case.
pub async fn a_read_beyond_the_end_is_refused<E: Environment>(environment: &E) -> CaseResult {
    with_scratch(environment, async |disk| {
        let block = disk.block_bytes() as usize;
        let buffer = lend(environment, block)?;
        let buffer = disk.read_lent(disk.blocks() - 1, buffer).await.map_err(lost("read"))?;
        let kind =
            disk.read_lent(disk.blocks(), buffer).await.err().map(|failed| failed.error.kind);
        check(kind == Some(DiskErrorKind::OutOfRange), || format!("{kind:?}"))?;
        let two = lend(environment, 2 * block)?;
        let kind =
            disk.read_lent(disk.blocks() - 1, two).await.err().map(|failed| failed.error.kind);
        check(kind == Some(DiskErrorKind::OutOfRange), || format!("{kind:?}"))
    })
    .await
}

/// Nothing can be written to it, and it can be read.
///
/// # Errors
///
/// As every case.
pub async fn a_read_only_disk_stays_as_it_is<E: Environment>(environment: &E) -> CaseResult {
    with_controller(environment, async |storvsc| {
        let Some(disk) = storvsc.disks().into_iter().find(Disk::is_read_only) else {
            return skip("there is no read-only disk");
        };
        let buffer = lend(environment, disk.block_bytes() as usize)?;
        let before = disk.read_lent(0, buffer).await.map_err(lost("read"))?;
        let mut other = lend(environment, before.len())?;
        pattern(5, &mut other);
        let kind = disk.write_lent(0, other).await.err().map(|failed| failed.error.kind);
        check(kind == Some(DiskErrorKind::ReadOnly), || format!("{kind:?}"))?;
        let again = lend(environment, before.len())?;
        let again = disk.read_lent(0, again).await.map_err(lost("read"))?;
        check(*again == *before, || "its first block changed".into())
    })
    .await
}

/// More than most queues have, all at once, each with a block of its own.
///
/// # Errors
///
/// As every case.
pub async fn many_requests_are_in_flight_at_the_same_time<E: Environment>(
    environment: &E,
) -> CaseResult {
    const REQUESTS: u32 = 300;
    with_scratch(environment, async |disk| {
        let blocks = (4096 / disk.block_bytes()).max(1);
        let bytes = (blocks * disk.block_bytes()) as usize;
        let one = async |number: u32| -> CaseResult {
            let lba = u64::from(number) * u64::from(blocks);
            let mut buffer = lend(environment, bytes)?;
            pattern(number, &mut buffer);
            let expected = buffer.to_vec();
            let mut buffer = disk.write_lent(lba, buffer).await.map_err(lost("write"))?;
            buffer.fill(0);
            let buffer = disk.read_lent(lba, buffer).await.map_err(lost("read"))?;
            check(*buffer == *expected, || format!("request {number} read something else"))
        };
        all((0..REQUESTS).map(one)).await
    })
    .await
}

/// Polls all futures until each is ready; the first problem, if any.
pub(crate) async fn all<F: Future<Output = CaseResult>>(
    futures: impl Iterator<Item = F>,
) -> CaseResult {
    let mut waiting: Vec<_> = futures.map(alloc::boxed::Box::pin).collect();
    let mut result = Ok(());
    core::future::poll_fn(|context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            core::task::Poll::Ready(done) => {
                if result.is_ok() {
                    result = done;
                }
                false
            }
            core::task::Poll::Pending => true,
        });
        if waiting.is_empty() { core::task::Poll::Ready(()) } else { core::task::Poll::Pending }
    })
    .await;
    result
}
