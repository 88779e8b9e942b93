//! GPADLs: memory that the guest lends, told in one message or many.

use std::collections::BTreeSet;
use std::sync::Arc;

use hv_abi::vmbus::message::{
    GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, MessageHeader, MessageType,
    status,
};
use vmbus_ring::gpa::{GpaError, GpaRanges, MIN_RANGE_BYTES, PAGE_NUMBER_BYTES};

use super::Bus;
use super::error::Malformed;
use super::inbox::News;
use super::state::{LiveGpadl, State};
use crate::vmbus::gpadl::Gpadl;

/// GPADLs of a connection, at most.
const MAX_GPADLS: usize = 8192;
/// Pages of all of them, at most: 2 GiB.
const MAX_PAGES: usize = 1 << 19;

/// A GPADL of which messages are still to come.
pub(super) struct Incomplete {
    channel: u32,
    range_count: u32,
    /// All bytes of its list.
    length: usize,
    list: Vec<u8>,
}

impl Incomplete {
    /// Adds what a message has of the list; what is too much means nothing. Tells whether it is complete.
    fn extend(&mut self, part: &[u8]) -> bool {
        let missing = self.length - self.list.len();
        self.list.extend_from_slice(part.get(..missing).unwrap_or(part));
        self.list.len() == self.length
    }

    /// More pages than it has, by a little.
    fn pages(&self) -> usize {
        self.length / PAGE_NUMBER_BYTES
    }
}

impl Bus {
    /// `GPADL_HEADER`.
    pub(super) fn gpadl_header(
        self: &Arc<Self>,
        state: &mut State,
        header: &GpadlHeader,
        list: &[u8],
    ) -> Result<(), Malformed> {
        state.open()?;
        let begun = self.begin_gpadl(state, header, list);
        let result = begun.and_then(|begun| match begun {
            Some(complete) => self.complete_gpadl(state, header.gpadl, &complete),
            None => Ok(()),
        });
        if result.is_err() {
            self.send_created(state, header.child_relid, header.gpadl, status::UNSUCCESSFUL);
        }
        result
    }

    /// Gives it back if it is complete.
    fn begin_gpadl(
        &self,
        state: &mut State,
        header: &GpadlHeader,
        list: &[u8],
    ) -> Result<Option<Incomplete>, Malformed> {
        let channel = header.child_relid;
        let known = state.channel(channel)?;
        if known.rescinded {
            return Err(Malformed::Rescinded);
        }
        let used = known.gpadls.contains_key(&header.gpadl);
        let awaited = |gpadl: &LiveGpadl| gpadl.awaited == Some(header.gpadl);
        let torn = state.live_gpadls.values().any(awaited);
        let live = state.live_gpadls.len();
        let open = state.open_mut()?;
        if header.gpadl == 0 || used || torn || open.incomplete.contains_key(&header.gpadl) {
            return Err(Malformed::GpadlNumber);
        }
        let (length, range_count) =
            (usize::from(header.range_buflen), u32::from(header.rangecount));
        if range_count as usize * MIN_RANGE_BYTES > length {
            return Err(Malformed::GpadlRanges(GpaError::Truncated));
        }
        if live + open.incomplete.len() >= MAX_GPADLS {
            return Err(Malformed::TooManyGpadls);
        }
        let mut gpadl = Incomplete { channel, range_count, length, list: Vec::new() };
        let pages = state.gpadl_pages + gpadl.pages();
        if pages > MAX_PAGES {
            return Err(Malformed::TooManyGpadls);
        }
        state.gpadl_pages = pages;
        if gpadl.extend(list) {
            return Ok(Some(gpadl));
        }
        state.open_mut()?.incomplete.insert(header.gpadl, gpadl);
        Ok(None)
    }

    /// `GPADL_BODY`.
    pub(super) fn gpadl_body(
        self: &Arc<Self>,
        state: &mut State,
        body: &GpadlBody,
        list: &[u8],
    ) -> Result<(), Malformed> {
        let incomplete = &mut state.open_mut()?.incomplete;
        let gpadl = incomplete.get_mut(&body.gpadl).ok_or(Malformed::NoSuchGpadl)?;
        if !gpadl.extend(list) {
            return Ok(());
        }
        let gpadl = incomplete.remove(&body.gpadl).ok_or(Malformed::NoSuchGpadl)?;
        let result = self.complete_gpadl(state, body.gpadl, &gpadl);
        if result.is_err() {
            self.send_created(state, gpadl.channel, body.gpadl, status::UNSUCCESSFUL);
        }
        result
    }

    fn complete_gpadl(
        self: &Arc<Self>,
        state: &mut State,
        id: u32,
        complete: &Incomplete,
    ) -> Result<(), Malformed> {
        let serial = state.new_serial();
        let gpadl = self.make_gpadl(id, serial, complete);
        let gpadl = match gpadl {
            Ok(gpadl) if state.channel(complete.channel).is_ok_and(|it| !it.rescinded) => gpadl,
            other => {
                state.gpadl_pages -= complete.pages();
                other?;
                return Err(Malformed::Rescinded);
            }
        };
        let live = LiveGpadl { pages: complete.pages(), awaited: None };
        state.live_gpadls.insert(serial, live);
        state.channel(complete.channel)?.gpadls.insert(id, (serial, Arc::new(gpadl)));
        self.send_created(state, complete.channel, id, status::SUCCESS);
        Ok(())
    }

    fn make_gpadl(
        self: &Arc<Self>,
        id: u32,
        serial: u64,
        complete: &Incomplete,
    ) -> Result<Gpadl, Malformed> {
        let list = GpaRanges::parse(complete.range_count, &complete.list);
        let list = list.map_err(Malformed::GpadlRanges)?;
        for range in &list {
            let mut seen = BTreeSet::new();
            if !range.page_numbers().all(|page| seen.insert(page)) {
                return Err(Malformed::GpadlOverlaps);
            }
        }
        let inbox = self.inbox.clone();
        let on_drop = Box::new(move || inbox.tell(News::GpadlFree { serial }));
        Gpadl::new(&self.memory, id, list, on_drop).map_err(Malformed::GpadlMemory)
    }

    /// `GPADL_TEARDOWN`: the guest hears of it when nobody uses it any more.
    pub(super) fn gpadl_teardown(
        &self,
        state: &mut State,
        teardown: GpadlTeardown,
    ) -> Result<(), Malformed> {
        state.open()?;
        let id = teardown.gpadl;
        if let Some((serial, gpadl)) = state.channel(teardown.child_relid)?.gpadls.remove(&id) {
            if let Some(live) = state.live_gpadls.get_mut(&serial) {
                live.awaited = Some(id);
            }
            drop(gpadl);
            return Ok(());
        }
        let incomplete = &mut state.open_mut()?.incomplete;
        let theirs = |gpadl: &&Incomplete| gpadl.channel == teardown.child_relid;
        let pages = incomplete.get(&id).filter(theirs).map(Incomplete::pages);
        let pages = pages.ok_or(Malformed::NoSuchGpadl)?;
        incomplete.remove(&id);
        state.gpadl_pages -= pages;
        self.send_torndown(state, id);
        Ok(())
    }

    /// Nobody uses it any more.
    pub(super) fn gpadl_free(&self, state: &mut State, serial: u64) {
        let Some(gpadl) = state.live_gpadls.remove(&serial) else { return };
        state.gpadl_pages = state.gpadl_pages.saturating_sub(gpadl.pages);
        if let Some(id) = gpadl.awaited
            && state.open().is_ok()
        {
            self.send_torndown(state, id);
        }
    }

    /// A GPADL of a channel's device.
    pub(in crate::vmbus) fn gpadl(&self, channel: u32, id: u32) -> Option<Arc<Gpadl>> {
        let state = self.state();
        let own = state.channels.get(&channel)?;
        let theirs = state.channels.values().filter(|other| other.device == own.device);
        let mut all = std::iter::once(own).chain(theirs);
        all.find_map(|channel| channel.gpadls.get(&id)).map(|(_, gpadl)| gpadl.clone())
    }

    fn send_created(&self, state: &State, child_relid: u32, gpadl: u32, creation_status: u32) {
        let header = MessageHeader::new(MessageType::GPADL_CREATED);
        self.send(state, &GpadlCreated { header, child_relid, gpadl, creation_status });
    }

    fn send_torndown(&self, state: &State, gpadl: u32) {
        let header = MessageHeader::new(MessageType::GPADL_TORNDOWN);
        self.send(state, &GpadlTorndown { header, gpadl });
    }
}
