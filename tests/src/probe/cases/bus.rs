//! The connection and what is offered by it, as `hv_vmbus` sees it.

use std::collections::BTreeSet;

use hv_abi::vmbus::version::VmbusVersion;
use vsc_cases::support::check;
use vsc_cases::{CaseResult, Problem};

use super::reload::{Reloaded, names};
use super::system::{agreed_version, devices, offered, soon};

/// Versions that Linux 6.1 can be told to ask for at most (drivers/hv/connection.c, `vmbus_versions`).
const VERSIONS: [VmbusVersion; 8] = [
    VmbusVersion::V5_3,
    VmbusVersion::V5_2,
    VmbusVersion::V5_1,
    VmbusVersion::V5_0,
    VmbusVersion::V4_1,
    VmbusVersion::V4_0,
    VmbusVersion::V3_0,
    VmbusVersion::V2_4,
];

/// `vmbus::the_host_agrees_to_a_version_and_keeps_to_it`; where the bus can't be reloaded, as far as one connection shows it.
///
/// # Errors
///
/// As every case.
pub fn the_host_agrees_to_a_version_and_keeps_to_it() -> CaseResult {
    let first = agreed_version()?;
    check(first.is_known(), || format!("version {first}"))?;
    let again = match Reloaded::begin() {
        Err(Problem::Skip(_)) => return Ok(()),
        reloaded => reloaded?.connect(None)?,
    };
    check(first == again, || format!("first {first}, then {again}"))
}

/// `vmbus::every_offer_has_a_number_of_its_own`.
///
/// # Errors
///
/// As every case.
pub fn every_offer_has_a_number_of_its_own() -> CaseResult {
    let offers = offered()?;
    let numbers: BTreeSet<_> = offers.iter().map(|device| device.text("id")).collect();
    check(numbers.len() == offers.len(), || {
        format!("{} offers have {} numbers", offers.len(), numbers.len())
    })
}

/// `vmbus::offers_are_the_same_after_an_unload`.
///
/// # Errors
///
/// As every case.
pub fn offers_are_the_same_after_an_unload() -> CaseResult {
    let before = names(offered()?.len());
    let reloaded = Reloaded::begin()?;
    for _ in 0..2 {
        reloaded.connect(None)?;
        let after = names(before.len());
        check(before == after, || format!("{} devices, then {}", before.len(), after.len()))?;
    }
    Ok(())
}

/// `vmbus::primary_channels_have_index_0`.
///
/// # Errors
///
/// As every case.
pub fn primary_channels_have_index_0() -> CaseResult {
    for device in offered()? {
        let index = device.text(&device.channel("subchannel_id"));
        check(index == "0", || format!("{} has index {index:?}", device.name))?;
    }
    Ok(())
}

/// `contacts::every_version_can_be_had_in_turn`, of those that Linux asks for.
///
/// # Errors
///
/// As every case.
pub fn every_version_can_be_had_in_turn() -> CaseResult {
    let newest_of_host = agreed_version()?;
    let reloaded = Reloaded::begin()?;
    for asked in VERSIONS.into_iter().filter(|version| *version <= newest_of_host) {
        let had = reloaded.connect(Some(asked))?;
        check(had == asked, || format!("{had} instead of {asked}"))?;
    }
    Ok(())
}

/// `contacts::devices_are_the_same_at_every_version`.
///
/// # Errors
///
/// As every case.
pub fn devices_are_the_same_at_every_version() -> CaseResult {
    let before = names(offered()?.len());
    let reloaded = Reloaded::begin()?;
    for newest in [VmbusVersion::V5_1, VmbusVersion::V4_0, VmbusVersion::V2_4] {
        let version = reloaded.connect(Some(newest))?;
        let found = names(before.len());
        check(found == before, || format!("{} devices at {version}", found.len()))?;
    }
    drop(reloaded);
    check(soon(|| devices().len() == before.len()), || "they do not come back".into())
}
