//! The connection and what is offered by it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use hv_abi::vmbus::version::VmbusVersion;
use vsc_drivers::task::beside;
use vsc_drivers::{BusError, BusOptions, Offer};

use crate::support::{check, connect, connected, failed, options, skip};
use crate::{CaseResult, Environment};

/// The host answers with one of the versions that were asked for.
///
/// # Errors
///
/// As every case.
pub async fn the_host_agrees_to_a_version_and_keeps_to_it<E: Environment>(
    environment: &E,
) -> CaseResult {
    let mut agreed = Vec::new();
    for _ in 0..2 {
        let note = &mut agreed;
        connected(environment, async |connected| {
            note.push(connected.version);
            check(connected.version.is_known(), || format!("version {}", connected.version))
        })
        .await?;
    }
    check(agreed[0] == agreed[1], || format!("first {}, then {}", agreed[0], agreed[1]))
}

/// A version from the future is refused, and the host can be asked again for another.
///
/// # Errors
///
/// As every case.
pub async fn a_version_that_does_not_exist_is_refused<E: Environment>(
    environment: &E,
) -> CaseResult {
    // A later case must not meet a host that can't be reached at all.
    connected(environment, async |_| Ok(())).await?;
    let bus = environment.new_bus(BusOptions::default().forced(VmbusVersion::new(2, 5)));
    beside(bus.run(), async {
        match bus.connect().await {
            Err(BusError::NoVersion) => Ok(()),
            Ok(version) => check(false, || format!("the host agreed to {version}")),
            Err(error) => Err(failed("connect")(error)),
        }
    })
    .await?;
    connected(environment, async |_| Ok(())).await
}

/// No two channels have the same number.
///
/// # Errors
///
/// As every case.
pub async fn every_offer_has_a_number_of_its_own<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        if connected.offers.is_empty() {
            return skip("the host offers nothing");
        }
        let numbers: BTreeSet<_> = connected.offers.iter().map(|offer| offer.channel).collect();
        check(numbers.len() == connected.offers.len(), || {
            format!("{} offers have {} numbers", connected.offers.len(), numbers.len())
        })?;
        let counts = connected.bus.counts();
        check(counts == vsc_drivers::BusCounts::default(), || format!("{counts:?}"))
    })
    .await
}

/// Nothing is offered after the end of the offers that were asked for.
///
/// # Errors
///
/// As every case.
pub async fn all_offers_come_before_their_end<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        let hal = connected.bus.hal();
        let deadline = vsc_drivers::Hal::now_100ns(hal) + vsc_drivers::SECOND_100NS / 10;
        vsc_drivers::task::sleep_until(hal, deadline).await;
        let later = connected.bus.offers().len();
        check(later == connected.offers.len(), || {
            format!("{} offers before the end, {later} a while after", connected.offers.len())
        })
    })
    .await
}

fn names(offers: &[Offer]) -> BTreeSet<(hv_abi::guid::Guid, hv_abi::guid::Guid)> {
    offers.iter().map(|offer| (offer.interface, offer.instance)).collect()
}

/// A second kernel in the same machine finds what the first has found.
///
/// # Errors
///
/// As every case.
pub async fn offers_are_the_same_after_an_unload<E: Environment>(environment: &E) -> CaseResult {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let note = &mut seen;
        connected(environment, async |connected| {
            note.push(names(&connected.offers));
            Ok(())
        })
        .await?;
    }
    check(seen.windows(2).all(|two| two[0] == two[1]), || {
        format!("{:?} devices in turn", seen.iter().map(BTreeSet::len).collect::<Vec<_>>())
    })
}

/// A kernel that died has not unloaded; the next one is served all the same.
///
/// # Errors
///
/// As every case.
pub async fn a_second_contact_without_an_unload_starts_anew<E: Environment>(
    environment: &E,
) -> CaseResult {
    let first = environment.new_bus(options(environment));
    let offers = beside(first.run(), async {
        connect(&first).await?;
        first.all_offers_delivered().await.map_err(failed("all offers"))?;
        Ok(names(&first.offers()))
    })
    .await?;
    // Its memory stays the host's; nobody unloads it.
    core::mem::forget(first);
    connected(environment, async |connected| {
        let again = names(&connected.offers);
        check(again == offers, || format!("{} devices, then {}", offers.len(), again.len()))
    })
    .await
}

/// Before anything asked for sub-channels there are none.
///
/// # Errors
///
/// As every case.
pub async fn primary_channels_have_index_0<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        match connected.offers.iter().find(|offer| offer.sub_channel != 0) {
            None => Ok(()),
            Some(offer) => check(false, || format!("channel {} is a sub-channel", offer.channel)),
        }
    })
    .await
}
