//! The cards of a machine, from its options to its report.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{NetVsp, NetVspOptions};
use crate::config::VpCount;
use crate::net::card::Card;
use crate::net::counters::Counts;
use crate::net::mac::MacAddress;
use crate::net::open::{NetError, Networks};
use crate::net::options::NetOptions;

/// Makes a machine's synthetic cards and what they are plugged into; `machine` is its [number](machine_number).
///
/// # Errors
/// A network can't be had.
pub fn cards<'a>(
    options: impl Iterator<Item = (u16, &'a NetOptions)>,
    networks: &mut Networks,
    machine: u16,
    vps: VpCount,
) -> Result<Vec<Arc<NetVsp>>, NetError> {
    let make = |(index, options): (u16, &NetOptions)| {
        let backend = networks.open(options)?;
        let of_card = NetVspOptions::new(index);
        let options = NetVspOptions {
            address: options.mac.unwrap_or(MacAddress::of_machines_card(machine, index)),
            mtu: options.mtu,
            // There are no more VPs than that.
            queues: options.queues.unwrap_or(vps.get() as u16),
            ..of_card
        };
        Ok(Arc::new(NetVsp::new(options, backend)))
    };
    options.map(make).collect()
}

/// A number that hardly two machines have that run at the same time: machines that share a network must not share addresses.
pub fn machine_number() -> u16 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    (std::process::id(), since_1970).hash(&mut hasher);
    hasher.finish() as u16
}

/// What a card did, in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetReport {
    /// `net0` and so on.
    pub name: String,
    /// What it is plugged into, for a person.
    pub network: String,
    /// Its address.
    pub mac: String,
    /// Longest frame without its Ethernet header, in bytes.
    pub mtu: u16,
    /// Whether it is connected at the end.
    pub link_up: bool,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
}

impl NetVsp {
    /// What it did so far.
    pub fn report(&self) -> NetReport {
        NetReport {
            name: self.name(),
            network: self.network(),
            mac: self.address().to_string(),
            mtu: self.mtu,
            link_up: self.is_link_up(),
            counts: self.counts(),
        }
    }
}

impl Card for NetVsp {
    fn name(&self) -> String {
        self.name()
    }

    fn set_link(&self, up: bool) {
        self.set_link(up);
    }

    fn report(&self) -> serde_json::Value {
        serde_json::json!(self.report())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::backend::Offloads;
    use crate::net::memory::pair;

    #[test]
    fn a_report_is_flat_and_survives_json() {
        let (backend, _peer) = pair(Offloads::empty()).unwrap();
        let card = NetVsp::new(NetVspOptions::new(2), Box::new(backend));
        card.set_link(false);
        let report = card.report();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["name"], &json["mac"]), (&"net2".into(), &"02:15:5d:00:00:02".into()));
        assert_eq!((&json["rx_no_buffer"], &json["link_up"]), (&0.into(), &false.into()));
        assert_eq!(serde_json::from_value::<NetReport>(json).unwrap(), report);
    }
}
