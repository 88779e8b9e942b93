//! Posting messages, again if the hypervisor has no room for them at the moment.

use hv_abi::hypercall::HvError;
use hv_abi::vmbus::VMBUS_MESSAGE_TYPE;

use super::Shared;
use crate::hal::Hal;
use crate::task::sleep_until;

/// How often a message is posted at most (Linux, `vmbus_post_msg`).
const ATTEMPTS: u32 = 100;
/// How long to wait before the second attempt; twice as long before each further one.
const FIRST_DELAY_100NS: u64 = 100;
/// The longest wait between attempts.
const LAST_DELAY_100NS: u64 = crate::SECOND_100NS / 10;

/// Which refusals are worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// If there is no room.
    NoRoom,
    /// Also if the connection seems not to be there, as hosts say of messages that come too often (Linux, `vmbus_post_msg`).
    Any,
}

impl Retry {
    fn worth(self, error: HvError) -> bool {
        match error {
            HvError::INSUFFICIENT_MEMORY | HvError::INSUFFICIENT_BUFFERS => true,
            HvError::INVALID_CONNECTION_ID => self == Self::Any,
            _ => false,
        }
    }
}

impl<H: Hal> Shared<H> {
    /// When somebody who begins to wait now has waited for long enough.
    pub(super) fn time_limit(&self) -> u64 {
        self.hal.now_100ns().saturating_add(self.options.time_limit_100ns)
    }

    /// Posts a message to `connection`, again and again until `deadline` if need be.
    pub(super) async fn post(
        &self,
        connection: u32,
        message: &[u8],
        retry: Retry,
        deadline: u64,
    ) -> Result<(), HvError> {
        let mut delay = FIRST_DELAY_100NS;
        let mut attempt = 1;
        loop {
            let Err(error) = self.hal.post_message(connection, VMBUS_MESSAGE_TYPE, message) else {
                return Ok(());
            };
            let now = self.hal.now_100ns();
            if !retry.worth(error) || attempt == ATTEMPTS || now >= deadline {
                return Err(error);
            }
            self.counters.post_retries.increment();
            sleep_until(&self.hal, now.saturating_add(delay).min(deadline)).await;
            delay = (delay * 2).min(LAST_DELAY_100NS);
            attempt += 1;
        }
    }
}
