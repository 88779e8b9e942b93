//! The bus against a guest in the same process.

mod channels;
mod connection;
mod echo;
mod golden;
mod hostile;
mod offers;

use hv_abi::vmbus::version::VmbusVersion;

/// Every version, oldest first.
fn versions() -> impl Iterator<Item = VmbusVersion> {
    VmbusVersion::ALL.into_iter().rev()
}
