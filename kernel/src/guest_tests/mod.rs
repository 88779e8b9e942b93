//! Tests that run in the kernel: ordinary functions, collected from the section `.enl.tests`.
//!
//! [`guest_test!`] registers a function. A test that needs what the machine does not have is skipped with the
//! reason; none asserts on times. The cases of [`crate::conformance`] are in the same section, with more to say.

#![expect(unsafe_code, reason = "reads a section that the linker puts together")]

mod backtrace;
mod boot;
mod clock;
pub(crate) mod each_vp;
mod frames_and_heap;
mod interrupts;
mod pci;
mod protection;
mod queue_locks;
mod remap;
mod smp;
mod spin_locks;
mod spin_waits;
mod timer;
pub(crate) mod translations;

use alloc::string::String;

use crate::conformance::CaseInfo;
use crate::machine::console::{self, println};
use crate::machine::exit;

/// What a test returns; errors made of text fail it.
pub(crate) type TestResult = Result<(), Problem>;

/// Why a test did not pass.
pub(crate) enum Problem {
    /// Skip, because of this.
    Skip(String),
    /// Fail, because of this.
    Fail(String),
    /// Neither: the hypervisor is known to deviate from its specification.
    Deviation {
        /// What it does.
        what: String,
        /// What it deviates from.
        source: &'static str,
    },
}

/// A record of `.enl.tests` (`docs/interfaces.md`).
#[repr(C)]
pub(crate) struct Test {
    name: *const u8,
    name_length: usize,
    pub(crate) function: fn() -> TestResult,
    /// For cases of the conformance matrix.
    pub(crate) info: Option<&'static CaseInfo>,
}

// SAFETY: the name is a constant.
unsafe impl Sync for Test {}

impl Test {
    /// The record of a function whose path is `path`.
    pub(crate) const fn new(path: &'static str, function: fn() -> TestResult) -> Self {
        let name = short(path);
        Self { name: name.as_ptr(), name_length: name.len(), function, info: None }
    }

    /// The record of a case whose path is `path`.
    pub(crate) const fn case(
        path: &'static str,
        function: fn() -> TestResult,
        info: &'static CaseInfo,
    ) -> Self {
        Self { info: Some(info), ..Self::new(path, function) }
    }

    pub(crate) fn name(&self) -> &'static str {
        // SAFETY: pointer and length come from a `&'static str`.
        let bytes = unsafe { core::slice::from_raw_parts(self.name, self.name_length) };
        // SAFETY: as above.
        unsafe { core::str::from_utf8_unchecked(bytes) }
    }
}

const _: () = assert!(size_of::<Test>() == 32);

/// Registers functions as tests, named by their module and their own name.
macro_rules! guest_test {
    ($($function:ident),* $(,)?) => {
        $(const _: () = {
            #[unsafe(link_section = ".enl.tests")]
            #[used]
            static TEST: $crate::guest_tests::Test = $crate::guest_tests::Test::new(
                concat!(module_path!(), "::", stringify!($function)),
                $function,
            );
        };)*
    };
}
pub(crate) use guest_test;

/// Fails the test unless the condition holds; the text says what was found.
macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::guest_tests::Problem::Fail(alloc::format!($($text)+)));
        }
    };
}
pub(crate) use check;

/// Skips the test with a reason.
macro_rules! skip {
    ($($text:tt)+) => {
        return Err($crate::guest_tests::Problem::Skip(alloc::format!($($text)+)))
    };
}
pub(crate) use skip;

/// A path without crate and this module: `clock::counter_is_monotonic`.
const fn short(path: &'static str) -> &'static str {
    // Both modules' names have eleven letters.
    const PREFIX: &str = "enlighten_kernel::guest_tests::";
    const _: () = assert!(PREFIX.len() == "enlighten_kernel::conformance::".len());
    match path.split_at_checked(PREFIX.len()) {
        Some((_, name)) => name,
        None => path,
    }
}

/// All records: tests and cases.
pub(crate) fn records() -> &'static [Test] {
    unsafe extern "C" {
        static __enl_tests_start: u8;
        static __enl_tests_end: u8;
    }
    let (start, end) = (&raw const __enl_tests_start, &raw const __enl_tests_end);
    let count = (end.addr() - start.addr()) / size_of::<Test>();
    // SAFETY: the section consists of such records only.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

/// The tests, without the cases.
fn tests() -> impl Iterator<Item = &'static Test> + Clone {
    records().iter().filter(|record| record.info.is_none())
}

/// Prints the names of tests and cases; the exit code.
pub(crate) fn list() -> u8 {
    for test in records() {
        println!("{}", test.name());
    }
    exit::SUCCESS
}

/// Runs all tests, or those with these names; the exit code.
pub(crate) fn run(names: Option<&str>) -> u8 {
    let Some(names) = names else { return run_each(tests()) };
    let unknown = names.split(',').find(|name| tests().all(|test| test.name() != *name));
    if let Some(name) = unknown {
        println!("cannot run test `{name}`: there is none of that name; `list` prints the names");
        return exit::BAD_INPUT;
    }
    run_each(names.split(',').filter_map(|name| tests().find(|test| test.name() == name)))
}

fn run_each(tests: impl Iterator<Item = &'static Test>) -> u8 {
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for test in tests {
        console::event("test-begin", |event| event.str("name", test.name()).end());
        match (test.function)() {
            Ok(()) => {
                passed += 1;
                report(test.name(), "pass", None);
            }
            Err(Problem::Skip(reason)) => {
                skipped += 1;
                report(test.name(), "skip", Some(&reason));
            }
            Err(Problem::Fail(reason) | Problem::Deviation { what: reason, .. }) => {
                failed += 1;
                report(test.name(), "fail", Some(&reason));
            }
        }
    }
    log::info!("{passed} tests passed, {skipped} skipped, {failed} failed");
    if failed == 0 { exit::SUCCESS } else { exit::FAILURE }
}

pub(crate) fn report(name: &str, result: &str, reason: Option<&str>) {
    match reason {
        None => log::info!("{result} {name}"),
        Some(reason) => log::info!("{result} {name}: {reason}"),
    }
    console::event("test", |event| {
        let event = event.str("name", name).str("result", result);
        match reason {
            Some(reason) => event.str("reason", reason).end(),
            None => event.end(),
        }
    });
}
