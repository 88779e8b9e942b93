//! The cases of `vsc-cases` on a [`Machine`].

use std::time::Duration;

use hv_abi::vmbus::version::VmbusVersion;
use vsc_cases::{CaseResult, Environment};
use vsc_drivers::storvsc::IoBuffer;
use vsc_drivers::{BusOptions, Vmbus};

use crate::run::block_on_within;
use crate::{InProcessHal, Machine};

/// A case may take this long. Most take milliseconds; a machine that builds other things is slow.
pub const CASE_LIMIT: Duration = Duration::from_secs(60);

/// A machine as the cases see it.
pub struct Cases<'a> {
    machine: &'a Machine,
    version: Option<VmbusVersion>,
}

impl<'a> Cases<'a> {
    /// At one version of the protocol, or at whatever is agreed.
    pub fn new(machine: &'a Machine, version: Option<VmbusVersion>) -> Self {
        Self { machine, version }
    }

    /// Runs a case to its end.
    ///
    /// # Errors
    ///
    /// The case's.
    pub fn run(&self, name: &str, case: impl Future<Output = CaseResult>) -> CaseResult {
        block_on_within(CASE_LIMIT, name, case)
    }
}

impl Environment for Cases<'_> {
    type Hal = InProcessHal;

    fn hal(&self) -> InProcessHal {
        self.machine.hal().clone()
    }

    fn new_bus(&self, options: BusOptions) -> Vmbus<InProcessHal> {
        self.machine.new_bus(options)
    }

    fn version(&self) -> Option<VmbusVersion> {
        self.version
    }

    fn lend(&self, bytes: usize) -> Option<IoBuffer> {
        IoBuffer::zeroed(bytes)
    }

    fn vps(&self) -> u32 {
        self.machine.vps()
    }
}
