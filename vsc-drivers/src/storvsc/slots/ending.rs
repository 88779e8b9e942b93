//! Requests that end without an answer: too late, or with their channel.

use alloc::vec::Vec;
use core::mem;
use core::task::Waker;

use super::{Address, DiskErrorKind, Fallout, Lent, Slot, Slots, State};

impl Slots {
    /// The first address with a request that the host has for too long; `None` if there is none.
    pub(in crate::storvsc) fn overdue(&self, now_100ns: u64) -> Option<Address> {
        self.slots
            .iter()
            .filter(|slot| matches!(slot.state, State::Sent))
            .filter_map(|slot| slot.request.as_ref())
            .find(|request| request.deadline_100ns <= now_100ns)
            .map(|request| request.address)
    }

    /// Gives up what is late and was not sent yet; the host knows nothing of it.
    pub(in crate::storvsc) fn expire_queued(&mut self, now_100ns: u64) -> Vec<Fallout> {
        let late = |slot: &Slot| {
            slot.request.as_ref().is_some_and(|request| request.deadline_100ns <= now_100ns)
        };
        let is_late = |index: &u16| self.slots.get(usize::from(*index)).is_some_and(late);
        let indices: Vec<u16> = self.queued.iter().copied().filter(is_late).collect();
        self.queued.retain(|index| !indices.contains(index));
        indices.into_iter().map(|i| self.over(i, Err(DiskErrorKind::TimedOut))).collect()
    }

    /// Gives up late requests that the host has, to the addresses that `of` names.
    pub(in crate::storvsc) fn lose(
        &mut self,
        now_100ns: u64,
        of: impl Fn(Address) -> bool,
    ) -> Vec<Fallout> {
        let is_theirs = |slot: &Slot| {
            matches!(slot.state, State::Sent)
                && slot.request.as_ref().is_some_and(|request| {
                    request.deadline_100ns <= now_100ns && of(request.address)
                })
        };
        self.indices(is_theirs)
            .into_iter()
            .map(|index| self.lose_one(index, DiskErrorKind::TimedOut))
            .collect()
    }

    fn indices(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<u16> {
        (0u16..).zip(&self.slots).filter(|(_, slot)| wanted(slot)).map(|(index, _)| index).collect()
    }

    /// The host will not answer, but may still use what it was lent.
    fn lose_one(&mut self, index: u16, error: DiskErrorKind) -> Fallout {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return Fallout::default() };
        if !slot.lends() {
            // Nothing is at stake: others may have the slot, and a late answer is a stray.
            self.in_flight -= 1;
            return self.over(index, Err(error));
        }
        slot.state = State::Lost { fetched: slot.abandoned, error };
        Fallout { waker: slot.waker.take(), ..Fallout::default() }
    }

    /// Takes nothing more: what was not sent yet, or has no slot, ends.
    pub(in crate::storvsc) fn refuse(&mut self, error: DiskErrorKind) -> Vec<Fallout> {
        self.ended.get_or_insert(error);
        let queued = mem::take(&mut self.queued);
        let mut fallout: Vec<_> =
            queued.into_iter().map(|index| self.over(index, Err(error))).collect();
        let next = |waker| Fallout { next: Some(waker), ..Fallout::default() };
        fallout.extend(self.waiting.all().map(next));
        fallout
    }

    /// The channel has ended: nothing more is taken, sent or answered.
    ///
    /// With `host_is_done`, the memory of requests in flight comes back, since the host has closed the channel, too.
    /// Otherwise it stays in the table.
    pub(in crate::storvsc) fn end(
        &mut self,
        error: DiskErrorKind,
        host_is_done: bool,
    ) -> Vec<Fallout> {
        let mut fallout = self.refuse(error);
        for index in self.indices(|slot| matches!(slot.state, State::Sent | State::Lost { .. })) {
            fallout.push(self.end_one(index, error, host_is_done));
        }
        fallout
    }

    fn end_one(&mut self, index: u16, error: DiskErrorKind, host_is_done: bool) -> Fallout {
        let state = self.slots.get(usize::from(index)).map(|slot| slot.state);
        match state {
            Some(State::Sent) if !host_is_done => return self.lose_one(index, error),
            _ if !host_is_done => return Fallout::default(),
            _ => self.in_flight -= 1,
        }
        match state {
            Some(State::Lost { fetched: true, .. }) => self.free(index),
            _ => self.over(index, Err(error)),
        }
    }

    /// All memory that the host may still use, so that it can be leaked.
    pub(in crate::storvsc) fn take_lent(&mut self) -> Vec<Lent> {
        self.slots
            .iter_mut()
            .filter(|slot| matches!(slot.state, State::Sent | State::Lost { .. }))
            .map(|slot| mem::take(&mut slot.lent))
            .collect()
    }

    /// The wakers of those who wait for a slot, so that they look at the clock.
    pub(in crate::storvsc) fn waiting(&self) -> Vec<Waker> {
        self.waiting.all().collect()
    }
}
