//! The clocks that time synchronisation tells the guest of.
#![expect(unsafe_code, reason = "clock_gettime, for clocks that the standard library has not")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hv_abi::ic::timesync::WLTIMEDELTA;
use kvm_ioctls::VmFd;

/// `KVM_CLOCK_REALTIME` (Linux, `include/uapi/linux/kvm.h`): the answer has the host's time, too, of the same moment.
const KVM_CLOCK_REALTIME: u32 = 1 << 2;

/// Two clocks at the same moment, both in 100 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSample {
    /// The host's time, since 1601, UTC.
    pub host_time_100ns: u64,
    /// The guest's reference time.
    pub reference_100ns: u64,
}

/// Where samples come from.
pub trait Clocks: Send + Sync {
    /// Both clocks, now.
    fn sample(&self) -> ClockSample;

    /// How long this computer has been suspended since it was started.
    fn suspended(&self) -> Duration;
}

/// The clocks of a machine on KVM.
pub struct KvmClocks(Arc<VmFd>);

impl KvmClocks {
    /// Those of this machine.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self(vm)
    }
}

impl Clocks for KvmClocks {
    fn sample(&self) -> ClockSample {
        // KVM's clock is what it computes the reference counter from (Linux, `get_time_ref_counter`).
        let clock = self.0.get_clock().unwrap_or_default();
        let host_ns = match clock.flags & KVM_CLOCK_REALTIME {
            0 => now_ns(),
            _ => clock.realtime,
        };
        ClockSample { host_time_100ns: since_1601(host_ns), reference_100ns: clock.clock / 100 }
    }

    fn suspended(&self) -> Duration {
        // Read in this order the difference is never too small, but for what passes between.
        let running = read_clock(libc::CLOCK_MONOTONIC);
        read_clock(libc::CLOCK_BOOTTIME).saturating_sub(running)
    }
}

/// Nanoseconds since 1970 in the protocol's time.
pub fn since_1601(unix_ns: u64) -> u64 {
    WLTIMEDELTA + unix_ns / 100
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn read_clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one time.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if result != 0 {
        return Duration::ZERO;
    }
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_time_begins_where_linux_has_it() {
        assert_eq!(since_1601(0), 116_444_736_000_000_000);
        // 2000-01-01: 946684800 s after 1970; as a FILETIME 125911584000000000.
        assert_eq!(since_1601(946_684_800_000_000_000), 125_911_584_000_000_000);
    }

    #[test]
    fn clocks_of_this_computer_can_be_read() {
        let (running, since_start) =
            (read_clock(libc::CLOCK_MONOTONIC), read_clock(libc::CLOCK_BOOTTIME));
        assert!(running > Duration::ZERO && since_start >= running);
        assert!(now_ns() > 1_600_000_000_000_000_000);
    }
}
