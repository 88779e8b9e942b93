//! Opening and closing channels.

use alloc::format;
use alloc::vec::Vec;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::version::VmbusVersion;
use vsc_drivers::{Channel, ChannelError, Offer, OpenParams};

use crate::support::{Connected, check, connected, failed, skip};
use crate::{CaseResult, Environment, Problem};

/// Channels that a case opens at the same time at the most.
const MANY: usize = 16;

async fn open<E: Environment>(
    connected: &Connected<'_, E>,
    offer: &Offer,
    params: &OpenParams<'_>,
) -> Result<Channel<E::Hal>, Problem> {
    let opened = connected.bus.open(offer.channel, params).await;
    opened.map_err(|error| Problem::Fail(format!("opening channel {}: {error}", offer.channel)))
}

fn first<E: Environment>(connected: &Connected<'_, E>) -> Result<Offer, Problem> {
    connected.offers.first().cloned().map_or_else(|| skip("the host offers nothing"), Ok)
}

/// Each channel, one after the other.
///
/// # Errors
///
/// As every case.
pub async fn every_channel_opens_and_closes<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        first(&connected)?;
        for offer in &connected.offers {
            let channel = open(&connected, offer, &OpenParams::default()).await?;
            channel.close().await.map_err(failed("close"))?;
        }
        Ok(())
    })
    .await
}

/// The same one, several times, with rings at other places.
///
/// # Errors
///
/// As every case.
pub async fn a_channel_opens_again_after_it_was_closed<E: Environment>(
    environment: &E,
) -> CaseResult {
    connected(environment, async |connected| {
        let offer = first(&connected)?;
        for _ in 0..5 {
            let channel = open(&connected, &offer, &OpenParams::default()).await?;
            let second = connected.bus.open(offer.channel, &OpenParams::default()).await.err();
            check(second == Some(ChannelError::Busy), || format!("opened twice: {second:?}"))?;
            channel.close().await.map_err(failed("close"))?;
        }
        Ok(())
    })
    .await
}

/// All that there are, up to a number.
///
/// # Errors
///
/// As every case.
pub async fn channels_open_at_the_same_time<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        if connected.offers.len() < 2 {
            return skip("the host offers fewer than two channels");
        }
        let mut all = Vec::new();
        for offer in connected.offers.iter().take(MANY) {
            all.push(open(&connected, offer, &OpenParams::default()).await?);
        }
        for channel in &all {
            channel.check().map_err(failed("an open channel"))?;
        }
        for channel in all {
            channel.close().await.map_err(failed("close"))?;
        }
        Ok(())
    })
    .await
}

/// The smallest ring, and one whose page numbers need many messages.
///
/// # Errors
///
/// As every case.
pub async fn rings_of_one_page_and_of_a_thousand_are_taken<E: Environment>(
    environment: &E,
) -> CaseResult {
    connected(environment, async |connected| {
        let offer = first(&connected)?;
        for (send, receive) in [(1, 1), (1, 7), (500, 500)] {
            let params = OpenParams {
                send_bytes: send * HV_PAGE_SIZE,
                receive_bytes: receive * HV_PAGE_SIZE,
                ..OpenParams::default()
            };
            let channel = open(&connected, &offer, &params).await?;
            channel.close().await.map_err(failed("close"))?;
        }
        Ok(())
    })
    .await
}

/// Signals may go to any processor from version 2.4 on.
///
/// # Errors
///
/// As every case.
pub async fn a_channel_can_be_bound_to_every_processor<E: Environment>(
    environment: &E,
) -> CaseResult {
    connected(environment, async |connected| {
        connected.from_version(VmbusVersion::V2_4)?;
        let offer = first(&connected)?;
        for vp in 0..environment.vps() {
            let params = OpenParams { target_vp: Some(vp), ..OpenParams::default() };
            let channel = open(&connected, &offer, &params).await?;
            channel.close().await.map_err(failed("close"))?;
        }
        Ok(())
    })
    .await
}

/// ... and move while the channel is open, from 4.1 on.
///
/// # Errors
///
/// As every case.
pub async fn signals_can_move_to_another_processor<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        connected.from_version(VmbusVersion::V4_1)?;
        let offer = first(&connected)?;
        let channel = open(&connected, &offer, &OpenParams::default()).await?;
        for vp in (0..environment.vps()).rev() {
            channel.set_target_vp(vp).await.map_err(failed("moving signals"))?;
        }
        let nobody = channel.set_target_vp(0xFFFF).await;
        check(
            connected.version < VmbusVersion::V5_3
                || matches!(nobody, Err(ChannelError::Refused(..))),
            || format!("signals to a processor that does not exist: {nobody:?}"),
        )?;
        channel.close().await.map_err(failed("close"))
    })
    .await
}

/// A kernel that goes down does not close everything first.
///
/// # Errors
///
/// As every case.
pub async fn the_bus_can_be_left_with_channels_open<E: Environment>(environment: &E) -> CaseResult {
    let mut opened = 0;
    let note = &mut opened;
    connected(environment, async |connected| {
        let offer = first(&connected)?;
        let channel = open(&connected, &offer, &OpenParams::default()).await?;
        *note += 1;
        connected.bus.unload().await.map_err(failed("unload"))?;
        let state = channel.check().err();
        check(state == Some(ChannelError::Disconnected), || format!("{state:?}"))?;
        drop(channel);
        // For the unload that follows each case.
        connected.bus.connect().await.map(drop).map_err(failed("connect again"))
    })
    .await?;
    connected(environment, async |connected| {
        let offer = first(&connected)?;
        let channel = open(&connected, &offer, &OpenParams::default()).await?;
        channel.close().await.map_err(failed("close"))
    })
    .await
}
