//! The integration components, as `hv_utils` has them.

use std::time::{Duration, SystemTime};

use hv_abi::ic::{HEARTBEAT_INTERFACE, TIMESYNC_INTERFACE};
use vsc_cases::CaseResult;
use vsc_cases::support::{check, skip};

use super::system::{command, of_kind, soon};

/// 2020 in seconds after 1970: whoever reads this lives later.
const LATE: Duration = Duration::from_secs(1_577_836_800);

/// `integration::heartbeats_come_and_are_answered`: Linux is signalled, and leaves nothing unread in its ring.
///
/// # Errors
///
/// As every case.
pub fn heartbeats_come_and_are_answered() -> CaseResult {
    let devices = of_kind(HEARTBEAT_INTERFACE, "heartbeat")?;
    let Some(device) = devices.first() else { return skip("no heartbeat") };
    let counts = || (device.count("interrupts"), device.count("events"));
    let before = counts();
    let both_grow = || {
        let now = counts();
        now.0 > before.0 && now.1 > before.1
    };
    check(soon(both_grow), || {
        format!("signals from and to the host: first {before:?}, then {:?}", counts())
    })
}

/// `integration::the_hosts_time_comes_at_the_beginning`: a clock that is years late is right again.
///
/// # Errors
///
/// As every case.
pub fn the_hosts_time_comes_at_the_beginning() -> CaseResult {
    let devices = of_kind(TIMESYNC_INTERFACE, "time synchronisation")?;
    let Some(device) = devices.first() else { return skip("no time synchronisation") };
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    device.rebind(|| command(&["date", "-s", "1980-01-01 00:00:00"]).map(drop))?;
    check(soon(|| now() > LATE), || format!("it is {} s after 1970", now().as_secs()))
}
