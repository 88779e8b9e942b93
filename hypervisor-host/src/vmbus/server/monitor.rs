//! The guest's monitor page: signals that cost it nothing, and that a thread of ours looks for.
//!
//! The thread looks only while a channel that is open has a trigger, the more rarely the longer it finds nothing.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::vmbus::monitor::{
    MONITOR_GROUP_TRIGGERS, MONITOR_GROUPS, MonitorPage, MonitorTriggerGroup,
};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory};
use vmm_sys_util::eventfd::EventFd;

use crate::stats::lock;

/// Between two looks, while there are signals.
const SHORTEST: Duration = Duration::from_micros(50);
/// Between two looks, while there have been none for long.
const LONGEST: Duration = Duration::from_millis(1);

/// The page that the guest writes to, and its reader.
pub(super) struct Monitor {
    shared: Arc<Shared>,
}

struct Shared {
    memory: GuestMemoryMmap,
    page: GuestAddress,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    triggers: BTreeMap<u8, Arc<EventFd>>,
    running: bool,
    stop: bool,
}

impl Monitor {
    /// `None`: it is not RAM, or does not begin where a page does.
    pub(super) fn new(memory: &GuestMemoryMmap, page: u64) -> Option<Arc<Self>> {
        let whole = page.is_multiple_of(HV_PAGE_SIZE as u64);
        let page = GuestAddress(page);
        memory.get_slice(page, HV_PAGE_SIZE).ok().filter(|_| whole)?;
        let (memory, state, changed) = (memory.clone(), Mutex::default(), Condvar::default());
        Some(Arc::new(Self { shared: Arc::new(Shared { memory, page, state, changed }) }))
    }

    /// Trigger `id` writes `event` from now on. Tells whether that is possible.
    pub(super) fn add(&self, id: u8, event: Arc<EventFd>) -> bool {
        let mut state = lock(&self.shared.state);
        if !state.running {
            let shared = self.shared.clone();
            let thread = Builder::new().name("vmbus-monitor".into()).stack_size(64 << 10);
            state.running = thread.spawn(move || shared.run()).is_ok();
        }
        state.triggers.insert(id, event);
        self.shared.changed.notify_all();
        state.running
    }

    pub(super) fn remove(&self, id: u8) {
        lock(&self.shared.state).triggers.remove(&id);
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        let mut pause = SHORTEST;
        let mut state = lock(&self.state);
        while !state.stop {
            if state.triggers.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                pause = SHORTEST;
                continue;
            }
            pause = match self.look(&state.triggers) {
                true => SHORTEST,
                false => (pause * 2).min(LONGEST),
            };
            let waited = self.changed.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Delivers what is pending. Tells whether there was anything.
    fn look(&self, triggers: &BTreeMap<u8, Arc<EventFd>>) -> bool {
        let mut any = false;
        for group in 0..MONITOR_GROUPS {
            let mut pending = self.take_pending(group);
            any |= pending != 0;
            while pending != 0 {
                let bit = pending.trailing_zeros();
                pending &= pending - 1;
                let id = group * MONITOR_GROUP_TRIGGERS + bit as usize;
                if let Some(event) = triggers.get(&(id as u8)) {
                    // Fails only if the counter overflows, and then its reader knows already.
                    let _ = event.write(1);
                }
            }
        }
        any
    }

    fn take_pending(&self, group: usize) -> u32 {
        let offset = offset_of!(MonitorPage, trigger_group)
            + group * size_of::<MonitorTriggerGroup>()
            + offset_of!(MonitorTriggerGroup, pending);
        let Ok(page) = self.memory.get_slice(self.page, HV_PAGE_SIZE) else { return 0 };
        let Ok(pending) = page.get_atomic_ref::<AtomicU32>(offset) else { return 0 };
        match pending.load(Ordering::SeqCst) {
            0 => 0,
            _ => pending.swap(0, Ordering::SeqCst),
        }
    }
}
