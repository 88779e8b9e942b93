//! What is known of each VP's SynIC, and how a message that waits finds its slot.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hv_abi::msr::{HV_MSR_PAGE_ADDRESS_MASK, HV_MSR_PAGE_ENABLE};
use hv_abi::synic::{HV_SCONTROL_ENABLE, HV_SYNIC_SINT_COUNT, HvMessage};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::lines::{Line, SintLines};
use super::pages::{self, Put};
use super::{Kick, MessageFeed, PostError, RouteUse, Sint};
use crate::stats::lock;

/// What the thread for acknowledgements needs too.
pub(super) struct Parts {
    pub(super) memory: GuestMemoryMmap,
    pub(super) vps: Box<[Vp]>,
    pub(super) lines: Box<dyn SintLines>,
    pub(super) kick: Kick,
}

/// The SynIC of one VP.
pub(super) struct Vp {
    pub(super) control: AtomicU64,
    pub(super) message_page: AtomicU64,
    pub(super) event_page: AtomicU64,
    /// A message may have found its place.
    pub(super) has_work: AtomicBool,
    pub(super) routes: Mutex<[Option<Route>; HV_SYNIC_SINT_COUNT]>,
}

/// What a source needs to interrupt.
pub(super) struct Route {
    pub(super) line: Line,
    pub(super) use_: RouteUse,
    pub(super) users: u32,
    pub(super) waiting: Option<HvMessage>,
    /// Where further messages come from, once nothing waits.
    pub(super) feed: Option<Arc<dyn MessageFeed>>,
    /// What waits is the feed's.
    pub(super) fed: bool,
}

impl Route {
    /// Has a message wait if there is one.
    fn fetch(&mut self) -> Option<HvMessage> {
        if self.waiting.is_none() {
            self.waiting = self.feed.as_ref()?.next();
            self.fed = self.waiting.is_some();
        }
        self.waiting
    }

    /// What waited is in its slot.
    fn delivered(&mut self) {
        self.waiting = None;
        if std::mem::take(&mut self.fed)
            && let Some(feed) = &self.feed
        {
            feed.delivered();
        }
        self.line.raise();
    }
}

impl Default for Vp {
    fn default() -> Self {
        Self {
            // KVM starts with an enabled SynIC (Linux, kvm_hv_activate_synic).
            control: AtomicU64::new(HV_SCONTROL_ENABLE),
            message_page: AtomicU64::new(0),
            event_page: AtomicU64::new(0),
            has_work: AtomicBool::new(false),
            routes: Mutex::default(),
        }
    }
}

impl Vp {
    /// The page that a register names, if the SynIC and the page are enabled.
    pub(super) fn page(&self, register: &AtomicU64) -> Option<GuestAddress> {
        let value = register.load(Ordering::Acquire);
        let on = self.control.load(Ordering::Acquire) & HV_SCONTROL_ENABLE != 0
            && value & HV_MSR_PAGE_ENABLE != 0;
        on.then_some(GuestAddress(value & HV_MSR_PAGE_ADDRESS_MASK))
    }
}

impl Parts {
    /// The VP of a source, if there is one.
    pub(super) fn vp(&self, sint: Sint) -> Option<&Vp> {
        self.vps.get(sint.vp as usize)
    }

    /// Does something with the route to a source.
    pub(super) fn with_route<T>(
        &self,
        sint: Sint,
        action: impl FnOnce(&mut Route) -> Result<T, PostError>,
    ) -> Result<T, PostError> {
        let vp = self.vp(sint).ok_or(PostError::NoRoute)?;
        let mut routes = lock(&vp.routes);
        let route = routes.get_mut(usize::from(sint.number)).and_then(Option::as_mut);
        action(route.ok_or(PostError::NoRoute)?)
    }

    /// Has the VP's thread look for messages.
    pub(super) fn ask_for_work(&self, vp: u32) {
        if let Some(state) = self.vps.get(vp as usize) {
            state.has_work.store(true, Ordering::Release);
            (self.kick)(vp);
        }
    }

    /// The guest ended an interrupt or a message.
    pub(super) fn acknowledged(&self, sint: Sint) {
        let waits = self.with_route(sint, |route| Ok(route.waiting.is_some()));
        if waits == Ok(true) {
            self.ask_for_work(sint.vp);
        }
    }

    /// Puts what waits into the slots. On the VP's own thread.
    pub(super) fn deliver(&self, vp: &Vp) {
        if !vp.has_work.swap(false, Ordering::AcqRel) {
            return;
        }
        let Some(page) = vp.page(&vp.message_page) else { return };
        for (number, route) in (0..).zip(lock(&vp.routes).iter_mut()) {
            let Some(route) = route else { continue };
            // An occupied slot brings us back by an EOM, a page outside RAM by a new SIMP.
            while let Some(message) = route.fetch() {
                if pages::put_message(&self.memory, page, number, &message) != Put::Delivered {
                    break;
                }
                route.delivered();
            }
        }
    }
}
