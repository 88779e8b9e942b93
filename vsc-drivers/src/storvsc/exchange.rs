//! The future of one request: waits for a slot, puts the request there, and waits for its end.
//!
//! It holds the lent memory only until the request has its slot. Dropped later, it leaves the memory in the slot.

use core::mem;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::buffer::Lent;
use super::error::DiskErrorKind;
use super::queue::Queue;
use super::slots::{Fallout, Outcome, Request, Slots, Ticket, Token};
use crate::hal::Hal;

/// The future of one request.
pub(super) struct Exchange<'q, H: Hal> {
    queue: &'q Queue<H>,
    request: Request,
    lent: Lent,
    stage: Stage,
    /// Takes the slot that is kept for emergencies.
    is_reserved: bool,
}

#[derive(Clone, Copy)]
enum Stage {
    New,
    Waiting(Ticket),
    Entered(Token),
    Finished,
}

/// What a poll has found.
enum Step {
    Pending,
    /// Something is to be sent; whether nothing was before.
    Entered {
        was_idle: bool,
    },
    Finished(Outcome),
}

impl<H: Hal> Queue<H> {
    /// Sends `request` with the memory that it lends, and waits for the answer.
    pub(super) fn exchange(&self, request: Request, lent: Lent) -> Exchange<'_, H> {
        Exchange { queue: self, request, lent, stage: Stage::New, is_reserved: false }
    }

    /// The same for an emergency, without memory: there is always a slot, for one at a time.
    pub(super) fn emergency(&self, request: Request) -> Exchange<'_, H> {
        let lent = Lent::Nothing;
        Exchange { queue: self, request, lent, stage: Stage::New, is_reserved: true }
    }
}

impl<H: Hal> Exchange<'_, H> {
    fn step(
        &mut self,
        slots: &mut Slots,
        now_100ns: u64,
        context: &Context<'_>,
    ) -> (Step, Fallout) {
        let waker = context.waker();
        let ticket = match self.stage {
            Stage::New => None,
            Stage::Waiting(ticket) => Some(ticket),
            Stage::Entered(token) => {
                let (outcome, fallout) = slots.fetch(token, waker);
                return (outcome.map_or(Step::Pending, Step::Finished), fallout);
            }
            Stage::Finished => {
                let gone = Outcome::failed(DiskErrorKind::Gone, Lent::Nothing);
                return (Step::Finished(gone), Fallout::default());
            }
        };
        let is_late = self.request.deadline_100ns <= now_100ns;
        let late = is_late.then_some(DiskErrorKind::TimedOut);
        if let Some(error) = slots.ended().or(late) {
            let fallout = ticket.map(|ticket| slots.leave(ticket)).unwrap_or_default();
            return (Step::Finished(Outcome::failed(error, mem::take(&mut self.lent))), fallout);
        }
        self.enter(slots, ticket, context)
    }

    fn enter(
        &mut self,
        slots: &mut Slots,
        ticket: Option<Ticket>,
        context: &Context<'_>,
    ) -> (Step, Fallout) {
        let waker = context.waker();
        let was_idle = !slots.is_busy();
        let entered = if self.is_reserved {
            slots.enter_reserved(&self.request, waker).map(|token| (token, Fallout::default()))
        } else {
            slots.enter(ticket, &self.request, &mut self.lent, waker)
        };
        match entered {
            Some((token, fallout)) => {
                self.stage = Stage::Entered(token);
                (Step::Entered { was_idle }, fallout)
            }
            None if self.is_reserved => {
                let busy = Outcome::failed(DiskErrorKind::Busy, Lent::Nothing);
                (Step::Finished(busy), Fallout::default())
            }
            None => {
                let (ticket, fallout) = slots.wait(ticket, waker);
                self.stage = Stage::Waiting(ticket);
                (Step::Pending, fallout)
            }
        }
    }
}

impl<H: Hal> Future for Exchange<'_, H> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        // Only who has no slot yet looks at the clock.
        let now = match this.stage {
            Stage::Entered(_) => 0,
            _ => this.queue.hal().now_100ns(),
        };
        let queue = this.queue;
        let (step, fallout) = queue.with(|slots| this.step(slots, now, context));
        fallout.settle();
        match step {
            Step::Pending => Poll::Pending,
            Step::Entered { was_idle } => {
                queue.ring(was_idle, now);
                Poll::Pending
            }
            Step::Finished(outcome) => {
                this.stage = Stage::Finished;
                Poll::Ready(outcome)
            }
        }
    }
}

impl<H: Hal> Drop for Exchange<'_, H> {
    fn drop(&mut self) {
        let fallout = match self.stage {
            Stage::New | Stage::Finished => return,
            Stage::Waiting(ticket) => self.queue.with(|slots| slots.leave(ticket)),
            Stage::Entered(token) => self.queue.with(|slots| slots.abandon(token)),
        };
        fallout.settle();
    }
}
