//! All cases of `vsc-cases` against the host's own code, at every version of the protocol.

use std::sync::Arc;

use hv_abi::guid::Guid;
use hv_abi::vmbus::version::VmbusVersion;
use hypervisor_host::vmbus::{
    DeviceOffer, HostChannel, ServeError, ServerOptions, VmbusDevice, Wake,
};
use in_process::{Cases, Devices, Machine};
use vsc_cases::Problem;

/// Sends back what it gets, by packets of the same kind.
struct Echo(u8);

/// Processors.
const VPS: u32 = 4;
/// Nobody else's.
const ECHO: Guid = Guid::new(0x3f4e_1a20, 0x77aa, 0x4b11, 0x9c3e_0001_0002_0003);

impl VmbusDevice for Echo {
    fn offer(&self) -> DeviceOffer {
        let instance = Guid::new(self.0.into(), 1, 2, 3);
        DeviceOffer::new(&format!("echo{}", self.0), ECHO, instance)
    }

    fn serve(&self, channel: &mut HostChannel) -> Result<(), ServeError> {
        loop {
            match channel.wait(&[], None)? {
                Wake::Closed => return Ok(()),
                _ => while channel.receive()?.is_some() {},
            }
        }
    }
}

fn machine() -> Machine {
    let echoes = (0..20).map(|number| Arc::new(Echo(number)) as Arc<dyn VmbusDevice>);
    let devices = Devices::new(VPS);
    Machine::new(ServerOptions::new(VPS), devices.all().into_iter().chain(echoes).collect())
}

/// Runs every case; each that fails, by name.
fn failures(version: Option<VmbusVersion>) -> (usize, usize, Vec<String>) {
    let machine = machine();
    let cases = Cases::new(&machine, version);
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    macro_rules! run {
        ($facility:ident, $module:ident: [$($name:ident => $source:expr),* $(,)?]) => { $(
            let name = concat!(stringify!($module), "::", stringify!($name));
            // In a frame of its own: together, the cases' futures are larger than a stack.
            let run = || cases.run(name, vsc_cases::$module::$name(&cases));
            match run() {
                Ok(()) => passed += 1,
                Err(Problem::Skip(reason)) => {
                    println!("skip {name}: {reason}");
                    skipped += 1;
                }
                Err(Problem::Fail(reason)) => failed.push(format!("{name}: {reason}")),
            }
        )* };
    }
    vsc_cases::for_each_case!(run);
    (passed, skipped, failed)
}

macro_rules! at_version {
    ($($name:ident => $version:expr),* $(,)?) => { $(
        #[test]
        fn $name() {
            let (passed, skipped, failed) = failures($version);
            println!("{passed} passed, {skipped} skipped");
            assert!(failed.is_empty(), "{failed:#?}");
            assert!(passed > 10, "only {passed} cases passed, {skipped} were skipped");
        }
    )* };
}

at_version! {
    every_case_at_whatever_version_is_agreed => None,
    every_case_at_0_13 => Some(VmbusVersion::V0_13),
    every_case_at_1_1 => Some(VmbusVersion::V1_1),
    every_case_at_2_4 => Some(VmbusVersion::V2_4),
    every_case_at_3_0 => Some(VmbusVersion::V3_0),
    every_case_at_4_0 => Some(VmbusVersion::V4_0),
    every_case_at_4_1 => Some(VmbusVersion::V4_1),
    every_case_at_5_0 => Some(VmbusVersion::V5_0),
    every_case_at_5_1 => Some(VmbusVersion::V5_1),
    every_case_at_5_2 => Some(VmbusVersion::V5_2),
    every_case_at_5_3 => Some(VmbusVersion::V5_3),
    every_case_at_6_0 => Some(VmbusVersion::V6_0),
}
