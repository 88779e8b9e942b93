//! What devices count, for snapshots while the machine runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A device that counts.
pub trait Counted: Send + Sync {
    /// Its counters now, by name. They only grow.
    fn counts(&self) -> Vec<(&'static str, u64)>;
}

/// The devices of a machine that count.
#[derive(Default)]
pub struct Gauges(Mutex<Vec<(String, Arc<dyn Counted>)>>);

impl Gauges {
    /// Has a device counted under a name.
    pub fn add(&self, name: &str, device: Arc<dyn Counted>) {
        lock(&self.0).push((name.into(), device));
    }

    /// All counters that are not zero, by the device's name, a dot and the counter's.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let gauges = lock(&self.0);
        let all = gauges.iter().flat_map(|(name, device)| {
            let counts = device.counts().into_iter();
            counts.map(move |(counter, value)| (format!("{name}.{counter}"), value))
        });
        all.filter(|(_, value)| *value != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Counted for Two {
        fn counts(&self) -> Vec<(&'static str, u64)> {
            vec![("frames", 2), ("lost", 0)]
        }
    }

    #[test]
    fn counters_have_their_devices_names_and_zeros_are_left_out() {
        let gauges = Gauges::default();
        gauges.add("net0", Arc::new(Two));
        gauges.add("net1", Arc::new(Two));
        let read = gauges.read();
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [("net0.frames".into(), 2), ("net1.frames".into(), 2)]
        );
    }
}
