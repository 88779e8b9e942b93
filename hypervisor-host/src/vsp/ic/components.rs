//! Which components a machine has, and all of them together.

use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::calls::CallStatus;
use super::clock::Clocks;
use super::heartbeat::HeartbeatStatus;
use super::kvp::HostItems;
use super::timesync::TimesyncStatus;
use super::{Component, Heartbeat, IcDevice, Kvp, Shutdown, Timesync};
use crate::vmbus::VmbusDevice;

/// The components that a machine is given: `on`, `off`, or names with commas between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcChoice {
    /// Heartbeat.
    pub heartbeat: bool,
    /// Shutdown.
    pub shutdown: bool,
    /// Time synchronisation.
    pub timesync: bool,
    /// Key-value exchange.
    pub kvp: bool,
}

impl IcChoice {
    /// All.
    pub const ON: Self = Self { heartbeat: true, shutdown: true, timesync: true, kvp: true };
    /// None.
    pub const OFF: Self = Self { heartbeat: false, shutdown: false, timesync: false, kvp: false };

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            Heartbeat::NAME => &mut self.heartbeat,
            Shutdown::NAME => &mut self.shutdown,
            Timesync::NAME => &mut self.timesync,
            Kvp::NAME => &mut self.kvp,
            _ => return None,
        })
    }
}

impl Default for IcChoice {
    fn default() -> Self {
        Self::ON
    }
}

impl FromStr for IcChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => return Ok(Self::ON),
            "off" => return Ok(Self::OFF),
            _ => {}
        }
        let mut choice = Self::OFF;
        for name in text.split(',') {
            let unknown = || {
                format!(
                    "there is no component '{name}'; give on, off, or some of heartbeat, shutdown, timesync, kvp"
                )
            };
            *choice.switch(name).ok_or_else(unknown)? = true;
        }
        Ok(choice)
    }
}

/// The components of a machine. Copies are handles of the same ones.
#[derive(Clone, Default)]
pub struct Components {
    /// Heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// Shutdown.
    pub shutdown: Option<Shutdown>,
    /// Time synchronisation.
    pub timesync: Option<Timesync>,
    /// Key-value exchange.
    pub kvp: Option<Kvp>,
}

impl Components {
    /// Those of `choice`.
    pub fn new(choice: IcChoice, clocks: Arc<dyn Clocks>, host_items: HostItems) -> Self {
        Self {
            heartbeat: choice.heartbeat.then(Heartbeat::default),
            shutdown: choice.shutdown.then(Shutdown::default),
            timesync: choice.timesync.then(|| Timesync::new(clocks)),
            kvp: choice.kvp.then(|| Kvp::new(host_items)),
        }
    }

    /// As devices for a bus.
    pub fn devices(&self) -> Vec<Arc<dyn VmbusDevice>> {
        fn device<C: Component + Clone + 'static>(it: &Option<C>) -> Option<Arc<dyn VmbusDevice>> {
            it.clone().map(|it| Arc::new(IcDevice::new(it)) as Arc<dyn VmbusDevice>)
        }
        let all = [
            device(&self.heartbeat),
            device(&self.shutdown),
            device(&self.timesync),
            device(&self.kvp),
        ];
        all.into_iter().flatten().collect()
    }
}

/// What a report tells of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ComponentsReport {
    /// Heartbeat, if the guest was offered it; the others likewise.
    pub heartbeat: Option<HeartbeatStatus>,
    /// Shutdown.
    pub shutdown: Option<CallStatus>,
    /// Time synchronisation.
    pub timesync: Option<TimesyncStatus>,
    /// Key-value exchange.
    pub kvp: Option<CallStatus>,
}

impl Components {
    /// What is known of them now.
    pub fn report(&self) -> ComponentsReport {
        ComponentsReport {
            heartbeat: self.heartbeat.as_ref().map(Heartbeat::status),
            shutdown: self.shutdown.as_ref().map(Shutdown::status),
            timesync: self.timesync.as_ref().map(Timesync::status),
            kvp: self.kvp.as_ref().map(Kvp::status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_chosen_by_name() {
        assert_eq!("on".parse(), Ok(IcChoice::ON));
        assert_eq!("off".parse(), Ok(IcChoice::OFF));
        let two = IcChoice { heartbeat: true, kvp: true, ..IcChoice::OFF };
        assert_eq!("kvp,heartbeat".parse(), Ok(two));
        for wrong in ["", "kvp,", "all", "heartbeat,on", "KVP"] {
            let error = wrong.parse::<IcChoice>().unwrap_err();
            assert!(error.contains("; give on, off"), "{error}");
        }
    }
}
