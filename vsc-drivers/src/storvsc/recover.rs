//! Requests that the host does not answer: reset the unit, then the bus, then give up.
//!
//! **Theory.** A host that executes a reset gives up what it had, and says so for each request; those that it says so of are tried again. What is late and not answered
//! soon after never will be. Whether the host nevertheless still writes to the memory, nobody can tell, so that stays lent.

use hv_abi::storvsp::{Operation, SRB_BYTES, VstorStatus};

use super::controller::Controller;
use super::packet;
use super::slots::{Address, Fallout, Request};
use crate::hal::Hal;
use crate::task::{sleep_until, within};

impl<H: Hal> Controller<H> {
    /// Sees to late requests, for ever.
    pub(super) async fn keep_recovering(&self) {
        loop {
            self.notices.overdue.wait(&self.hal).await;
            while let Some(address) = self.overdue() {
                self.recover(address).await;
            }
        }
    }

    fn overdue(&self) -> Option<Address> {
        let now = self.hal.now_100ns();
        self.queues.iter().find_map(|queue| queue.with(|slots| slots.overdue(now)))
    }

    async fn recover(&self, address: Address) {
        let unit = self.reset(Operation::RESET_LUN, address).await;
        let bus = !unit && self.reset(Operation::RESET_BUS, address).await;
        if unit || bus {
            let grace = self.options.reset_grace_100ns;
            sleep_until(&self.hal, self.hal.now_100ns().saturating_add(grace)).await;
        }
        let now = self.hal.now_100ns();
        for queue in &self.queues {
            let lost = queue.with(|slots| slots.lose(now, |other| bus || other == address));
            queue.counters.timeouts.add(lost.len() as u64);
            lost.into_iter().for_each(Fallout::settle);
        }
    }

    /// Whether the host has executed the reset.
    async fn reset(&self, operation: Operation, address: Address) -> bool {
        let Some(queue) = self.queues.first() else { return false };
        queue.counters.resets.increment();
        let limit = self.options.reset_limit_100ns;
        let payload: [u8; SRB_BYTES] = packet::reset(address, self.version);
        let deadline_100ns = self.hal.now_100ns().saturating_add(limit);
        let request = Request { operation, payload, address, piece: None, deadline_100ns };
        let answered = within(&self.hal, limit, queue.emergency(request)).await;
        let Ok(Ok(answer)) = answered.map(|outcome| outcome.result) else { return false };
        answer.header.operation == Operation::COMPLETE_IO
            && answer.header.status == VstorStatus::SUCCESS
    }
}
