//! Shutdown: the host asks the kernel to end.

use hv_abi::guid::Guid;
use hv_abi::ic::shutdown::{
    SHUTDOWN_FLAG_FORCE, SHUTDOWN_FLAG_HIBERNATE, SHUTDOWN_FLAG_RESTART, SHUTDOWN_MIN_BYTES,
    SHUTDOWN_VERSIONS,
};
use hv_abi::ic::{IcMessageType, IcStatus, IcVersion, SHUTDOWN_INTERFACE};

use super::error::IcError;
use super::message::read;
use super::responder::{Service, Versions};

/// What the kernel shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShutdownKind {
    /// Switch off.
    PowerOff,
    /// Restart.
    Restart,
    /// Hibernate.
    Hibernate,
}

/// What the host asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownRequest {
    /// What to do.
    pub kind: ShutdownKind,
    /// Whatever stands against it.
    pub force: bool,
    /// Why, as in Windows' `InitiateSystemShutdownEx`.
    pub reason: u32,
    /// Seconds that it may take, 0 for no limit.
    pub timeout_seconds: u32,
}

/// The kernel's part.
pub trait ShutdownHandler: Send {
    /// Whether the kernel will do it; the host is told.
    fn accepts(&mut self, request: &ShutdownRequest) -> bool;

    /// Do it now: the host knows. Called by the driver's task, so rather have another task do what takes long.
    fn end(&mut self, request: ShutdownRequest);
}

/// Shutdown.
#[derive(Debug)]
pub struct Shutdown<S> {
    handler: S,
    accepted: Option<ShutdownRequest>,
}

impl<S: ShutdownHandler> Shutdown<S> {
    /// With this handler.
    pub const fn new(handler: S) -> Self {
        Self { handler, accepted: None }
    }
}

/// The request that flags stand for: none if they make no sense together (Linux, `shutdown_onchannelcallback`).
fn kind(flags: u32) -> Option<ShutdownKind> {
    match flags & !SHUTDOWN_FLAG_FORCE {
        0 => Some(ShutdownKind::PowerOff),
        SHUTDOWN_FLAG_RESTART => Some(ShutdownKind::Restart),
        SHUTDOWN_FLAG_HIBERNATE => Some(ShutdownKind::Hibernate),
        _ => None,
    }
}

impl<S: ShutdownHandler> Service for Shutdown<S> {
    const INTERFACE: Guid = SHUTDOWN_INTERFACE;
    const TYPE: IcMessageType = IcMessageType::SHUTDOWN;
    const VERSIONS: &'static [IcVersion] = &SHUTDOWN_VERSIONS;

    fn answer(&mut self, _versions: Versions, message: &mut [u8]) -> Result<IcStatus, IcError> {
        // The text behind them is for people, and there are none here.
        let [reason, timeout_seconds, flags]: [u32; 3] = read(message, SHUTDOWN_MIN_BYTES)?;
        let Some(kind) = kind(flags) else { return Ok(IcStatus::E_FAIL) };
        let force = flags & SHUTDOWN_FLAG_FORCE != 0;
        let request = ShutdownRequest { kind, force, reason, timeout_seconds };
        if !self.handler.accepts(&request) {
            return Ok(IcStatus::E_FAIL);
        }
        self.accepted = Some(request);
        Ok(IcStatus::S_OK)
    }

    fn answered(&mut self) {
        if let Some(request) = self.accepted.take() {
            self.handler.end(request);
        }
    }
}
