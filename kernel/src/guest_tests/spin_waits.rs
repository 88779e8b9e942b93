//! Waits without enlightenment: counted or not, and never told to the hypervisor.

use hv_enlightenments::spin_wait::{Bare, Plain};

use super::{TestResult, check, guest_test};
use crate::conformance::support::spin::{counts, threshold, wait};
use crate::machine::hyperv::{self, Kernel};

guest_test!(a_plain_wait_is_counted_and_never_notified, a_bare_wait_is_not_even_counted);

fn a_plain_wait_is_counted_and_never_notified() -> TestResult {
    let rounds = threshold().unwrap_or(10_000) * 2 + 7;
    let before = hyperv::long_spins_seen_by_host();
    let found = wait::<Plain<Kernel>>(rounds);
    check!(found == counts(rounds, 0), "{found:?}");
    let after = hyperv::long_spins_seen_by_host();
    check!(before == after, "the host saw some: {before:?} became {after:?}");
    Ok(())
}

fn a_bare_wait_is_not_even_counted() -> TestResult {
    let found = wait::<Bare>(1000);
    check!(found == counts(0, 0), "{found:?}");
    Ok(())
}
