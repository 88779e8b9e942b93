//! What the boot protocol told, and the processors.

use super::{TestResult, check, guest_test};
use crate::machine::vp;

guest_test!(all_processors_are_online);

fn all_processors_are_online() -> TestResult {
    check!(vp::online().count() > 0, "none");
    Ok(())
}
