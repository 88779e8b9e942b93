//! Monitor pages: signals by a bit in memory that somebody looks at from time to time.
//!
//! A connection may have two, one for each direction; a channel whose offer says so has a bit in each, by its monitor id. Source:
//! Linux 6.1, `drivers/hv/hyperv_vmbus.h`, `struct hv_monitor_page`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Groups of triggers in a page.
pub const MONITOR_GROUPS: usize = 4;
/// Triggers of a group.
pub const MONITOR_GROUP_TRIGGERS: usize = 32;
/// Monitor ids: group times 32, and bit.
pub const MONITOR_IDS: usize = MONITOR_GROUPS * MONITOR_GROUP_TRIGGERS;

/// `union hv_monitor_trigger_group`: pending bits are the sender's to set and the receiver's to clear.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MonitorTriggerGroup {
    /// A bit for each signal.
    pub pending: u32,
    /// Not used.
    pub armed: u32,
}

/// `struct hv_monitor_parameter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MonitorParameter {
    /// Connection that the trigger stands for.
    pub connection_id: u32,
    /// Flag of the signal.
    pub flag_number: u16,
    /// Zero.
    pub _reserved: u16,
}

/// `struct hv_monitor_page`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MonitorPage {
    /// Bits 3:0: the groups that are in use.
    pub trigger_state: u32,
    /// Zero.
    pub _reserved1: u32,
    /// Triggers.
    pub trigger_group: [MonitorTriggerGroup; MONITOR_GROUPS],
    /// Zero.
    pub _reserved2: [u64; 3],
    /// When a trigger is looked at next.
    pub next_checktime: [[i32; MONITOR_GROUP_TRIGGERS]; MONITOR_GROUPS],
    /// How long a signal may take, in 100 ns.
    pub latency: [[u16; MONITOR_GROUP_TRIGGERS]; MONITOR_GROUPS],
    /// Zero.
    pub _reserved3: [u64; 32],
    /// What each trigger stands for.
    pub parameter: [[MonitorParameter; MONITOR_GROUP_TRIGGERS]; MONITOR_GROUPS],
    /// Zero.
    pub _reserved4: [u8; 1984],
}

const _: () = assert!(size_of::<MonitorPage>() == crate::HV_PAGE_SIZE);

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn fields_lie_where_linux_has_them() {
        assert_eq!(offset_of!(MonitorPage, trigger_group), 0x8);
        assert_eq!(offset_of!(MonitorPage, next_checktime), 0x40);
        assert_eq!(offset_of!(MonitorPage, latency), 0x240);
        assert_eq!(offset_of!(MonitorPage, parameter), 0x440);
        assert_eq!(offset_of!(MonitorPage, _reserved4), 0x840);
    }
}
