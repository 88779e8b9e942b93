//! Packets that the host has not completed yet.
//!
//! Each has a number that is never used again: the slot it stands in, and how often that was used before. A completion
//! for nothing, or a second one, finds nobody.

use alloc::vec::Vec;

/// A packet's number, as transactions have it. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Ticket(u64);

impl Ticket {
    /// The transaction.
    pub(in super::super) fn transaction_id(self) -> u64 {
        self.0
    }

    fn new(slot: usize, generation: u32) -> Self {
        // Slots are few (`limit`); the sum is their number with the generation above it.
        Self(u64::from(generation) << 32 | (slot as u64 + 1))
    }

    fn index(self) -> Option<usize> {
        usize::try_from((self.0 & 0xFFFF_FFFF).checked_sub(1)?).ok()
    }
}

/// What is under way, by ticket.
#[derive(Debug)]
pub(in super::super) struct Outstanding<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    limit: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Outstanding<T> {
    /// At most `limit` at the same time.
    pub(in super::super) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), limit }
    }

    /// How many there are.
    pub(in super::super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A number for a packet that is about to be given to the host; `None` at the limit.
    pub(in super::super) fn reserve(&mut self) -> Option<Ticket> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.limit => {
                self.slots.push(Slot { generation: 0, entry: None });
                self.slots.len() - 1
            }
            None => return None,
        };
        self.slots.get(index).map(|slot| Ticket::new(index, slot.generation))
    }

    /// The packet was given to the host.
    pub(in super::super) fn fill(&mut self, ticket: Ticket, entry: T) {
        if let Some(slot) = ticket.index().and_then(|index| self.slots.get_mut(index)) {
            slot.entry = Some(entry);
        }
    }

    /// It was not.
    pub(in super::super) fn cancel(&mut self, ticket: Ticket) {
        self.free.extend(ticket.index());
    }

    /// Takes out the entry with that transaction; `None` if there is none, or no longer.
    pub(in super::super) fn remove(&mut self, transaction_id: u64) -> Option<T> {
        let index = Ticket(transaction_id).index()?;
        let slot = self.slots.get_mut(index)?;
        if u64::from(slot.generation) != transaction_id >> 32 {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(packets: &mut Outstanding<char>, entry: char) -> Ticket {
        let ticket = packets.reserve().unwrap();
        packets.fill(ticket, entry);
        ticket
    }

    #[test]
    fn each_completion_finds_its_packet_once() {
        let mut packets = Outstanding::new(4);
        let first = insert(&mut packets, 'a');
        let second = insert(&mut packets, 'b');
        assert_ne!(first.transaction_id(), 0);
        assert_eq!(packets.remove(second.transaction_id()), Some('b'));
        assert_eq!(packets.remove(second.transaction_id()), None, "twice");
        assert_eq!(packets.remove(first.transaction_id()), Some('a'));
        assert_eq!(packets.len(), 0);
    }

    #[test]
    fn an_old_number_does_not_find_a_new_packet() {
        let mut packets = Outstanding::new(1);
        let old = insert(&mut packets, 'a');
        assert_eq!(packets.remove(old.transaction_id()), Some('a'));
        let new = insert(&mut packets, 'b');
        assert_eq!(packets.remove(old.transaction_id()), None);
        assert_eq!(packets.remove(new.transaction_id()), Some('b'));
    }

    #[test]
    fn numbers_that_were_never_given_find_nothing() {
        let mut packets = Outstanding::new(4);
        let ticket = insert(&mut packets, 'a');
        for transaction_id in [0, 2, u64::MAX, 1 << 63, 1 << 32 | 1, u32::MAX.into()] {
            assert_eq!(packets.remove(transaction_id), None, "{transaction_id:#x}");
        }
        assert_eq!(packets.remove(ticket.transaction_id()), Some('a'));
    }

    #[test]
    fn a_packet_that_the_host_does_not_have_yet_cannot_be_completed() {
        let mut packets = Outstanding::<char>::new(4);
        let ticket = packets.reserve().unwrap();
        assert_eq!(packets.remove(ticket.transaction_id()), None);
        packets.fill(ticket, 'a');
        assert_eq!(packets.remove(ticket.transaction_id()), Some('a'));
    }

    #[test]
    fn there_is_a_limit() {
        let mut packets = Outstanding::new(2);
        insert(&mut packets, 'a');
        let second = packets.reserve().unwrap();
        assert_eq!(packets.len(), 2);
        assert!(packets.reserve().is_none());
        packets.cancel(second);
        assert_eq!(packets.len(), 1);
        assert!(packets.reserve().is_some());
    }
}
