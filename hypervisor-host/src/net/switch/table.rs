//! Behind which port an address was last seen.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::super::mac::MacAddress;
use super::PortId;

/// Addresses that are remembered at most: a guest may send from as many as it likes.
const MOST: usize = 4096;

#[derive(Default)]
pub(super) struct Table(RwLock<HashMap<MacAddress, PortId>>);

impl Table {
    /// An address was seen behind a port.
    pub(super) fn learn(&self, address: MacAddress, port: PortId) {
        if self.find(address) == Some(port) {
            return;
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST && !table.contains_key(&address) {
            // Frames go to all until addresses are learned anew.
            table.clear();
        }
        table.insert(address, port);
    }

    pub(super) fn find(&self, address: MacAddress) -> Option<PortId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&address).copied()
    }

    /// A port is gone.
    pub(super) fn forget(&self, port: PortId) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, behind| *behind != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_move_and_are_forgotten_with_their_port() {
        let table = Table::default();
        let address = MacAddress::of_card(1);
        assert_eq!(table.find(address), None);
        table.learn(address, PortId(1));
        table.learn(address, PortId(2));
        assert_eq!(table.find(address), Some(PortId(2)));
        table.forget(PortId(1));
        assert_eq!(table.find(address), Some(PortId(2)));
        table.forget(PortId(2));
        assert_eq!(table.find(address), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory() {
        let table = Table::default();
        for index in 0..=u16::MAX {
            table.learn(MacAddress::of_card(index), PortId(1));
            assert!(table.0.read().unwrap().len() <= MOST);
        }
        assert_eq!(table.find(MacAddress::of_card(u16::MAX)), Some(PortId(1)));
    }
}
