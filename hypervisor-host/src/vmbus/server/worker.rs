//! Threads that serve channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::Bus;
use super::inbox::News;
use crate::stats::lock;
use crate::vmbus::channel::HostChannel;
use crate::vmbus::channel::link::Link;
use crate::vmbus::channel::until_started;
use crate::vmbus::device::VmbusDevice;

/// Letters of a thread's name, at most (Linux, `TASK_COMM_LEN`).
const NAME_BYTES: usize = 15;

/// The threads that run, by the numbers of their openings.
#[derive(Default)]
pub(super) struct Workers {
    running: Mutex<BTreeMap<u64, String>>,
    ended: Condvar,
}

impl Workers {
    /// Starts one. Tells whether the operating system gives a thread.
    pub(super) fn start(
        &self,
        bus: &Arc<Bus>,
        serial: u64,
        name: &str,
        provider: Arc<dyn VmbusDevice>,
        channel: HostChannel,
        link: Arc<Link>,
    ) -> bool {
        let thread_name = name.chars().filter(|letter| letter.is_ascii_graphic());
        let thread_name = thread_name.take(NAME_BYTES).collect();
        lock(&self.running).insert(serial, name.into());
        let bus = bus.clone();
        let spawned = Builder::new().name(thread_name).spawn(move || {
            serve(&bus, serial, provider, channel, &link);
        });
        if spawned.is_err() {
            lock(&self.running).remove(&serial);
        }
        spawned.is_ok()
    }

    fn has_ended(&self, serial: u64) {
        lock(&self.running).remove(&serial);
        self.ended.notify_all();
    }

    /// Waits until none runs any more; gives the names of those that still do after `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        let mut running = lock(&self.running);
        while !running.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            let waited = self.ended.wait_timeout(running, left);
            running = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        running.values().cloned().collect()
    }
}

fn serve(
    bus: &Bus,
    serial: u64,
    provider: Arc<dyn VmbusDevice>,
    mut channel: HostChannel,
    link: &Link,
) {
    let id = channel.id();
    let started = until_started(link).map_err(Into::into);
    let result = started.and_then(|()| match link.is_closing() {
        true => Ok(()),
        false => provider.serve(&mut channel),
    });
    // What went wrong while the channel was closed is of no interest.
    let error = result.err().filter(|_| !link.is_closing()).map(|error| error.to_string());
    // The rings first: the guest has its memory back when nobody uses it any more.
    drop(channel);
    drop(provider);
    bus.inbox.tell(News::Served { channel: id, serial, error });
    bus.workers.has_ended(serial);
}
