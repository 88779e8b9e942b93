//! What the times of one packet mean as packets and bytes in a second.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Cost;

/// The benches' groups that move packets are named so, with the payload's bytes behind.
const GROUP: &str = "ring-";

/// At the least time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Flow {
    /// Packets in a second.
    pub packets_per_s: f64,
    /// Bytes of payload in a second.
    pub bytes_per_s: f64,
}

/// The flow of each bench that moves packets, by its name.
pub(super) fn flows(benches: &BTreeMap<String, Cost>) -> BTreeMap<String, Flow> {
    let flow = |(name, cost): (&String, &Cost)| Some((name.clone(), flow(name, *cost)?));
    benches.iter().filter_map(flow).collect()
}

fn flow(name: &str, cost: Cost) -> Option<Flow> {
    let (bytes, _) = name.strip_prefix(GROUP)?.split_once('/')?;
    let bytes: u32 = bytes.parse().ok()?;
    let packets_per_s = 1e9 / cost.least_ns;
    Some(Flow { packets_per_s, bytes_per_s: packets_per_s * f64::from(bytes) })
}

pub(super) fn print(flows: &BTreeMap<String, Flow>) {
    println!("\n{:<30} {:>12} {:>10}", "", "packets/s", "bytes/s");
    for (name, flow) in flows {
        let (packets, bytes) = (flow.packets_per_s / 1e6, flow.bytes_per_s / 1e9);
        println!("{name:<30} {packets:>10.2} M {bytes:>8.2} G");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packets_time_is_a_flow() {
        let cost = Cost { least_ns: 100.0, median_ns: 200.0 };
        let benches = [("ring-512/memcpy", cost), ("mutex/tas", cost), ("ring-x/memcpy", cost)];
        let flows = flows(&benches.map(|(name, cost)| (name.to_owned(), cost)).into());
        assert_eq!(flows.len(), 1);
        let flow = Flow { packets_per_s: 1e7, bytes_per_s: 512e7 };
        assert_eq!(flows["ring-512/memcpy"], flow);
    }
}
