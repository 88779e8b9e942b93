//! Synthetic timers: four for each virtual processor (TLFS *Timers*, *Synthetic Timers*; version 6.0b: chapter 12).
//!
//! Times are in 100 ns of the partition's reference time. The expiration message is
//! [`crate::synic::HvTimerMessagePayload`].

use crate::msr::{HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_STIMER0_COUNT};

/// Timers of a virtual processor.
pub const HV_STIMER_COUNT: usize = 4;

/// Number of a timer's configuration register; only the low two bits of `index` count.
pub const fn stimer_config_msr(index: usize) -> u32 {
    HV_X64_MSR_STIMER0_CONFIG + 2 * (index as u32 & 3)
}

/// Number of a timer's count register; only the low two bits of `index` count.
pub const fn stimer_count_msr(index: usize) -> u32 {
    HV_X64_MSR_STIMER0_COUNT + 2 * (index as u32 & 3)
}

/// The value of a configuration register (TLFS *Synthetic Timer Configuration Register*): bit 0 enabled,
/// 1 periodic, 2 lazy, 3 auto-enable, 11:4 APIC vector, 12 direct mode, 19:16 SINT; the rest is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HvStimerConfig(pub u64);

impl HvStimerConfig {
    /// It runs.
    pub const ENABLED: u64 = 1 << 0;
    /// The count is a period, not a moment.
    pub const PERIODIC: u64 = 1 << 1;
    /// A signal that comes too late may be left out.
    pub const LAZY: u64 = 1 << 2;
    /// Writing a count other than zero enables the timer.
    pub const AUTO_ENABLE: u64 = 1 << 3;
    /// It raises the APIC vector instead of sending a message.
    pub const DIRECT_MODE: u64 = 1 << 12;
    /// Bits that must be zero.
    pub const RESERVED: u64 = !0xF_1FFF;

    /// Off, for messages to source `sint` (four bits are kept). Source 0 is the hypervisor's, and refused.
    pub const fn message(sint: u8) -> Self {
        Self((sint as u64 & 0xF) << 16)
    }

    /// Off, for interrupts with `vector`.
    pub const fn direct(vector: u8) -> Self {
        Self(Self::DIRECT_MODE | (vector as u64) << 4)
    }

    /// The same with more bits.
    pub const fn with(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }

    /// Whether all of `bits` are set.
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// The source that messages go to.
    pub const fn sint(self) -> u8 {
        (self.0 >> 16) as u8 & 0xF
    }

    /// The vector of direct mode.
    pub const fn vector(self) -> u8 {
        (self.0 >> 4) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_tlfs_has_them() {
        let message = HvStimerConfig::message(3).with(HvStimerConfig::ENABLED);
        assert_eq!(message.0, 0x3_0001);
        assert_eq!(message.sint(), 3);
        let direct = HvStimerConfig::direct(0xEE).with(HvStimerConfig::AUTO_ENABLE);
        assert_eq!(direct.0, 0x1EE8);
        assert_eq!(direct.vector(), 0xEE);
        assert!(direct.has(HvStimerConfig::DIRECT_MODE) && !direct.has(HvStimerConfig::ENABLED));
        assert_eq!(message.0 & HvStimerConfig::RESERVED, 0);
        assert_eq!(direct.0 & HvStimerConfig::RESERVED, 0);
    }

    #[test]
    fn registers_come_in_pairs() {
        let numbers: [_; 4] = core::array::from_fn(|n| (stimer_config_msr(n), stimer_count_msr(n)));
        let expected = [
            (0x4000_00B0, 0x4000_00B1),
            (0x4000_00B2, 0x4000_00B3),
            (0x4000_00B4, 0x4000_00B5),
            (0x4000_00B6, 0x4000_00B7),
        ];
        assert_eq!(numbers, expected);
    }
}
