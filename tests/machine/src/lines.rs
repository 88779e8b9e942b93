//! Interrupts: event descriptors that a virtual processor's thread waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hypervisor_host::hyperv::synic::lines::{Line, SintLines};
use hypervisor_host::hyperv::synic::{RouteUse, Sint};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use crate::vp::lock;

/// The ends of a source's line that KVM would have.
pub(crate) struct Ends {
    pub(crate) interrupt: EventFd,
    pub(crate) acknowledged: Option<EventFd>,
}

/// What each virtual processor's thread waits for.
#[derive(Clone)]
pub struct Lines(Arc<[Of]>);

struct Of {
    kick: EventFd,
    lines: Mutex<BTreeMap<u8, Arc<Ends>>>,
    /// Sources whose line was raised, and then taken away. The processor has that interrupt all the same, as with KVM.
    raised: Mutex<Vec<u8>>,
}

fn event() -> EventFd {
    EventFd::new(libc::EFD_NONBLOCK).expect("event descriptors are there for the asking")
}

fn copy(event: &EventFd) -> EventFd {
    event.try_clone().expect("a descriptor can be had twice")
}

impl Lines {
    /// For so many virtual processors.
    pub fn new(vps: u32) -> Self {
        Self(
            (0..vps)
                .map(|_| Of { kick: event(), lines: Mutex::default(), raised: Mutex::default() })
                .collect(),
        )
    }

    /// Number of virtual processors.
    pub(crate) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    /// Has a virtual processor's thread look around.
    pub fn kick(&self, vp: u32) {
        if let Some(of) = self.0.get(vp as usize) {
            let _ = of.kick.write(1);
        }
    }

    pub(crate) fn kicks(&self, vp: u32) -> &EventFd {
        &self.0[vp as usize].kick
    }

    /// The connected sources of a virtual processor.
    pub(crate) fn of(&self, vp: u32) -> Vec<(u8, Arc<Ends>)> {
        let lines = lock(&self.0[vp as usize].lines);
        lines.iter().map(|(&sint, ends)| (sint, ends.clone())).collect()
    }

    /// The sources of a virtual processor that have interrupted it since this was asked last.
    pub(crate) fn take_interrupts(&self, vp: u32) -> Vec<u8> {
        let of = &self.0[vp as usize];
        let lines = lock(&of.lines);
        let mut raised = std::mem::take(&mut *lock(&of.raised));
        let new = lines.iter().filter(|(_, ends)| ends.interrupt.read().is_ok());
        raised.extend(new.map(|(&sint, _)| sint));
        raised
    }

    /// Tells the host that the guest has ended an interrupt or a message.
    pub(crate) fn acknowledge(&self, vp: u32) {
        for (_, ends) in self.of(vp) {
            if let Some(acknowledged) = &ends.acknowledged {
                let _ = acknowledged.write(1);
            }
        }
    }
}

impl SintLines for Lines {
    fn connect(&self, sint: Sint, use_: RouteUse) -> Result<Line, errno::Error> {
        let of = self.0.get(sint.vp as usize).ok_or(errno::Error::new(libc::EINVAL))?;
        let interrupt = event();
        let acknowledged = (use_ == RouteUse::Messages).then(event);
        let ends =
            Ends { interrupt: copy(&interrupt), acknowledged: acknowledged.as_ref().map(copy) };
        lock(&of.lines).insert(sint.number, Arc::new(ends));
        self.kick(sint.vp);
        Ok(Line { interrupt, acknowledged })
    }

    fn disconnect(&self, sint: Sint, _: &Line) {
        if let Some(of) = self.0.get(sint.vp as usize) {
            let mut lines = lock(&of.lines);
            let gone = lines.remove(&sint.number);
            if gone.is_some_and(|ends| ends.interrupt.read().is_ok()) {
                lock(&of.raised).push(sint.number);
            }
        }
        self.kick(sint.vp);
    }

    /// The host's program does it instead.
    fn connect_event(&self, _: u32, _: &EventFd) -> Result<(), errno::Error> {
        Err(errno::Error::new(libc::ENOTTY))
    }

    fn disconnect_event(&self, _: u32, _: &EventFd) {}
}
