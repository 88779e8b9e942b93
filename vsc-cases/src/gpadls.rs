//! Memory that is shared with the host for longer (GPADLs).

use alloc::format;
use alloc::vec::Vec;

use vsc_drivers::{Channel, DmaBuffer, OpenParams, SharedBuffer};

use crate::support::{check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

async fn with_channel<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(&Channel<E::Hal>) -> CaseResult,
) -> CaseResult {
    connected(environment, async |connected| {
        let Some(offer) = connected.offers.first() else { return skip("the host offers nothing") };
        let channel = connected.bus.open(offer.channel, &OpenParams::default()).await;
        let channel = channel.map_err(failed("open"))?;
        body(&channel).await?;
        channel.close().await.map_err(failed("close"))
    })
    .await
}

async fn share<E: Environment>(
    environment: &E,
    channel: &Channel<E::Hal>,
    pages: usize,
) -> Result<SharedBuffer<E::Hal>, Problem> {
    let Some(buffer) = DmaBuffer::new(&environment.hal(), pages) else {
        return skip(format!("no memory for {pages} pages"));
    };
    channel.share(buffer).await.map_err(failed("share"))
}

/// One page, many times.
///
/// # Errors
///
/// As every case.
pub async fn one_page_is_shared_and_taken_back<E: Environment>(environment: &E) -> CaseResult {
    with_channel(environment, async |channel| {
        for _ in 0..20 {
            let shared = share(environment, channel, 1).await?;
            shared.unshare().await.map_err(failed("unshare"))?;
        }
        Ok(())
    })
    .await
}

/// 26 page numbers fit in the first message and 28 in each that follows: these sizes are around every edge.
///
/// # Errors
///
/// As every case.
pub async fn memory_of_many_messages_is_shared<E: Environment>(environment: &E) -> CaseResult {
    with_channel(environment, async |channel| {
        for pages in [25, 26, 27, 53, 54, 55, 82, 83, 256, 1024] {
            let shared = share(environment, channel, pages).await?;
            shared.unshare().await.map_err(failed("unshare"))?;
        }
        Ok(())
    })
    .await
}

/// Each has a number of its own.
///
/// # Errors
///
/// As every case.
pub async fn a_hundred_pieces_are_shared_at_the_same_time<E: Environment>(
    environment: &E,
) -> CaseResult {
    with_channel(environment, async |channel| {
        let mut all = Vec::new();
        for _ in 0..100 {
            all.push(share(environment, channel, 2).await?);
        }
        let mut numbers: Vec<_> = all.iter().map(SharedBuffer::gpadl).collect();
        numbers.sort_unstable();
        numbers.dedup();
        check(numbers.len() == all.len(), || format!("{} numbers", numbers.len()))?;
        for shared in all {
            shared.unshare().await.map_err(failed("unshare"))?;
        }
        Ok(())
    })
    .await
}

/// After an unload the host has forgotten all of it: the numbers can be used again.
///
/// # Errors
///
/// As every case.
pub async fn shared_memory_goes_with_the_connection<E: Environment>(environment: &E) -> CaseResult {
    for _ in 0..3 {
        connected(environment, async |connected| {
            let Some(offer) = connected.offers.first() else {
                return skip("the host offers nothing");
            };
            let channel = connected.bus.open(offer.channel, &OpenParams::default()).await;
            let channel = channel.map_err(failed("open"))?;
            let shared = share(environment, &channel, 40).await?;
            connected.bus.unload().await.map_err(failed("unload"))?;
            drop((shared, channel));
            connected.bus.connect().await.map(drop).map_err(failed("connect again"))
        })
        .await?;
    }
    Ok(())
}
