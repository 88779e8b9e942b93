//! What is offered, as `hv_vmbus` shows it.

use std::collections::BTreeSet;

use vsc_cases::CaseResult;
use vsc_cases::support::check;

use super::system::{agreed_version, offered};

/// `vmbus::the_host_agrees_to_a_version_and_keeps_to_it`, as far as one connection shows it.
///
/// # Errors
///
/// As every case.
pub fn the_host_agrees_to_a_version_and_keeps_to_it() -> CaseResult {
    let version = agreed_version()?;
    check(version.is_known(), || format!("version {version}"))
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
