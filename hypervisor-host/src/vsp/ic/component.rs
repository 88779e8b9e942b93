//! What makes a component, apart from its [`Session`].

use hv_abi::guid::Guid;
use hv_abi::ic::IcVersion;

use super::calls::Wake;
use super::session::Session;

/// A component, for all the time that a machine runs. Its channel may be opened and closed many times.
pub trait Component: Send + Sync {
    /// One open channel.
    type Session: Session;
    /// Its name, in options and reports.
    const NAME: &'static str;
    /// Its interface.
    const INTERFACE: Guid;
    /// Its instance, the same in every machine.
    const INSTANCE: Guid;
    /// Versions of its messages, oldest first.
    const VERSIONS: &'static [IcVersion];

    /// A guest opened the channel. `wake` has the session polled.
    fn open(&self, wake: Wake) -> Self::Session;
}
