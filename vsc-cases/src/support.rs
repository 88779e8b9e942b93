//! What the cases share.

use alloc::format;
use alloc::string::String;
use core::fmt::Display;

use hv_abi::guid::Guid;
use hv_abi::vmbus::version::VmbusVersion;
use vsc_drivers::task::beside;
use vsc_drivers::{BusError, BusOptions, Offer, Vmbus};

use crate::{CaseResult, Environment, Problem};

/// Fails with `what` unless `holds`.
///
/// # Errors
///
/// [`Problem::Fail`].
pub fn check(holds: bool, what: impl FnOnce() -> String) -> CaseResult {
    if holds { Ok(()) } else { Err(Problem::Fail(what())) }
}

/// Turns an error into a failure that says at what.
pub fn failed<E: Display>(at: &str) -> impl FnOnce(E) -> Problem {
    move |error| Problem::Fail(format!("{at}: {error}"))
}

/// A reason to skip.
pub fn skip<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Skip(reason.into()))
}

/// Options as the environment wants them.
pub fn options<E: Environment>(environment: &E) -> BusOptions {
    let options = BusOptions::default();
    match environment.version() {
        Some(version) => options.forced(version),
        None => options,
    }
}

/// A connection that has all its offers.
pub struct Connected<'a, E: Environment> {
    /// The bus.
    pub bus: &'a Vmbus<E::Hal>,
    /// The version.
    pub version: VmbusVersion,
    /// What is offered.
    pub offers: alloc::vec::Vec<Offer>,
}

impl<E: Environment> Connected<'_, E> {
    /// The primary channels of one kind of device.
    ///
    /// # Errors
    ///
    /// [`Problem::Skip`] if there is none.
    pub fn of_kind(&self, interface: Guid, name: &str) -> Result<alloc::vec::Vec<Offer>, Problem> {
        let is_primary = |offer: &&Offer| offer.interface == interface && offer.sub_channel == 0;
        let found: alloc::vec::Vec<_> = self.offers.iter().filter(is_primary).cloned().collect();
        if found.is_empty() { skip(format!("the host offers no {name}")) } else { Ok(found) }
    }

    /// Goes on only from `version` on.
    ///
    /// # Errors
    ///
    /// [`Problem::Skip`] before.
    pub fn from_version(&self, version: VmbusVersion) -> CaseResult {
        if self.version < version {
            skip(format!("the connection is {}", self.version))
        } else {
            Ok(())
        }
    }
}

/// Connects a new bus, does `body`, and unloads; the bus's task runs all the while.
///
/// # Errors
///
/// That of `body`, or there is no connection.
pub async fn connected<E: Environment>(
    environment: &E,
    body: impl AsyncFnOnce(Connected<'_, E>) -> CaseResult,
) -> CaseResult {
    let bus = environment.new_bus(options(environment));
    let result = beside(bus.run(), async {
        let version = connect(&bus).await?;
        bus.all_offers_delivered().await.map_err(failed("all offers"))?;
        let offers = bus.offers();
        let result = body(Connected { bus: &bus, version, offers }).await;
        // Also after a failure: the next case begins without a connection.
        let unloaded = bus.unload().await;
        result.and(unloaded.map_err(failed("unload")))
    });
    result.await
}

/// Connects, or skips if the host has no bus or not the version asked for.
///
/// # Errors
///
/// [`Problem`].
pub async fn connect<H: vsc_drivers::Hal>(bus: &Vmbus<H>) -> Result<VmbusVersion, Problem> {
    match bus.connect().await {
        Ok(version) => Ok(version),
        Err(BusError::NoVersion) => skip("the host does not have this version of the protocol"),
        Err(error @ (BusError::Post(_) | BusError::NoAnswer(_))) => {
            skip(format!("there is no bus: {error}"))
        }
        Err(error) => Err(failed("connect")(error)),
    }
}
