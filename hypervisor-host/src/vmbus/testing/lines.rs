//! Interrupts that go nowhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use crate::hyperv::synic::lines::{Line, SintLines};
use crate::hyperv::synic::{RouteUse, Sint};
use crate::stats::lock;

/// Keeps both ends of every line that is connected.
#[derive(Default, Clone)]
pub(super) struct TestLines(Arc<Mutex<BTreeMap<(u32, u8), Ends>>>);

struct Ends {
    interrupt: EventFd,
    acknowledged: Option<EventFd>,
}

impl TestLines {
    /// The guest ends a message.
    pub(super) fn acknowledge(&self, sint: Sint) {
        if let Some(ends) = lock(&self.0).get(&(sint.vp, sint.number))
            && let Some(event) = &ends.acknowledged
        {
            event.write(1).unwrap();
        }
    }

    /// Interrupts since the last call; `None`: there is no route.
    pub(super) fn take_interrupts(&self, sint: Sint) -> Option<u64> {
        let lines = lock(&self.0);
        let ends = lines.get(&(sint.vp, sint.number))?;
        Some(ends.interrupt.read().unwrap_or(0))
    }

    /// Routes there are.
    pub(super) fn count(&self) -> usize {
        lock(&self.0).len()
    }
}

impl SintLines for TestLines {
    fn connect(&self, sint: Sint, use_: RouteUse) -> Result<Line, errno::Error> {
        let event = || EventFd::new(libc::EFD_NONBLOCK).map_err(errno::Error::from);
        let interrupt = event()?;
        let acknowledged = (use_ == RouteUse::Messages).then(event).transpose()?;
        let ends = Ends {
            interrupt: interrupt.try_clone()?,
            acknowledged: acknowledged.as_ref().map(EventFd::try_clone).transpose()?,
        };
        lock(&self.0).insert((sint.vp, sint.number), ends);
        Ok(Line { interrupt, acknowledged })
    }

    fn disconnect(&self, sint: Sint, _: &Line) {
        lock(&self.0).remove(&(sint.vp, sint.number));
    }

    fn connect_event(&self, _: u32, _: &EventFd) -> Result<(), errno::Error> {
        Err(errno::Error::new(libc::ENOTTY))
    }

    fn disconnect_event(&self, _: u32, _: &EventFd) {}
}
