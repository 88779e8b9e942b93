//! Packets to the guest that it has yet to complete, and the parts of the receive buffer that each holds.

/// What waits for completion on one channel.
#[derive(Default)]
pub(super) struct Transactions {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    /// Changes with each use: a completion that comes twice finds another.
    generation: u32,
    in_use: bool,
    parts: Vec<u32>,
}

impl Transactions {
    /// A new one for these parts; its number.
    pub(super) fn begin(&mut self, parts: impl Iterator<Item = u32>) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let Some(slot) = self.slots.get_mut(index as usize) else { return u64::MAX };
        slot.generation = slot.generation.wrapping_add(1);
        slot.in_use = true;
        slot.parts.clear();
        slot.parts.extend(parts);
        u64::from(slot.generation) << 32 | u64::from(index)
    }

    /// The parts of one, which is over. `None`: there is no such transaction.
    pub(super) fn end(&mut self, number: u64) -> Option<&[u32]> {
        let index = number as u32;
        let slot = self.slots.get_mut(index as usize)?;
        if !slot.in_use || u64::from(slot.generation) != number >> 32 {
            return None;
        }
        slot.in_use = false;
        self.free.push(index);
        Some(&slot.parts)
    }

    /// Ends all, and gives their parts.
    pub(super) fn end_all(&mut self) -> impl Iterator<Item = u32> {
        self.free.clear();
        let slots = std::mem::take(&mut self.slots).into_iter();
        slots.filter(|slot| slot.in_use).flat_map(|slot| slot.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ends_once() {
        let mut transactions = Transactions::default();
        let first = transactions.begin([1, 2].into_iter());
        let second = transactions.begin([3].into_iter());
        assert_eq!(transactions.end(first), Some(&[1, 2][..]));
        assert_eq!(transactions.end(first), None);
        let third = transactions.begin([4].into_iter());
        // The same slot, another number.
        assert_eq!(third as u32, first as u32);
        assert_eq!(transactions.end(first), None);
        for number in [0, 7, u64::MAX, third ^ 1 << 40] {
            assert_eq!(transactions.end(number), None);
        }
        assert_eq!(transactions.end(second), Some(&[3][..]));
        let _ = transactions.begin([5, 6].into_iter());
        let mut rest: Vec<_> = transactions.end_all().collect();
        rest.sort_unstable();
        assert_eq!(rest, [4, 5, 6]);
        assert_eq!(transactions.end(third), None);
    }
}
