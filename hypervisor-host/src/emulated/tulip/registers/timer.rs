//! The general-purpose timer, CSR11.

use std::time::{Duration, Instant};

use hv_abi::tulip::csr::timer::{CON, RESET, VALUE_MASK};

/// Runs out after a number of ticks, once or again and again.
#[derive(Debug, Default)]
pub(super) struct Timer {
    /// CON and the count that was written.
    written: u32,
    tick: Duration,
    end: Option<Instant>,
}

impl Timer {
    pub(super) fn write(&mut self, value: u32, tick: Duration, now: Instant) {
        self.written = value & (CON | VALUE_MASK);
        self.tick = tick;
        let count = self.written & VALUE_MASK;
        self.end = (count != 0).then(|| now + tick * count);
    }

    /// The register: the count goes down.
    pub(super) fn read(&self, now: Instant) -> u32 {
        let left = self.end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
        let ticks = left.as_nanos().div_ceil(self.tick.as_nanos().max(1));
        RESET & !VALUE_MASK | self.written & CON | ticks as u32 & VALUE_MASK
    }

    /// Whether it has run out.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let expired = self.end.is_some_and(|end| end <= now);
        if expired {
            let period = self.tick * (self.written & VALUE_MASK);
            // However late the look is, one run counts once.
            self.end = (self.written & CON != 0).then(|| now + period);
        }
        expired
    }

    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }
}
