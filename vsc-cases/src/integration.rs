//! The integration components.

use alloc::format;

use vsc_drivers::ic::{self, HEARTBEAT_INTERFACE, Heartbeat, Responder, TIMESYNC_INTERFACE};
use vsc_drivers::ic::{Clock, TimeSample, Timesync};
use vsc_drivers::task::{beside, sleep_until};
use vsc_drivers::{Hal, SECOND_100NS};

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::support::{check, connected, skip};
use crate::{CaseResult, Environment};

/// Looks again and again for some seconds whether `holds`.
async fn soon<H: Hal>(hal: &H, holds: impl Fn() -> bool) -> bool {
    let end = hal.now_100ns() + 10 * SECOND_100NS;
    while !holds() && hal.now_100ns() < end {
        sleep_until(hal, hal.now_100ns() + SECOND_100NS / 50).await;
    }
    holds()
}

/// The host asks, and is answered.
///
/// # Errors
///
/// As every case.
pub async fn heartbeats_come_and_are_answered<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        let offers = connected.of_kind(HEARTBEAT_INTERFACE, "heartbeat")?;
        let Some(offer) = offers.first() else { return skip("no heartbeat") };
        let heartbeat = Heartbeat::new();
        let mut responder = Responder::new(heartbeat.clone());
        let hal = environment.hal();
        let came = beside(
            ic::serve(connected.bus, offer.channel, &mut responder),
            soon(&hal, || heartbeat.beats() >= 1),
        )
        .await;
        check(came, || format!("{} heartbeats", heartbeat.beats()))
    })
    .await
}

/// Keeps the last sample.
struct Keeps<H> {
    hal: H,
    host_time_100ns: Arc<AtomicU64>,
}

impl<H: Hal> Clock for Keeps<H> {
    fn reference_100ns(&self) -> u64 {
        self.hal.now_100ns()
    }

    fn sample(&mut self, sample: TimeSample) {
        let now = sample.unix_time_100ns(self.hal.now_100ns());
        self.host_time_100ns.store(now, Ordering::Relaxed);
    }
}

/// The host tells its time when the guest begins to listen, and it is not that of 1970.
///
/// # Errors
///
/// As every case.
pub async fn the_hosts_time_comes_at_the_beginning<E: Environment>(environment: &E) -> CaseResult {
    connected(environment, async |connected| {
        let offers = connected.of_kind(TIMESYNC_INTERFACE, "time synchronisation")?;
        let Some(offer) = offers.first() else { return skip("no time synchronisation") };
        let (hal, time) = (environment.hal(), Arc::new(AtomicU64::new(0)));
        let clock = Keeps { hal: hal.clone(), host_time_100ns: time.clone() };
        let mut responder = Responder::new(Timesync::new(clock));
        let came = beside(
            ic::serve(connected.bus, offer.channel, &mut responder),
            soon(&hal, || time.load(Ordering::Relaxed) != 0),
        )
        .await;
        let seconds = time.load(Ordering::Relaxed) / SECOND_100NS;
        // 2020: whoever reads this lives later.
        check(came && seconds > 1_577_836_800, || format!("the host says {seconds} s after 1970"))
    })
    .await
}
