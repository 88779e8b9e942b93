//! Interrupt lines, from any number of functions to the pins of the interrupt controllers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::stats::lock;

/// Sets a pin, by its GSI, to a level.
type SetPin = dyn Fn(u32, bool) + Send + Sync;

/// The lines of a machine. Clones are the same lines.
#[derive(Clone)]
pub struct IrqLines {
    set_pin: Arc<SetPin>,
    wires: Arc<Mutex<BTreeMap<u32, Arc<Wire>>>>,
}

/// What leads to one pin: it is high while anybody drives it high.
struct Wire {
    gsi: u32,
    drivers: Mutex<u32>,
    set_pin: Arc<SetPin>,
}

/// A device's end of a line. Clones are the same end: the last word of any of them counts.
#[derive(Clone)]
pub struct IrqLine(Arc<Driver>);

struct Driver {
    wire: Arc<Wire>,
    level: AtomicBool,
    raised: AtomicU64,
}

impl IrqLines {
    /// Lines whose pins `set_pin` sets.
    pub fn new(set_pin: impl Fn(u32, bool) + Send + Sync + 'static) -> Self {
        Self { set_pin: Arc::new(set_pin), wires: Arc::default() }
    }

    /// A new end of the line that leads to this pin.
    pub fn line(&self, gsi: u32) -> IrqLine {
        let new = || Arc::new(Wire { gsi, drivers: Mutex::new(0), set_pin: self.set_pin.clone() });
        let wire = lock(&self.wires).entry(gsi).or_insert_with(new).clone();
        IrqLine(Arc::new(Driver { wire, level: AtomicBool::new(false), raised: AtomicU64::new(0) }))
    }
}

impl IrqLine {
    /// A line that leads nowhere.
    pub fn fake() -> Self {
        IrqLines::new(|_, _| ()).line(0)
    }

    /// Drives the line high, or no longer.
    pub fn set(&self, level: bool) {
        // A device sets its line with each access of its registers, and rarely to something new.
        if self.level() != level {
            self.0.set(level);
        }
    }

    /// A short high level, for an edge-triggered pin. Nobody sees it while the line is high anyway.
    pub fn pulse(&self) {
        self.0.pulse();
    }

    /// Whether this end drives the line high.
    pub fn level(&self) -> bool {
        self.0.level.load(Ordering::Acquire)
    }

    /// How often this end went from low to high, pulses included.
    pub fn raised(&self) -> u64 {
        self.0.raised.load(Ordering::Relaxed)
    }
}

impl Driver {
    fn set(&self, level: bool) {
        // The pin is set under the lock, so that the last of two changes is the last that the controller sees.
        let mut drivers = lock(&self.wire.drivers);
        if self.level.load(Ordering::Relaxed) == level {
            return;
        }
        let before = *drivers;
        *drivers = if level { before.saturating_add(1) } else { before.saturating_sub(1) };
        if (before == 0) != (*drivers == 0) {
            (self.wire.set_pin)(self.wire.gsi, level);
        }
        if level {
            self.raised.fetch_add(1, Ordering::Relaxed);
        }
        self.level.store(level, Ordering::Release);
    }

    fn pulse(&self) {
        let drivers = lock(&self.wire.drivers);
        if *drivers == 0 {
            (self.wire.set_pin)(self.wire.gsi, true);
            (self.wire.set_pin)(self.wire.gsi, false);
        }
        self.raised.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Arc<Mutex<Vec<(u32, bool)>>>;

    fn lines() -> (IrqLines, Seen) {
        let seen = Seen::default();
        let pins = seen.clone();
        (IrqLines::new(move |gsi, level| lock(&pins).push((gsi, level))), seen)
    }

    fn take(seen: &Seen) -> Vec<(u32, bool)> {
        std::mem::take(&mut *lock(seen))
    }

    #[test]
    fn a_shared_line_is_high_while_anybody_drives_it() {
        let (lines, seen) = lines();
        let (one, other, elsewhere) = (lines.line(10), lines.line(10), lines.line(11));
        one.set(true);
        other.set(true);
        elsewhere.set(true);
        one.set(false);
        assert_eq!(take(&seen), [(10, true), (11, true)]);
        assert!(!one.level() && other.level());
        other.set(false);
        assert_eq!(take(&seen), [(10, false)]);
    }

    #[test]
    fn the_same_level_again_is_no_change() {
        let (lines, seen) = lines();
        let line = lines.line(10);
        let clone = line.clone();
        line.set(true);
        clone.set(true);
        assert_eq!((take(&seen), line.raised()), (vec![(10, true)], 1));
        clone.set(false);
        line.set(false);
        assert_eq!(take(&seen), [(10, false)]);
    }

    #[test]
    fn a_pulse_is_an_edge_unless_the_line_is_high_already() {
        let (lines, seen) = lines();
        let (one, other) = (lines.line(14), lines.line(14));
        one.pulse();
        assert_eq!(take(&seen), [(14, true), (14, false)]);
        other.set(true);
        one.pulse();
        assert_eq!((take(&seen), one.raised()), (vec![(14, true)], 2));
    }

    #[test]
    fn a_device_that_goes_lets_go_of_its_line() {
        let (lines, seen) = lines();
        let line = lines.line(10);
        line.set(true);
        let clone = line.clone();
        drop(line);
        assert_eq!(take(&seen), [(10, true)]);
        drop(clone);
        assert_eq!(take(&seen), [(10, false)]);
    }

    #[test]
    fn many_threads_leave_a_line_as_the_last_of_them_want_it() {
        let (lines, seen) = lines();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let line = lines.line(10);
                scope.spawn(move || {
                    for round in 0..1000 {
                        line.set(round % 2 == 0);
                    }
                });
            }
        });
        let seen = take(&seen);
        assert!(seen.windows(2).all(|pair| pair[0].1 != pair[1].1), "levels alternate");
        assert_eq!(seen.last(), Some(&(10, false)));
    }
}
