//! What a host tells each guest of itself, in the table `auto-external`.
//!
//! Windows guests show it as *Guest\Parameters* in their registry, Linux keeps it in `.kvp_pool_3`; names are those that
//! Microsoft's *Data Exchange* page has.

use std::fs;

/// Keys and values for the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostItems(Vec<(&'static str, String)>);

impl HostItems {
    /// The items of the host `host` for the machine `machine` with the GUID `id`.
    pub fn new(host: &str, machine: &str, id: &str) -> Self {
        Self(vec![
            ("HostName", host.into()),
            ("PhysicalHostName", host.into()),
            ("PhysicalHostNameFullyQualified", host.into()),
            ("VirtualMachineName", machine.into()),
            ("VirtualMachineId", id.to_uppercase()),
        ])
    }

    /// The items of this computer for a machine that has a number of its own.
    pub fn of_this_computer(machine: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let host = read("/proc/sys/kernel/hostname");
        let id = read("/proc/sys/kernel/random/uuid");
        Self::new(host.trim(), machine, id.trim())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_has_a_number_of_its_own() {
        let items = [HostItems::of_this_computer("a"), HostItems::of_this_computer("a")];
        assert_ne!(items[0], items[1]);
        assert!(items[0].iter().all(|(_, value)| !value.is_empty()));
    }

    #[test]
    fn the_guest_is_told_where_it_runs() {
        let items = HostItems::new("big-iron", "web", "0a-b");
        let items: Vec<_> = items.iter().collect();
        assert!(items.contains(&("HostName", "big-iron")));
        assert!(items.contains(&("VirtualMachineName", "web")));
        assert!(items.contains(&("VirtualMachineId", "0A-B")));
    }
}
