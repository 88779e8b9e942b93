//! What a host tells each guest of itself, in the table `auto-external`.
//!
//! Windows guests show it as *Guest\Parameters* in their registry, Linux keeps it in `.kvp_pool_3`; names are those that
//! Microsoft's *Data Exchange* page has.

use hv_abi::guid::Guid;

/// Keys and values for the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostItems(Vec<(&'static str, String)>);

impl HostItems {
    /// The items of the host `host` for the machine `machine`.
    pub fn new(host: &str, machine: &str, id: Guid) -> Self {
        Self(vec![
            ("HostName", host.into()),
            ("PhysicalHostName", host.into()),
            ("PhysicalHostNameFullyQualified", host.into()),
            ("VirtualMachineName", machine.into()),
            ("VirtualMachineId", id.to_string().to_uppercase()),
        ])
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
    fn the_guest_is_told_where_it_runs() {
        let items = HostItems::new("big-iron", "web", Guid::new(1, 2, 3, 4));
        let items: Vec<_> = items.iter().collect();
        assert!(items.contains(&("HostName", "big-iron")));
        assert!(items.contains(&("VirtualMachineName", "web")));
        assert!(items.contains(&("VirtualMachineId", "00000001-0002-0003-0000-000000000004")));
    }
}
