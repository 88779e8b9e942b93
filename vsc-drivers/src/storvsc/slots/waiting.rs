//! The line of those who wait for a free slot, in the order in which they came.

use alloc::collections::VecDeque;
use core::mem;
use core::task::Waker;

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storvsc) struct Ticket(u64);

/// The line. As many at its head as there are free slots may enter; each is woken when its turn comes.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    line: VecDeque<(Ticket, Waker)>,
    next: u64,
}

impl Waiting {
    /// Joins the line, or stays in it with another waker; the one before is for the caller to drop.
    pub(super) fn wait(
        &mut self,
        ticket: Option<Ticket>,
        waker: &Waker,
    ) -> (Ticket, Option<Waker>) {
        if let Some((ticket, known)) = self.line.iter_mut().find(|(t, _)| Some(*t) == ticket) {
            return (*ticket, Some(mem::replace(known, waker.clone())));
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.line.push_back((ticket, waker.clone()));
        (ticket, None)
    }

    /// Leaves the line. The waker is for the caller to drop.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let place = self.line.iter().position(|(known, _)| *known == ticket)?;
        self.line.remove(place).map(|(_, waker)| waker)
    }

    /// Whether it is the turn of `ticket`, or of somebody without one, when `free` slots are free.
    pub(super) fn may_enter(&self, ticket: Option<Ticket>, free: usize) -> bool {
        match ticket {
            Some(ticket) => self.line.iter().take(free).any(|(known, _)| *known == ticket),
            None => self.line.len() < free,
        }
    }

    /// Who has a turn now, but had none with one free slot fewer.
    pub(super) fn eligible(&self, free: usize) -> Option<Waker> {
        self.line.get(free.checked_sub(1)?).map(|(_, waker)| waker.clone())
    }

    /// All of them, to be woken; the line stays.
    pub(super) fn all(&self) -> impl Iterator<Item = Waker> {
        self.line.iter().map(|(_, waker)| waker.clone())
    }
}
