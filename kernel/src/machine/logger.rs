//! `log` on the console: time since boot, level, processor, where from, what.

use log::{LevelFilter, Log, Metadata, Record};

use super::console::println;
use super::{clock, vp};

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let micros = clock::since_boot_100ns() / 10;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let target = record.target().rsplit("::").next().unwrap_or_default();
        println!(
            "[{seconds:4}.{micros:06}] {:5} vp{} {target}: {}",
            record.level(),
            vp::current_index(),
            record.args()
        );
    }

    fn flush(&self) {}
}

/// Prints what is at most as detailed as `level`.
pub(crate) fn init(level: LevelFilter) {
    // A second logger can't be set; the first is this one.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
}
