//! Where guests spin: long spin waits by the instruction that called.

use serde::{Deserialize, Serialize};

/// Most places that one VP's table tells apart.
const MAX_SITES: usize = 64;

/// Long spin waits from one place in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Guest-virtual address after the call of the hypercall page; 0 if it could not be read.
    pub instruction_pointer: u64,
    /// Long spin waits from there.
    pub waits: u64,
    /// The spin counts that came with them, added up.
    pub spins: u64,
}

/// A bounded table of places, and one entry for all that found no room.
#[derive(Debug, Clone, Default)]
pub struct SpinSites {
    sites: Vec<Site>,
    rest_waits: u64,
    rest_spins: u64,
}

impl SpinSites {
    /// Counts a wait.
    pub fn count(&mut self, instruction_pointer: u64, spins: u32) {
        self.add(Site { instruction_pointer, waits: 1, spins: spins.into() });
    }

    /// Adds another table's waits to this one's.
    pub fn merge(&mut self, other: &Self) {
        for site in &other.sites {
            self.add(*site);
        }
        self.rest_waits = self.rest_waits.saturating_add(other.rest_waits);
        self.rest_spins = self.rest_spins.saturating_add(other.rest_spins);
    }

    /// Spin counts of all waits, added up.
    pub fn spins(&self) -> u64 {
        self.sites.iter().fold(self.rest_spins, |sum, site| sum.saturating_add(site.spins))
    }

    /// Waits whose place found no room in the table.
    pub fn rest_waits(&self) -> u64 {
        self.rest_waits
    }

    /// The `count` places with the most spins, the busiest first.
    pub fn top(&self, count: usize) -> Vec<Site> {
        let mut sites = self.sites.clone();
        sites.sort_by_key(|site| (std::cmp::Reverse(site.spins), site.instruction_pointer));
        sites.truncate(count);
        sites
    }

    fn add(&mut self, new: Site) {
        let known =
            self.sites.iter_mut().find(|site| site.instruction_pointer == new.instruction_pointer);
        if let Some(site) = known {
            site.waits = site.waits.saturating_add(new.waits);
            site.spins = site.spins.saturating_add(new.spins);
        } else if self.sites.len() < MAX_SITES {
            self.sites.push(new);
        } else {
            self.rest_waits = self.rest_waits.saturating_add(new.waits);
            self.rest_spins = self.rest_spins.saturating_add(new.spins);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_sorted_by_their_spins() {
        let mut sites = SpinSites::default();
        sites.count(0x10, 5);
        sites.count(0x20, 50);
        sites.count(0x10, 6);
        let top = sites.top(8);
        assert_eq!(top[0], Site { instruction_pointer: 0x20, waits: 1, spins: 50 });
        assert_eq!(top[1], Site { instruction_pointer: 0x10, waits: 2, spins: 11 });
        assert_eq!(sites.top(1).len(), 1);
    }

    #[test]
    fn a_guest_that_spins_everywhere_cannot_grow_the_table() {
        let mut sites = SpinSites::default();
        for address in 0..10_000 {
            sites.count(address, u32::MAX);
        }
        assert_eq!(sites.top(usize::MAX).len(), MAX_SITES);
        assert_eq!(sites.rest_waits(), 10_000 - MAX_SITES as u64);
        assert_eq!(sites.spins(), 10_000 * u64::from(u32::MAX));
    }

    #[test]
    fn merged_tables_keep_every_wait() {
        let (mut left, mut right) = (SpinSites::default(), SpinSites::default());
        for address in 0..100 {
            left.count(address, 1);
            right.count(address + 50, 2);
        }
        left.merge(&right);
        let waits: u64 = left.top(usize::MAX).iter().map(|site| site.waits).sum();
        assert_eq!(waits + left.rest_waits(), 200);
        assert_eq!(left.spins(), 300);
    }
}
