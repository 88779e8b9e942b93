//! Heartbeat: tells the host that the kernel still runs tasks.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_abi::guid::Guid;
use hv_abi::ic::heartbeat::{
    ApplicationState, HEARTBEAT_MIN_BYTES, HEARTBEAT_V3, HEARTBEAT_VERSIONS, HeartbeatMessage,
};
use hv_abi::ic::{HEARTBEAT_INTERFACE, IcMessageType, IcStatus, IcVersion};
use zerocopy::IntoBytes;

use super::error::IcError;
use super::message::{put, read};
use super::responder::{Service, Versions};

/// The heartbeat. Copies share the state that the host is told.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat(Arc<State>);

#[derive(Debug, Default)]
struct State {
    application: AtomicU32,
    beats: AtomicU64,
}

impl Heartbeat {
    /// Tells nothing of the application.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the host from now on how the application is (from version 3.0 on).
    pub fn set_application_state(&self, state: ApplicationState) {
        self.0.application.store(state.0, Ordering::Relaxed);
    }

    /// How often the host has asked.
    pub fn beats(&self) -> u64 {
        self.0.beats.load(Ordering::Relaxed)
    }
}

impl Service for Heartbeat {
    const INTERFACE: Guid = HEARTBEAT_INTERFACE;
    const TYPE: IcMessageType = IcMessageType::HEARTBEAT;
    const VERSIONS: &'static [IcVersion] = &HEARTBEAT_VERSIONS;

    fn answer(&mut self, versions: Versions, message: &mut [u8]) -> Result<IcStatus, IcError> {
        let mut answer: HeartbeatMessage = read(message, HEARTBEAT_MIN_BYTES)?;
        answer.seq_num = answer.seq_num.wrapping_add(1);
        if versions.message >= HEARTBEAT_V3 {
            answer.application_state = ApplicationState(self.0.application.load(Ordering::Relaxed));
        }
        put(message, 0, answer.as_bytes());
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        Ok(IcStatus::S_OK)
    }
}
