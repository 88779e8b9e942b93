//! Channels that Linux's drivers open and close, and the memory that they share by them.

use std::fs;

use hv_abi::ic::HEARTBEAT_INTERFACE;
use hv_abi::nvsp::NVSP_INTERFACE;
use hv_abi::vmbus::version::VmbusVersion;
use vsc_cases::support::{check, skip};
use vsc_cases::{CaseResult, Problem};

use super::failed;
use super::system::{Device, agreed_version, of_kind, offered, processors, soon};

/// Devices that Linux has a driver for.
fn driven() -> Result<Vec<Device>, Problem> {
    let offers = offered()?;
    // Drivers take devices beside, after the module was loaded.
    soon(|| offers.iter().all(|device| device.driver().is_some()));
    let driven: Vec<_> = offers.into_iter().filter(|device| device.driver().is_some()).collect();
    if driven.is_empty() { skip("Linux has no driver for any device") } else { Ok(driven) }
}

/// `channels::every_channel_opens_and_closes`.
///
/// # Errors
///
/// As every case.
pub fn every_channel_opens_and_closes() -> CaseResult {
    for device in driven()? {
        device.rebind(|| check(!device.is_open(), || format!("{} stays open", device.name)))?;
        check(soon(|| device.is_open()), || format!("{} does not open", device.name))?;
    }
    Ok(())
}

/// `channels::a_channel_opens_again_after_it_was_closed`.
///
/// # Errors
///
/// As every case.
pub fn a_channel_opens_again_after_it_was_closed() -> CaseResult {
    let driven = driven()?;
    let heartbeat =
        of_kind(HEARTBEAT_INTERFACE, "heartbeat").ok().and_then(|all| all.into_iter().next());
    let Some(device) = heartbeat.or_else(|| driven.into_iter().next()) else {
        return skip("the host offers nothing");
    };
    for _ in 0..5 {
        device.rebind(|| Ok(()))?;
        check(soon(|| device.is_open()), || format!("{} does not open", device.name))?;
    }
    Ok(())
}

/// `channels::channels_open_at_the_same_time`.
///
/// # Errors
///
/// As every case.
pub fn channels_open_at_the_same_time() -> CaseResult {
    let driven = driven()?;
    if driven.len() < 2 {
        return skip("the host offers fewer than two channels");
    }
    soon(|| driven.iter().all(Device::is_open));
    let open = driven.iter().filter(|device| device.is_open()).count();
    check(open == driven.len(), || format!("{open} of {} are open", driven.len()))
}

/// `channels::signals_can_move_to_another_processor`: the heartbeat's go round, and still come.
///
/// # Errors
///
/// As every case.
pub fn signals_can_move_to_another_processor() -> CaseResult {
    let version = agreed_version()?;
    if version < VmbusVersion::V4_1 {
        return skip(format!("the connection is {version}"));
    }
    let heartbeats = of_kind(HEARTBEAT_INTERFACE, "heartbeat")?;
    let Some(device) = heartbeats.first() else { return skip("no heartbeat") };
    let file = device.path(&device.channel("cpu"));
    for vp in (0..processors()).chain([0]) {
        fs::write(&file, vp.to_string()).map_err(failed(format!("to processor {vp}")))?;
        let told = device.text(&device.channel("cpu"));
        check(told == vp.to_string(), || format!("to processor {vp}: it is {told}"))?;
        let before = device.count("interrupts");
        check(soon(|| device.count("interrupts") > before), || {
            format!("no signal came to processor {vp}")
        })?;
    }
    Ok(())
}

/// `gpadls::memory_of_many_messages_is_shared`: a card's buffers, with thousands of pages, again and again.
///
/// # Errors
///
/// As every case.
pub fn memory_of_many_messages_is_shared() -> CaseResult {
    let cards = of_kind(NVSP_INTERFACE, "network card")?;
    let Some(card) = cards.first() else { return skip("no card") };
    for _ in 0..2 {
        card.rebind(|| Ok(()))?;
        check(soon(|| card.is_open() && !card.list("net").is_empty()), || {
            "the card does not come up with its buffers".into()
        })?;
    }
    Ok(())
}
