//! A channel's table of requests: what waits to be sent, what the host has, what was answered.
//!
//! **Theory.** A request's transaction names its slot and how often the slot was used, so a second answer, or one to nothing, fits none.
//! A slot whose future is gone (*abandoned*), or was told that no answer came (*lost*), keeps the memory that the host
//! may still use: it is free again only when the host answers.
//!
//! **Practice.** Nothing in here waits, locks or sends; [`Queue`](super::queue::Queue) does. Wakers and memory that fall out are for the caller
//! to wake and drop, without the lock.

mod waiting;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::task::Waker;

use hv_abi::storvsp::{Operation, SRB_BYTES, VstorHeader};

use super::buffer::Lent;
use super::error::DiskErrorKind;
use super::pieces::Piece;
pub(super) use waiting::Ticket;
use waiting::Waiting;

/// Where a logical unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    /// Bus.
    pub path: u8,
    /// Target on it.
    pub target: u8,
    /// Logical unit of it.
    pub lun: u8,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// The operation.
    pub(super) operation: Operation,
    /// What follows the header, as far as the version has it.
    pub(super) payload: [u8; SRB_BYTES],
    /// Whose the request is; operations of the whole controller have any.
    pub(super) address: Address,
    /// Data in the lent memory.
    pub(super) piece: Option<Piece>,
    /// When to give up, by the [`Hal`](crate::hal::Hal)'s clock.
    pub(super) deadline_100ns: u64,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) header: VstorHeader,
    /// What followed the header, then zeros.
    pub(super) payload: [u8; SRB_BYTES],
    /// Bytes that followed the header.
    pub(super) len: usize,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: Result<Answer, DiskErrorKind>,
    /// The memory; `None` if the host may still use it.
    pub(super) lent: Option<Lent>,
}

impl Outcome {
    pub(super) fn failed(error: DiskErrorKind, lent: Lent) -> Self {
        Self { result: Err(error), lent: Some(lent) }
    }
}

/// A request in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    index: u16,
    generation: u32,
}

impl Token {
    /// The number that the host gives back. Never 0, which is that of the host's own packets.
    pub(super) fn transaction(self) -> u64 {
        (u64::from(self.generation) << 16) | u64::from(self.index)
    }

    fn from_transaction(transaction: u64) -> Option<Self> {
        let generation = u32::try_from(transaction >> 16).ok()?;
        Some(Self { index: transaction as u16, generation })
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Free,
    /// To be sent.
    Queued,
    /// The host has it.
    Sent,
    /// Over: the future has only to fetch it.
    Over(Result<Answer, DiskErrorKind>),
    /// Over for its future, but the host may still use its memory.
    Lost {
        fetched: bool,
        error: DiskErrorKind,
    },
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: State,
    /// Its future is gone.
    abandoned: bool,
    waker: Option<Waker>,
    request: Option<Request>,
    lent: Lent,
}

impl Slot {
    /// Whether the host may read or write memory that somebody will want back.
    fn lends(&self) -> bool {
        !matches!(self.lent, Lent::Nothing | Lent::Zeros)
    }

    fn new() -> Self {
        Self {
            generation: 1,
            state: State::Free,
            abandoned: false,
            waker: None,
            request: None,
            lent: Lent::Nothing,
        }
    }
}

/// What falls out of the table: to be woken and dropped without the lock.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Fallout {
    pub(super) waker: Option<Waker>,
    /// Who waited for a free slot.
    pub(super) next: Option<Waker>,
    /// Not to be woken. Dropping it may drop a task, and with it other requests.
    pub(super) spent: Option<Waker>,
    pub(super) lent: Lent,
}

impl Fallout {
    /// Wakes and drops.
    pub(super) fn settle(self) {
        drop((self.lent, self.spent));
        self.waker.into_iter().chain(self.next).for_each(Waker::wake);
    }
}

/// An answer to nothing: no such request is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stray;

/// The table.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    free: Vec<u16>,
    queued: VecDeque<u16>,
    waiting: Waiting,
    in_flight: usize,
    ended: Option<DiskErrorKind>,
    /// Kept for [`Slots::enter_reserved`].
    reserved: u16,
}

impl Slots {
    /// A table for `depth` requests and one more for emergencies; `depth` is at most 65,534.
    pub(super) fn new(depth: u16) -> Self {
        let depth = depth.clamp(1, u16::MAX - 1);
        Self {
            slots: (0..=depth).map(|_| Slot::new()).collect(),
            free: (0..depth).rev().collect(),
            queued: VecDeque::with_capacity(usize::from(depth) + 1),
            waiting: Waiting::default(),
            in_flight: 0,
            ended: None,
            reserved: depth,
        }
    }

    /// Requests that the host has, the abandoned and the lost included.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Why the table takes no requests any more.
    pub(super) fn ended(&self) -> Option<DiskErrorKind> {
        self.ended
    }

    /// A place in the line of those who wait for a slot.
    pub(super) fn wait(&mut self, ticket: Option<Ticket>, waker: &Waker) -> (Ticket, Fallout) {
        let (ticket, spent) = self.waiting.wait(ticket, waker);
        (ticket, Fallout { spent, ..Fallout::default() })
    }

    /// Leaves the line; somebody else may have a turn.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Fallout {
        let spent = self.waiting.leave(ticket);
        Fallout { next: self.waiting.eligible(self.free.len()), spent, ..Fallout::default() }
    }

    /// Takes a slot for `request` if one is free and nobody who waits has an older claim.
    pub(super) fn enter(
        &mut self,
        ticket: Option<Ticket>,
        request: &Request,
        lent: &mut Lent,
        waker: &Waker,
    ) -> Option<(Token, Fallout)> {
        if !self.waiting.may_enter(ticket, self.free.len()) {
            return None;
        }
        let index = self.free.pop()?;
        let spent = ticket.and_then(|ticket| self.waiting.leave(ticket));
        let token = self.fill(index, request, lent, waker)?;
        Some((token, Fallout { spent, ..Fallout::default() }))
    }

    /// Takes the slot for emergencies. Its request lends nothing.
    pub(super) fn enter_reserved(&mut self, request: &Request, waker: &Waker) -> Option<Token> {
        let free = matches!(self.slots.get(usize::from(self.reserved))?.state, State::Free);
        free.then(|| self.fill(self.reserved, request, &mut Lent::Nothing, waker))?
    }

    fn fill(
        &mut self,
        index: u16,
        request: &Request,
        lent: &mut Lent,
        waker: &Waker,
    ) -> Option<Token> {
        let slot = self.slots.get_mut(usize::from(index))?;
        slot.state = State::Queued;
        slot.abandoned = false;
        slot.waker = Some(waker.clone());
        slot.request = Some(*request);
        slot.lent = mem::take(lent);
        let generation = slot.generation;
        self.queued.push_back(index);
        Some(Token { index, generation })
    }

    /// The requests to send, in order.
    pub(super) fn to_send(&self) -> impl Iterator<Item = (Token, &Request, &Lent)> {
        self.queued.iter().filter_map(|index| {
            let slot = self.slots.get(usize::from(*index))?;
            let token = Token { index: *index, generation: slot.generation };
            Some((token, slot.request.as_ref()?, &slot.lent))
        })
    }

    /// The first request of [`Slots::to_send`] is the host's now.
    pub(super) fn sent(&mut self) {
        let index = self.queued.pop_front();
        if let Some(slot) = index.and_then(|index| self.slots.get_mut(usize::from(index))) {
            slot.state = State::Sent;
            self.in_flight += 1;
        }
    }

    /// The first request of [`Slots::to_send`] can't be sent.
    pub(super) fn refused(&mut self, error: DiskErrorKind) -> Fallout {
        match self.queued.pop_front() {
            Some(index) => self.over(index, Err(error)),
            None => Fallout::default(),
        }
    }

    /// Whether anything waits to be sent or answered.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0 || !self.queued.is_empty()
    }

    /// Requests that wait to be sent.
    pub(super) fn queued(&self) -> usize {
        self.queued.len()
    }

    /// The request's end, if it has come; else has `waker` woken when it does.
    pub(super) fn fetch(&mut self, token: Token, waker: &Waker) -> (Option<Outcome>, Fallout) {
        let Some(slot) = self.slot(token) else {
            let gone = Outcome { result: Err(DiskErrorKind::Gone), lent: None };
            return (Some(gone), Fallout::default());
        };
        match slot.state {
            State::Over(result) => {
                let lent = mem::take(&mut slot.lent);
                (Some(Outcome { result, lent: Some(lent) }), self.free(token.index))
            }
            State::Lost { ref mut fetched, error } => {
                *fetched = true;
                (Some(Outcome { result: Err(error), lent: None }), Fallout::default())
            }
            _ if slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) => {
                (None, Fallout::default())
            }
            _ => {
                let spent = slot.waker.replace(waker.clone());
                (None, Fallout { spent, ..Fallout::default() })
            }
        }
    }

    /// The request's future is gone.
    pub(super) fn abandon(&mut self, token: Token) -> Fallout {
        let Some(slot) = self.slot(token) else { return Fallout::default() };
        slot.abandoned = true;
        match slot.state {
            // Nothing is at stake: others may have the slot, and the answer is a stray.
            State::Sent if !slot.lends() => {
                self.in_flight -= 1;
                return self.free(token.index);
            }
            State::Sent => {}
            State::Lost { ref mut fetched, .. } => *fetched = true,
            State::Queued => {
                self.queued.retain(|index| *index != token.index);
                return self.free(token.index);
            }
            State::Over(_) | State::Free => return self.free(token.index),
        }
        Fallout { spent: slot.waker.take(), ..Fallout::default() }
    }

    /// The host has answered.
    ///
    /// # Errors
    ///
    /// [`Stray`] if it was not asked.
    pub(super) fn complete(&mut self, transaction: u64, answer: Answer) -> Result<Fallout, Stray> {
        let token = Token::from_transaction(transaction).ok_or(Stray)?;
        let slot = self.slot(token).ok_or(Stray)?;
        match slot.state {
            State::Sent => {
                self.in_flight -= 1;
                Ok(self.over(token.index, Ok(answer)))
            }
            State::Lost { fetched: true, .. } => {
                self.in_flight -= 1;
                Ok(self.free(token.index))
            }
            State::Lost { fetched: false, error } => {
                self.in_flight -= 1;
                Ok(self.over(token.index, Err(error)))
            }
            _ => Err(Stray),
        }
    }

    fn over(&mut self, index: u16, result: Result<Answer, DiskErrorKind>) -> Fallout {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return Fallout::default() };
        if slot.abandoned {
            return self.free(index);
        }
        slot.state = State::Over(result);
        Fallout { waker: slot.waker.take(), ..Fallout::default() }
    }

    fn free(&mut self, index: u16) -> Fallout {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return Fallout::default() };
        slot.state = State::Free;
        slot.request = None;
        // Never 0: transactions aren't.
        slot.generation = slot.generation.wrapping_add(1).max(1);
        let (lent, spent) = (mem::take(&mut slot.lent), slot.waker.take());
        if index != self.reserved {
            self.free.push(index);
        }
        Fallout { waker: None, next: self.waiting.eligible(self.free.len()), spent, lent }
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::from(token.index))?;
        (slot.generation == token.generation).then_some(slot)
    }
}

mod ending;

#[cfg(test)]
#[path = "slots/tests.rs"]
mod tests;
