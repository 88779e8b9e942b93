//! Questions to the host, one at a time, and the answers that belong to them.
//!
//! An NVSP request is answered by the completion of its packet. An RNDIS request lies in a page of its own, which is the host's
//! until the completion; its answer comes through the receive buffer, with the request's number. Numbers are never used twice, so a
//! late answer finds nobody.

use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::task::Poll;

use spin::Mutex;

use super::error::NetError;
use crate::hal::{DmaBuffer, Hal};
use crate::task::Bell;

/// Transactions of requests have this bit; those of frames don't.
const CONTROL_BIT: u64 = 1 << 63;
/// Longest answer that is kept; the longest that is of use is a hardware capabilities object.
const MAX_ANSWER_BYTES: usize = 4096;
/// RNDIS requests whose packets the host has not completed, at most: a host that never does costs no more pages than that.
const MAX_PAGES: usize = 16;

/// What is asked, and who waits for it.
pub(super) struct Control<H: Hal> {
    next_transaction: AtomicU64,
    next_request: AtomicU32,
    /// Somebody asks.
    asking: AtomicBool,
    state: Mutex<State<H>>,
    changed: Bell,
}

struct State<H: Hal> {
    completion: Wanted<u64>,
    answer: Wanted<u32>,
    /// Pages of requests, by transaction.
    pages: Vec<(u64, DmaBuffer<H>)>,
}

/// An answer that somebody waits for.
enum Wanted<N> {
    Nothing,
    Waiting(N),
    There(Vec<u8>),
}

impl<N: PartialEq> Wanted<N> {
    /// Takes `bytes` for the answer to `number`. Whether anybody waits for that.
    fn put(&mut self, number: N, bytes: &[u8]) -> bool {
        let waits = matches!(self, Self::Waiting(wanted) if *wanted == number);
        if waits && bytes.len() <= MAX_ANSWER_BYTES {
            *self = Self::There(bytes.to_vec());
        }
        waits && bytes.len() <= MAX_ANSWER_BYTES
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        match core::mem::replace(self, Self::Nothing) {
            Self::There(bytes) => Some(bytes),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The right to ask; there is one.
pub(super) struct Turn<'a, H: Hal> {
    control: &'a Control<H>,
    hal: &'a H,
}

impl<H: Hal> Drop for Turn<'_, H> {
    fn drop(&mut self) {
        let mut state = self.control.state.lock();
        state.completion = Wanted::Nothing;
        state.answer = Wanted::Nothing;
        drop(state);
        self.control.asking.store(false, Ordering::Release);
        self.control.changed.ring(self.hal);
    }
}

impl<H: Hal> Control<H> {
    pub(super) fn new() -> Self {
        let state =
            State { completion: Wanted::Nothing, answer: Wanted::Nothing, pages: Vec::new() };
        Self {
            next_transaction: AtomicU64::new(1),
            next_request: AtomicU32::new(1),
            asking: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: Bell::new(),
        }
    }

    /// Whether a transaction is a request's.
    pub(super) fn owns(transaction_id: u64) -> bool {
        transaction_id & CONTROL_BIT != 0
    }

    /// Waits until nobody else asks.
    pub(super) async fn turn<'a>(&'a self, hal: &'a H) -> Turn<'a, H> {
        poll_fn(|context| {
            self.changed.listen(hal, context.waker());
            let taken = self.asking.swap(true, Ordering::Acquire);
            if taken { Poll::Pending } else { Poll::Ready(Turn { control: self, hal }) }
        })
        .await
    }

    /// A completion came for one of our transactions. Whether anybody waits for it, or a page came back.
    pub(super) fn completed(&self, hal: &H, transaction_id: u64, payload: &[u8]) -> bool {
        let (waited, page) = {
            let mut state = self.state.lock();
            let waited = state.completion.put(transaction_id, payload);
            let page = state.pages.iter().position(|(owner, _)| *owner == transaction_id);
            // Dropped when the lock is free again.
            (waited, page.map(|index| state.pages.swap_remove(index)))
        };
        self.changed.ring(hal);
        waited || page.is_some()
    }

    /// An answer to an RNDIS request came. Whether anybody waits for it.
    pub(super) fn answered(&self, hal: &H, request: u32, message: &[u8]) -> bool {
        let waited = self.state.lock().answer.put(request, message);
        self.changed.ring(hal);
        waited
    }

    /// Lets the pages go that the host has not given back: the channel is closed.
    pub(super) fn release_pages(&self) {
        let pages = core::mem::take(&mut self.state.lock().pages);
        drop(pages);
    }
}

impl<H: Hal> Turn<'_, H> {
    /// A number for a transaction, whose completion is wanted from now on.
    pub(super) fn transaction(&self) -> u64 {
        let number = self.control.next_transaction.fetch_add(1, Ordering::Relaxed) | CONTROL_BIT;
        self.control.state.lock().completion = Wanted::Waiting(number);
        number
    }

    /// A number for an RNDIS request, whose answer is wanted from now on.
    pub(super) fn request(&self) -> u32 {
        let number = self.control.next_request.fetch_add(1, Ordering::Relaxed);
        self.control.state.lock().answer = Wanted::Waiting(number);
        number
    }

    /// A page with `message` in it, kept until the completion of `transaction`; its number as the host counts.
    pub(super) fn page(&self, transaction: u64, message: &[u8]) -> Result<u64, NetError> {
        if self.control.state.lock().pages.len() >= MAX_PAGES {
            return Err(NetError::TimedOut);
        }
        let page = DmaBuffer::new(self.hal, 1).ok_or(NetError::NoMemory)?;
        page.write(0, message).map_err(|_| NetError::NoMemory)?;
        let number = page.page_numbers().next().ok_or(NetError::NoMemory)?;
        self.control.state.lock().pages.push((transaction, page));
        Ok(number)
    }

    /// Waits for the completion.
    pub(super) async fn completion(&self) -> Vec<u8> {
        self.wait(|state| state.completion.take()).await
    }

    /// Waits for the RNDIS answer.
    pub(super) async fn answer(&self) -> Vec<u8> {
        self.wait(|state| state.answer.take()).await
    }

    async fn wait(&self, mut look: impl FnMut(&mut State<H>) -> Option<Vec<u8>>) -> Vec<u8> {
        poll_fn(|context| {
            self.control.changed.listen(self.hal, context.waker());
            look(&mut self.control.state.lock()).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
