//! x
use kernel::cmdline::StudyOptions;
pub(crate) fn run(_l: &str, _o: &StudyOptions) -> u8 {
    0
}
