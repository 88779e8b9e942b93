//! The conformance matrix: one case for every rule of the Hyper-V interface worth breaking.
//!
//! [`cases!`] registers functions of a facility's module (`conformance/synic.rs`), each with the source it rests on;
//! the function's name is the rule. [`mod@run`] runs them and prints the matrix. `docs/conformance.md` says how to add one.
//!
//! A case restores what it changed, asserts no durations, and needs nothing but the hypervisor: where that does
//! not offer something, the case is skipped and says so.

#![expect(unsafe_code, reason = "cases are records in a section of the image")]

mod apic;
mod clocks;
mod crash;
mod discovery;
mod extended;
mod flush_rules;
mod hypercalls;
mod idle;
mod ipi;
mod locks;
mod memory;
mod messages;
mod registers;
mod run;
mod selftest;
pub(crate) mod support;
mod synic;
mod synthetic;
mod timers;

pub(crate) use crate::guest_tests::{Problem, TestResult, check, skip};
pub(crate) use kernel::matrix::Facility;
pub(crate) use run::run;

/// A text as a runner finds it in the image.
#[repr(C)]
struct ImageText {
    start: *const u8,
    length: usize,
}

impl ImageText {
    const fn new(text: &'static str) -> Self {
        Self { start: text.as_ptr(), length: text.len() }
    }
}

/// What a record of `.enl.tests` says of a case beyond its name (`docs/interfaces.md`).
#[repr(C)]
pub(crate) struct CaseInfo {
    facility_name: ImageText,
    source_text: ImageText,
    /// From here on it is the kernel's own business.
    pub(crate) facility: Facility,
    /// What the rule rests on, such as `TLFS §11.10.3`.
    pub(crate) source: &'static str,
    /// It changes what can't be put back: it runs after all others.
    pub(crate) is_last: bool,
}

// SAFETY: all of it is constant.
unsafe impl Sync for CaseInfo {}

impl CaseInfo {
    /// A case of `facility` that rests on `source`.
    pub(crate) const fn new(facility: Facility, source: &'static str, is_last: bool) -> Self {
        Self {
            facility_name: ImageText::new(facility.name()),
            source_text: ImageText::new(source),
            facility,
            source,
            is_last,
        }
    }
}

/// Registers functions as cases of a facility, each with the source it rests on:
/// `cases!(SynIc: [a_full_slot_sets_message_pending => "TLFS §11.10.3"]);`
///
/// A case that changes what only a reset puts back is registered with `cases!(SynIc, last: [...])`.
macro_rules! cases {
    ($facility:ident: [ $($function:ident => $source:expr),* $(,)? ]) => {
        $crate::conformance::cases!(@ $facility, false, $($function => $source),*);
    };
    ($facility:ident, last: [ $($function:ident => $source:expr),* $(,)? ]) => {
        $crate::conformance::cases!(@ $facility, true, $($function => $source),*);
    };
    (@ $facility:ident, $is_last:literal, $($function:ident => $source:expr),*) => {
        $(const _: () = {
            static INFO: $crate::conformance::CaseInfo = $crate::conformance::CaseInfo::new(
                $crate::conformance::Facility::$facility,
                $source,
                $is_last,
            );
            #[unsafe(link_section = ".enl.tests")]
            #[used]
            static CASE: $crate::guest_tests::Test = $crate::guest_tests::Test::case(
                concat!(module_path!(), "::", stringify!($function)),
                $function,
                &INFO,
            );
        };)*
    };
}
pub(crate) use cases;

/// Ends the case: the hypervisor deviates from the specification in a way that is known. What it does, and the
/// paragraph that it deviates from.
macro_rules! deviates {
    ($what:expr, $source:expr $(,)?) => {
        return Err($crate::conformance::Problem::Deviation { what: $what.into(), source: $source })
    };
}
pub(crate) use deviates;
