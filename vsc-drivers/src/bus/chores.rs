//! What is left to do when somebody drops a handle: the bus's task does it, as dropping can't wait.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::pin::Pin;
use core::task::Context;

use hv_abi::vmbus::message::{
    CloseChannel, GpadlTeardown, MessageHeader, RelidReleased, VmbusMessage,
};
use spin::Mutex;
use zerocopy::IntoBytes;

use super::life::Fate;
use super::{
    Answer, BusError, ChannelError, ChannelId, Claim, Expected, Life, Request, Shared, Vmbus,
};
use crate::hal::{DmaBuffer, Hal};

/// Chores at the same time.
const MAX_AT_WORK: usize = 32;

/// Memory that the host may use. Dropped, it is never freed.
pub(crate) struct Keep<H: Hal>(Option<Arc<DmaBuffer<H>>>);

impl<H: Hal> Keep<H> {
    pub(crate) const fn new(buffer: Arc<DmaBuffer<H>>) -> Self {
        Self(Some(buffer))
    }

    /// The host no longer uses it: the last owner frees it.
    pub(crate) fn free(mut self) {
        self.0 = None;
    }

    pub(crate) fn pages(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.pages())
    }
}

impl<H: Hal> Drop for Keep<H> {
    fn drop(&mut self) {
        mem::forget(self.0.take());
    }
}

/// Memory that the host knows as a GPADL of a channel.
pub(crate) struct Grant<H: Hal> {
    pub(crate) gpadl: u32,
    pub(crate) claim: Arc<Claim<H>>,
    pub(crate) keep: Keep<H>,
}

/// How a chore went, for who waits for it.
#[derive(Default)]
pub(crate) struct Ending(Mutex<Option<Result<(), ChannelError>>>);

impl Ending {
    pub(crate) fn result(&self) -> Option<Result<(), ChannelError>> {
        *self.0.lock()
    }
}

/// Something to do.
pub(crate) enum Chore<H: Hal> {
    /// Close a channel and take the memory of its rings back.
    Close(Grant<H>, Arc<Ending>),
    /// Take memory back.
    TakeBack(Grant<H>, Arc<Ending>),
    /// Tell the host that a channel that it took back is no longer used.
    Release(ChannelId, Arc<Life>),
    /// Free what the host gave back late.
    Free(Keep<H>),
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The chores at work. They belong to the bus, not to a call of its `run`: the next call goes on with them.
#[derive(Default)]
pub(super) struct Crew(Mutex<Vec<Task>>);

impl Crew {
    /// Goes on with all chores, and begins those that are new.
    pub(super) fn poll<H: Hal>(&self, bus: &Vmbus<H>, context: &mut Context<'_>) {
        let shared = &bus.shared;
        shared.changed.listen(&shared.hal, context.waker());
        // Somebody else polls them, and is woken by all that wakes us.
        let Some(mut at_work) = self.0.try_lock() else { return };
        loop {
            at_work.retain_mut(|task| task.as_mut().poll(context).is_pending());
            if at_work.len() >= MAX_AT_WORK {
                return;
            }
            let Some(chore) = shared.state.lock().chores.pop_front() else { return };
            at_work.push(Box::pin(work(bus.clone(), chore)));
        }
    }
}

async fn work<H: Hal>(bus: Vmbus<H>, chore: Chore<H>) {
    let shared = &bus.shared;
    match chore {
        Chore::Close(grant, ending) => {
            close(shared, &grant.claim).await;
            end(shared, &ending, take_back(shared, grant).await);
        }
        Chore::TakeBack(grant, ending) => end(shared, &ending, take_back(shared, grant).await),
        Chore::Release(channel, life) => {
            let header = MessageHeader::new(RelidReleased::TYPE);
            let message = RelidReleased { header, child_relid: channel.relid() };
            shared.tell_or_count(&life, message.as_bytes()).await;
        }
        Chore::Free(keep) => keep.free(),
    }
}

fn end<H: Hal>(shared: &Shared<H>, ending: &Ending, result: Result<(), ChannelError>) {
    *ending.0.lock() = Some(result);
    shared.changed.ring(&shared.hal);
}

async fn close<H: Hal>(shared: &Shared<H>, claim: &Claim<H>) {
    let header = MessageHeader::new(CloseChannel::TYPE);
    let message = CloseChannel { header, child_relid: claim.channel().relid() };
    shared.tell_or_count(&claim.life, message.as_bytes()).await;
}

/// Has the host forget a GPADL, and frees its memory; keeps it if the host may still use it.
///
/// Also of a channel that was taken back: the host's side may be at work in the memory for a moment yet, and says when it
/// is not (as OpenVMM's client does it; Linux doesn't ask, `vmbus_teardown_gpadl`).
async fn take_back<H: Hal>(shared: &Shared<H>, grant: Grant<H>) -> Result<(), ChannelError> {
    loop {
        let fate = grant.claim.life.fate();
        let result = match fate {
            Fate::Alive | Fate::Rescinded => tear_down(shared, &grant).await,
            Fate::Unloaded => Ok(()),
            Fate::Lost => Err(ChannelError::NoAnswer(Request::Unload)),
            Fate::Unloading => {
                shared.until(|_| (grant.claim.life.fate() != Fate::Unloading).then_some(())).await;
                continue;
            }
        };
        match result {
            // The channel or the connection came to its end meanwhile.
            Err(_) if grant.claim.life.fate() != fate => {}
            // Taken back, and nobody says anything any more: Linux would have freed it long ago.
            Err(_) if fate == Fate::Rescinded => return free(grant),
            Err(error) => {
                keep(shared, grant);
                return Err(error);
            }
            Ok(()) => return free(grant),
        }
    }
}

fn free<H: Hal>(grant: Grant<H>) -> Result<(), ChannelError> {
    grant.keep.free();
    Ok(())
}

async fn tear_down<H: Hal>(shared: &Shared<H>, grant: &Grant<H>) -> Result<(), ChannelError> {
    let (channel, gpadl) = (grant.claim.channel(), grant.gpadl);
    let header = MessageHeader::new(GpadlTeardown::TYPE);
    let message = GpadlTeardown { header, child_relid: channel.relid(), gpadl };
    let expected = Expected::Torndown { channel, gpadl };
    match shared.request(&grant.claim.life, expected, [message.as_bytes()]).await? {
        Answer::Gone(fate) => Err(fate.error()),
        Answer::Status(_) | Answer::Version(..) => Ok(()),
    }
}

fn keep<H: Hal>(shared: &Shared<H>, grant: Grant<H>) {
    shared.counters.kept_pages.add(grant.keep.pages() as u64);
    let Grant { gpadl, claim, keep } = grant;
    shared.change(|state| state.kept.insert(gpadl, keep));
    drop(claim);
}

impl<H: Hal> Shared<H> {
    async fn tell_or_count(&self, life: &Life, message: &[u8]) {
        match self.tell(life, message).await {
            // Without a connection there is nobody to tell.
            Ok(()) | Err(BusError::Disconnected) => {}
            Err(_) => self.counters.failed_posts.increment(),
        }
    }

    /// Has the bus's task do something.
    pub(crate) fn leave(&self, chore: Chore<H>) {
        self.change(|state| state.chores.push_back(chore));
    }

    /// Waits for what was left to the bus's task.
    pub(crate) async fn ended(&self, ending: &Ending) -> Result<(), ChannelError> {
        self.until(|_| ending.result()).await
    }
}
