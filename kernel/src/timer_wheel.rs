//! A hierarchical timer wheel of fixed size: starting, cancelling and finding the next timer cost the same however many
//! there are, and nothing is allocated.
//!
//! **Theory.** Time is counted in ticks of 12.8 µs, written as eight digits to the base 64. There is a ring of 64 slots
//! for each digit. A timer lies in the ring of the highest digit in which its tick differs from the wheel's own, in the
//! slot of its digit there. So all timers of a ring come before all timers of the next; and when the wheel
//! reaches a slot of an upper ring, the slot's timers move down to rings of finer digits.
//!
//! **Practice.** The wheel knows no clock: [`TimerWheel::pop`] is given the time. It never gives out a timer early,
//! and at most one tick late. Each timer moves at most once for each digit, and `pop` counts moves against a
//! budget, so that an interrupt handler's work is bounded.

#[cfg(test)]
mod tests;

/// log₂ of a tick in 100 ns.
const TICK_SHIFT: u32 = 7;
/// log₂ of the slots of a ring.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const RINGS: usize = 8;
/// Last tick there is, a century after the clock began. Timers for later fire then.
const LAST_TICK: u64 = (1 << (RINGS as u32 * DIGIT_BITS)) - 1;

/// A timer's place in the wheel and which of its users it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerId {
    index: u16,
    generation: u32,
}

/// The wheel has no room for another timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Entries are numbered from 1; 0 ends a list. So a new wheel is all zeros, and costs an image nothing.
type Link = u16;
const END: Link = 0;

#[derive(Debug, Clone, Copy)]
struct Entry<T> {
    /// What to give out; `None` in a free entry.
    value: Option<T>,
    tick: u64,
    generation: u32,
    /// Next in the slot, or in the list of free entries.
    next: Link,
    /// Previous in the slot.
    previous: Link,
    ring: u8,
    slot: u8,
}

/// Up to `N` timers, each with a value to give out. `N` is at most 65535.
#[derive(Debug)]
pub struct TimerWheel<T, const N: usize> {
    entries: [Entry<T>; N],
    heads: [[Link; SLOTS]; RINGS],
    /// For each ring, which slots have timers.
    occupied: [u64; RINGS],
    /// The wheel's own time. No timer lies before it.
    tick: u64,
    /// Entries that were used and are free again.
    free: Link,
    /// Entries that were ever used.
    used: u16,
}

impl<T: Copy, const N: usize> TimerWheel<T, N> {
    /// A wheel without timers.
    pub const fn new() -> Self {
        const { assert!(N > 0 && N <= u16::MAX as usize) }
        let entry = Entry {
            value: None,
            tick: 0,
            generation: 0,
            next: END,
            previous: END,
            ring: 0,
            slot: 0,
        };
        Self {
            entries: [entry; N],
            heads: [[END; SLOTS]; RINGS],
            occupied: [0; RINGS],
            tick: 0,
            free: END,
            used: 0,
        }
    }

    /// Starts a timer that [`TimerWheel::pop`] gives out from `deadline_100ns` on.
    ///
    /// # Errors
    ///
    /// [`Full`] with `N` timers in the wheel.
    pub fn start(&mut self, deadline_100ns: u64, value: T) -> Result<TimerId, Full> {
        let link = self.take_free().ok_or(Full)?;
        let entry = self.entry(link);
        entry.value = Some(value);
        // Rounded up, so that no timer is early.
        entry.tick = deadline_100ns.div_ceil(1 << TICK_SHIFT).min(LAST_TICK);
        entry.generation = entry.generation.wrapping_add(1);
        let generation = entry.generation;
        self.insert(link);
        Ok(TimerId { index: link, generation })
    }

    /// Takes a timer out before its time; its value, or `None` if it was given out or cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(usize::from(id.index).checked_sub(1)?)?;
        if entry.generation != id.generation || entry.value.is_none() {
            return None;
        }
        self.remove(id.index)
    }

    /// When to call [`TimerWheel::pop`] next, in 100 ns: when the earliest timer is due, or at once if a budget ended in
    /// the middle of a slot.
    pub fn next_100ns(&self) -> Option<u64> {
        if self.half_moved().is_some() {
            return Some(self.tick << TICK_SHIFT);
        }
        let (ring, slot) = self.earliest()?;
        let mut link = self.heads[ring][slot];
        let mut earliest = u64::MAX;
        while link != END {
            let entry = &self.entries[usize::from(link) - 1];
            earliest = earliest.min(entry.tick);
            link = entry.next;
        }
        Some(earliest << TICK_SHIFT)
    }

    /// Gives out one timer that is due at `now_100ns`, an earlier tick's before a later one's.
    ///
    /// `None` if none is due, or if `budget`, which counts timers touched, is used up.
    pub fn pop(&mut self, now_100ns: u64, budget: &mut u32) -> Option<T> {
        let now = (now_100ns >> TICK_SHIFT).min(LAST_TICK);
        loop {
            let Some((ring, slot)) = self.half_moved().or_else(|| self.earliest()) else {
                self.tick = self.tick.max(now);
                return None;
            };
            let reached = self.slot_tick(ring, slot);
            if reached > now.max(self.tick) {
                self.tick = self.tick.max(now);
                return None;
            }
            *budget = budget.checked_sub(1)?;
            self.tick = self.tick.max(reached);
            let link = self.heads[ring][slot];
            if ring == 0 {
                return self.remove(link);
            }
            self.unlink(link);
            self.insert(link);
        }
    }

    /// The slot of an upper ring whose timers are moving down: the one at the wheel's time, where none are put.
    fn half_moved(&self) -> Option<(usize, usize)> {
        let at = |ring: usize| (ring, (self.tick >> (ring as u32 * DIGIT_BITS)) as usize % SLOTS);
        (1..RINGS).map(at).find(|&(ring, slot)| self.occupied[ring] >> slot & 1 != 0)
    }

    /// The slot to be reached first. Its ring is the first that has timers.
    fn earliest(&self) -> Option<(usize, usize)> {
        let ring = self.occupied.iter().position(|&slots| slots != 0)?;
        Some((ring, self.occupied[ring].trailing_zeros() as usize))
    }

    /// The first tick of a slot ahead of the wheel's time, or the slot at it.
    fn slot_tick(&self, ring: usize, slot: usize) -> u64 {
        let below = ring as u32 * DIGIT_BITS;
        let above = self.tick >> (below + DIGIT_BITS) << (below + DIGIT_BITS);
        above | (slot as u64) << below
    }

    fn insert(&mut self, link: Link) {
        let now = self.tick;
        let entry = self.entry(link);
        // A timer of the past is due at once.
        let tick = entry.tick.max(now);
        let highest = (tick ^ now).checked_ilog2().unwrap_or(0);
        let ring = (highest / DIGIT_BITS) as usize;
        let slot = (tick >> (ring as u32 * DIGIT_BITS)) as usize % SLOTS;
        (entry.ring, entry.slot) = (ring as u8, slot as u8);
        let head = core::mem::replace(&mut self.heads[ring][slot], link);
        self.occupied[ring] |= 1 << slot;
        let entry = self.entry(link);
        (entry.next, entry.previous) = (head, END);
        if head != END {
            self.entry(head).previous = link;
        }
    }

    fn unlink(&mut self, link: Link) {
        let Entry { next, previous, ring, slot, .. } = *self.entry(link);
        let (ring, slot) = (usize::from(ring), usize::from(slot));
        if next != END {
            self.entry(next).previous = previous;
        }
        if previous != END {
            self.entry(previous).next = next;
        } else {
            self.heads[ring][slot] = next;
            if next == END {
                self.occupied[ring] &= !(1 << slot);
            }
        }
    }

    fn remove(&mut self, link: Link) -> Option<T> {
        self.unlink(link);
        let free = core::mem::replace(&mut self.free, link);
        let entry = self.entry(link);
        entry.next = free;
        entry.value.take()
    }

    fn take_free(&mut self) -> Option<Link> {
        if self.free != END {
            let next = self.entry(self.free).next;
            return Some(core::mem::replace(&mut self.free, next));
        }
        if usize::from(self.used) == N {
            return None;
        }
        self.used += 1;
        Some(self.used)
    }

    /// The entry of a link that is not [`END`]. Links are this module's own.
    fn entry(&mut self, link: Link) -> &mut Entry<T> {
        &mut self.entries[usize::from(link) - 1]
    }
}

impl<T: Copy, const N: usize> Default for TimerWheel<T, N> {
    fn default() -> Self {
        Self::new()
    }
}
