//! A controller: its channels, its disks, and how a SCSI command gets through.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_abi::storvsp::{DataDirection, Operation, StorvspVersion};

use super::buffer::{IoBuffer, Lent};
use super::command::Command;
use super::error::{DiskError, DiskErrorKind};
use super::inventory::Inventory;
use super::notices::Notices;
use super::options::StorOptions;
use super::packet;
use super::pieces::Piece;
use super::queue::Queue;
use super::sense::{Notice, Retry, Verdict, judge};
use super::slots::{Address, Outcome, Request};
use crate::SECOND_100NS;
use crate::hal::Hal;
use crate::task::sleep_until;

/// Repetitions because something changed. Several changes may be told one after the other.
const MAX_ATTENTIONS: u32 = 8;
/// Repetitions because a reset, or the like, ended a request.
const MAX_ABORTS: u32 = 5;
/// Repetitions because there was too much to do, after 1, 2, 4 … 512 ms: a second in all.
const MAX_BUSY: u32 = 10;

/// What all handles of a controller share.
pub(super) struct Controller<H: Hal> {
    /// The primary channel, then the sub-channels. Never empty.
    pub(super) queues: Vec<Queue<H>>,
    pub(super) hal: H,
    pub(super) notices: Arc<Notices>,
    pub(super) inventory: Inventory,
    pub(super) options: StorOptions,
    pub(super) version: StorvspVersion,
    /// Bytes of one request, at most: whole pages.
    pub(super) max_transfer_bytes: u32,
    /// Where its units are.
    pub(super) place: Place,
}

/// Where a controller's units are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Any unit of one target.
    Target(Address),
    /// One unit, as of an accelerated IDE disk.
    Unit(Address),
}

/// How a command ended.
pub(super) struct Executed {
    /// Bytes moved.
    pub(super) result: Result<u32, DiskError>,
    /// The memory; `None` if the host may still use it.
    pub(super) lent: Option<Lent>,
}

impl Executed {
    fn failed(kind: DiskErrorKind, lent: Option<Lent>) -> Self {
        Self { result: Err(kind.into()), lent }
    }
}

/// Repetitions so far.
#[derive(Default)]
struct Repeats {
    attentions: u32,
    aborts: u32,
    busy: u32,
}

impl Repeats {
    /// How long to wait before the next repetition, in units of 100 ns; `None` if there were enough.
    fn next(&mut self, why: Retry) -> Option<u64> {
        let (count, most) = match why {
            Retry::Attention => (&mut self.attentions, MAX_ATTENTIONS),
            Retry::Aborted => (&mut self.aborts, MAX_ABORTS),
            Retry::Busy => (&mut self.busy, MAX_BUSY),
        };
        let pause = if why == Retry::Busy { (SECOND_100NS / 1000) << *count } else { 0 };
        *count += 1;
        (*count <= most).then_some(pause)
    }
}

impl<H: Hal> Controller<H> {
    /// The channel for requests that prefer the one numbered `wish`; another if that has ended.
    pub(super) fn queue(&self, wish: usize) -> Option<&Queue<H>> {
        let count = self.queues.len();
        (0..count)
            .filter_map(|step| self.queues.get(wish.wrapping_add(step) % count))
            .find(|queue| queue.is_alive())
    }

    /// Executes a command with the data of `piece` in `lent`, as often as makes sense.
    pub(super) async fn execute(
        &self,
        wish: usize,
        address: Address,
        command: &Command,
        mut lent: Lent,
        piece: Option<Piece>,
    ) -> Executed {
        let mut repeats = Repeats::default();
        loop {
            let Some(queue) = self.queue(wish) else {
                return Executed::failed(DiskErrorKind::Gone, Some(lent));
            };
            let outcome = queue.exchange(self.request(address, command, piece), lent).await;
            let verdict = self.verdict(&outcome);
            let Some(back) = outcome.lent else {
                return Executed { result: verdict.error(), lent: None };
            };
            lent = back;
            let (why, error) = match verdict {
                Attempt::Done(bytes) => return Executed { result: Ok(bytes), lent: Some(lent) },
                Attempt::Failed(error) => return Executed { result: Err(error), lent: Some(lent) },
                Attempt::Repeat(why, error) => (why, error),
            };
            let Some(pause) = repeats.next(why) else {
                return Executed { result: Err(error), lent: Some(lent) };
            };
            queue.counters.retries.increment();
            if pause > 0 {
                sleep_until(&self.hal, self.hal.now_100ns().saturating_add(pause)).await;
            }
        }
    }

    fn request(&self, address: Address, command: &Command, piece: Option<Piece>) -> Request {
        let limit = self.options.request_limit_100ns;
        let seconds = u32::try_from(limit / SECOND_100NS).unwrap_or(u32::MAX).max(1);
        Request {
            operation: Operation::EXECUTE_SRB,
            payload: packet::srb(command, address, self.version, seconds),
            address,
            piece,
            deadline_100ns: self.hal.now_100ns().saturating_add(limit),
        }
    }

    fn verdict(&self, outcome: &Outcome) -> Attempt {
        let answer = match outcome.result {
            Ok(answer) => answer,
            // A sub-channel may go while the others stay.
            Err(DiskErrorKind::Gone) if self.queue(0).is_some() => {
                return Attempt::Repeat(Retry::Aborted, DiskErrorKind::Gone.into());
            }
            Err(kind) => return Attempt::Failed(kind.into()),
        };
        let Some(srb) = packet::srb_answer(&answer, self.version) else {
            return Attempt::Failed(DiskErrorKind::BadReply.into());
        };
        let (verdict, notice) = judge(&srb.statuses);
        if notice != Notice::None {
            self.notices.disks.raise(&self.hal);
        }
        match verdict {
            Verdict::Done | Verdict::Partial => Attempt::Done(srb.transferred),
            Verdict::Retry(why, error) => Attempt::Repeat(why, error),
            Verdict::Failed(error) => Attempt::Failed(error),
        }
    }

    /// Executes a command that gives data; the bytes that came.
    pub(super) async fn fetch(
        &self,
        address: Address,
        command: &Command,
    ) -> Result<IoBuffer, DiskError> {
        let asked = command.data_bytes;
        let buffer = IoBuffer::zeroed(asked as usize).ok_or(DiskErrorKind::NoMemory)?;
        let piece = Some(Piece::whole(asked));
        let executed = self.execute(0, address, command, Lent::One(buffer), piece).await;
        let bytes = executed.result?;
        match executed.lent {
            Some(Lent::One(mut buffer)) if bytes <= asked => {
                buffer.set_len(bytes as usize);
                Ok(buffer)
            }
            // More than there was room for.
            _ => Err(DiskErrorKind::BadReply.into()),
        }
    }

    /// Executes a command without data, on the channel numbered `wish`.
    pub(super) async fn order(
        &self,
        wish: usize,
        address: Address,
        command: &Command,
    ) -> Result<(), DiskError> {
        debug_assert_eq!(command.direction, DataDirection::UNKNOWN);
        self.execute(wish, address, command, Lent::Nothing, None).await.result.map(|_| ())
    }
}

/// What came of one attempt.
enum Attempt {
    Done(u32),
    Repeat(Retry, DiskError),
    Failed(DiskError),
}

impl Attempt {
    fn error(self) -> Result<u32, DiskError> {
        match self {
            Self::Done(_) => Err(DiskErrorKind::BadReply.into()),
            Self::Repeat(_, error) | Self::Failed(error) => Err(error),
        }
    }
}
