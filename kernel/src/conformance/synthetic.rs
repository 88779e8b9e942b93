//! VMBus and its devices: the cases of `vsc-cases`, which also run without a virtual machine.

use alloc::boxed::Box;
use alloc::string::String;

use hv_abi::vmbus::version::VmbusVersion;
use vsc_cases::{CaseResult, Environment};
use vsc_drivers::BusOptions;
use vsc_drivers::storvsc::IoBuffer;

use super::{Problem, TestResult, cases};
use crate::machine::boot::machine;
use crate::machine::vmbus::{self as machine_bus, Bus, KernelHal, tasks};
use crate::machine::vp;

/// This kernel, as the cases see it.
struct Here(KernelHal);

impl Environment for Here {
    type Hal = KernelHal;

    fn hal(&self) -> KernelHal {
        self.0
    }

    fn new_bus(&self, options: BusOptions) -> Bus {
        machine_bus::replace(self.0, options)
    }

    fn version(&self) -> Option<VmbusVersion> {
        let (major, minor) = machine()?.options.vmbus_version?;
        Some(VmbusVersion::new(major, minor))
    }

    fn lend(&self, bytes: usize) -> Option<IoBuffer> {
        IoBuffer::zeroed(bytes)
    }

    fn vps(&self) -> u32 {
        vp::online().count() as u32
    }
}

fn run<F: Future<Output = CaseResult>>(case: impl FnOnce(&'static Here) -> F) -> TestResult {
    let skip = |reason: &str| Err(Problem::Skip(String::from(reason)));
    let hal = match machine_bus::hal() {
        Ok(hal) => hal,
        Err(reason) => return skip(reason),
    };
    // A few bytes; a case that is abandoned must not leave a dangling one.
    let here: &'static Here = Box::leak(Box::new(Here(hal)));
    let result = tasks::block_on(core::future::pending::<()>(), Box::pin(case(here)));
    machine_bus::forget();
    result.map_err(|problem| match problem {
        vsc_cases::Problem::Skip(reason) => Problem::Skip(reason),
        vsc_cases::Problem::Fail(reason) => Problem::Fail(reason),
    })
}

/// Registers the cases of one facility.
macro_rules! register {
    ($facility:ident, $module:ident: [ $($name:ident => $source:expr),* $(,)? ]) => {
        mod $module {
            use super::{TestResult, cases, run};

            $(fn $name() -> TestResult {
                run(|here| vsc_cases::$module::$name(here))
            })*

            cases!($facility: [ $($name => $source),* ]);
        }
    };
}

vsc_cases::for_each_case!(register);
