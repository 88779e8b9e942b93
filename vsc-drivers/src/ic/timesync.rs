//! Time synchronisation: the host tells what time it is.
//!
//! What a kernel gets is a pair of times, the host's clock and the partition's reference counter, of the same moment: a
//! clock that counts by the latter needs nothing else. From version 4.0 on the host takes both together; before, the counter
//! is read when the message is, and half of the time that the host has measured for a round trip is made up for.

use hv_abi::guid::Guid;
use hv_abi::ic::timesync::{
    ICTIMESYNCFLAG_SYNC, TIMESYNC_MIN_BYTES, TIMESYNC_REF_MIN_BYTES, TIMESYNC_V4,
    TIMESYNC_VERSIONS, TimesyncMessage, TimesyncRefMessage, WLTIMEDELTA,
};
use hv_abi::ic::{IcMessageType, IcStatus, IcVersion, TIMESYNC_INTERFACE};

use super::error::IcError;
use super::message::read;
use super::responder::{Service, Versions};

/// A sample of the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSample {
    /// What to add to the reference time for the time since 1970, UTC; both in 100 ns.
    pub unix_offset_100ns: i64,
    /// The reference time at which it was taken.
    pub reference_100ns: u64,
    /// Whether the clock is to be set (after a start, or when the machine was stopped for a while); else it may be.
    pub set_clock: bool,
}

impl TimeSample {
    /// Time since 1970, UTC, in 100 ns, when the reference time is `reference_100ns`. Before 1970 it is 0.
    pub fn unix_time_100ns(&self, reference_100ns: u64) -> u64 {
        reference_100ns.saturating_add_signed(self.unix_offset_100ns)
    }

    fn new(host_time: u64, reference_100ns: u64, flags: u8) -> Result<Self, IcError> {
        let signed = |time| i64::try_from(time).map_err(|_| IcError::Time(time));
        let unix = signed(host_time)? - WLTIMEDELTA.cast_signed();
        let offset = unix.checked_sub(signed(reference_100ns)?);
        Ok(Self {
            unix_offset_100ns: offset.ok_or(IcError::Time(host_time))?,
            reference_100ns,
            set_clock: flags & ICTIMESYNCFLAG_SYNC != 0,
        })
    }
}

/// The kernel's part.
pub trait Clock: Send {
    /// The partition's reference time now, in 100 ns.
    fn reference_100ns(&self) -> u64;

    /// The host's clock was so.
    fn sample(&mut self, sample: TimeSample);
}

/// Time synchronisation.
#[derive(Debug)]
pub struct Timesync<C> {
    clock: C,
}

impl<C: Clock> Timesync<C> {
    /// Tells this clock.
    pub const fn new(clock: C) -> Self {
        Self { clock }
    }

    fn read_sample(&self, versions: Versions, message: &[u8]) -> Result<TimeSample, IcError> {
        if versions.message >= TIMESYNC_V4 {
            let message: TimesyncRefMessage = read(message, TIMESYNC_REF_MIN_BYTES)?;
            let reference = message.vm_reference_time.get();
            return TimeSample::new(message.parent_time.get(), reference, message.flags);
        }
        let message: TimesyncMessage = read(message, TIMESYNC_MIN_BYTES)?;
        let (time, travel) = (message.parent_time.get(), message.round_trip_time.get() / 2);
        let time = time.checked_add(travel).ok_or(IcError::Time(time))?;
        TimeSample::new(time, self.clock.reference_100ns(), message.flags)
    }
}

impl<C: Clock> Service for Timesync<C> {
    const INTERFACE: Guid = TIMESYNC_INTERFACE;
    const TYPE: IcMessageType = IcMessageType::TIMESYNC;
    const VERSIONS: &'static [IcVersion] = &TIMESYNC_VERSIONS;

    fn answer(&mut self, versions: Versions, message: &mut [u8]) -> Result<IcStatus, IcError> {
        let sample = self.read_sample(versions, message)?;
        self.clock.sample(sample);
        Ok(IcStatus::S_OK)
    }
}
