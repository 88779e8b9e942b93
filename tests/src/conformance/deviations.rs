//! What hypervisors that are not ours are known to do otherwise than the specification says.
//!
//! A case that fails there for a reason listed here is shown as a deviation, with the paragraph it deviates from. Our own
//! host has no such list.

use super::judge::{Outcome, Verdict};

/// One known deviation.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Columns whose name begins so.
    pub column: &'static str,
    /// The case that fails there.
    pub case: &'static str,
    /// What the hypervisor does.
    pub what: &'static str,
    /// What it deviates from.
    pub source: &'static str,
}

/// All that are known.
pub const KNOWN: &[Known] = &[
    // QEMU 7.2, hw/hyperv/hyperv.c, hyperv_hcall_post_message: maps the block wherever it is.
    Known {
        column: "QEMU KVM",
        case: "hypercalls::blocks::a_message_that_crosses_a_page_is_refused",
        what: "QEMU takes a block that crosses a page",
        source: "TLFS Hypercall Status Codes, HV_STATUS_INVALID_ALIGNMENT",
    },
    Known {
        column: "QEMU KVM",
        case: "hypercalls::blocks::a_message_outside_memory_is_refused",
        what: "QEMU looks at the connection first",
        source: "TLFS Hypercall Status Codes, HV_STATUS_INVALID_ALIGNMENT",
    },
];

/// The verdict on a case of a column that is not ours, told as a deviation if it is a known one.
pub fn explain(known: &[Known], column: &str, case: &str, verdict: Verdict) -> Verdict {
    let fits = |known: &&Known| column.starts_with(known.column) && case == known.case;
    match known.iter().find(fits) {
        Some(known) if verdict.outcome == Outcome::Fail => Verdict {
            outcome: Outcome::Deviation,
            reason: format!("{} ({}): {}", known.what, known.source, verdict.reason),
        },
        _ => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Known =
        Known { column: "QEMU", case: "f::a", what: "it does not", source: "TLFS §1" };

    fn fail() -> Verdict {
        Verdict { outcome: Outcome::Fail, reason: "status 3".into() }
    }

    #[test]
    fn a_known_failure_is_a_deviation_with_its_source() {
        let verdict = explain(&[ONE], "QEMU KVM hv-*", "f::a", fail());
        assert_eq!(verdict.outcome, Outcome::Deviation);
        assert_eq!(verdict.reason, "it does not (TLFS §1): status 3");
    }

    #[test]
    fn other_cases_other_columns_and_passes_stay_what_they_are() {
        assert_eq!(explain(&[ONE], "QEMU", "f::b", fail()), fail());
        assert_eq!(explain(&[ONE], "our host", "f::a", fail()), fail());
        let pass = Verdict { outcome: Outcome::Pass, reason: String::new() };
        assert_eq!(explain(&[ONE], "QEMU", "f::a", pass.clone()), pass);
    }

    #[test]
    fn none_is_about_our_host_and_each_has_its_paragraph() {
        for known in KNOWN {
            assert!(known.column.starts_with("QEMU"), "{known:?}");
            assert!(known.source.contains('§') || known.source.contains("TLFS"), "{known:?}");
        }
    }
}
