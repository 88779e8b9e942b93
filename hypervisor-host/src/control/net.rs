//! Network cards as a facility: what they are and did, and their cables.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Arguments, Facility, Failure};
use crate::net::card::Card;

/// The cards of a machine.
pub struct NetFacility {
    cards: Vec<Arc<dyn Card>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    name: String,
    up: bool,
}

impl NetFacility {
    /// These cards.
    pub fn new<C: Card + 'static>(cards: &[Arc<C>]) -> Self {
        Self { cards: Vec::new() }.with(cards)
    }

    /// And these.
    #[must_use]
    pub fn with<C: Card + 'static>(mut self, cards: &[Arc<C>]) -> Self {
        self.cards.extend(cards.iter().map(|card| Arc::clone(card) as Arc<dyn Card>));
        self
    }

    fn reports(&self) -> Vec<Value> {
        self.cards.iter().map(|card| card.report()).collect()
    }

    fn link(&self, Link { name, up }: Link) -> Result<Value, Failure> {
        let card = self.cards.iter().find(|card| card.name() == name).ok_or_else(|| {
            Failure::bad_request(format!(
                "there is no network card {name:?}; list those that there are by net list"
            ))
        })?;
        card.set_link(up);
        Ok(json!({}))
    }
}

impl Facility for NetFacility {
    fn name(&self) -> &'static str {
        "net"
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["list", "link"]
    }

    fn call(&self, verb: &str, arguments: Arguments) -> Result<Value, Failure> {
        match verb {
            "link" => self.link(arguments.read()?),
            _ => {
                arguments.read::<Nothing>()?;
                super::answer(&self.reports())
            }
        }
    }

    fn status(&self) -> Value {
        json!(self.reports())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulated::tulip::Tulip;
    use crate::net::backend::Offloads;
    use crate::net::mac::MacAddress;
    use crate::net::memory::pair;
    use crate::vsp::netvsp::{NetVsp, NetVspOptions};

    fn arguments(value: Value) -> Arguments {
        Arguments(value.as_object().unwrap().clone())
    }

    #[test]
    fn a_cable_is_plugged_out_by_its_cards_name() {
        let (backend, _peer) = pair(Offloads::empty()).unwrap();
        let card = Arc::new(NetVsp::new(NetVspOptions::new(0), Box::new(backend)));
        let (backend, _other) = pair(Offloads::empty()).unwrap();
        let tulip = Tulip::new(1, MacAddress::of_card(1), Box::new(backend)).unwrap();
        let tulip = Arc::new(tulip);
        let facility = NetFacility::new(&[Arc::clone(&card)]).with(&[Arc::clone(&tulip)]);
        let link = |name, up| facility.call("link", arguments(json!({"name": name, "up": up})));
        assert_eq!(link("net0", false), Ok(json!({})));
        assert!(!card.is_link_up());
        assert!(tulip.is_link_up());
        assert_eq!(link("net1", false), Ok(json!({})));
        assert!(!tulip.is_link_up());
        assert_eq!(facility.call("list", Arguments::default()).unwrap()[0]["link_up"], false);
        assert_eq!(link("net0", true), Ok(json!({})));
        assert_eq!(facility.status()[0]["link_up"], true);
        let error = link("net2", true).unwrap_err();
        assert!(error.message.contains("net2"), "{error}");
        assert!(facility.call("link", Arguments::default()).is_err());
        assert!(facility.call("list", arguments(json!({"x": 1}))).is_err());
    }
}
