//! Makes the back ends that the options name.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::backend::Backend;
use super::options::{NetOptions, Network};
use super::pcap::Captured;
use super::stream::{Stream, StreamError};
use super::switch::{Switch, SwitchError};
use super::tap::{Tap, TapError};
use super::user::{UserError, UserNetwork};

/// A network can't be had.
#[derive(Debug, Error)]
pub enum NetError {
    /// A TAP device.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// `passt`.
    #[error(transparent)]
    User(#[from] UserError),
    /// A switch.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The record.
    #[error("cannot write {path}: {error}; give another place by pcap=", path = .path.display())]
    Pcap {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Makes back ends; cards that name the same switch share it.
#[derive(Default)]
pub struct Networks {
    switches: BTreeMap<String, Arc<Switch>>,
}

impl Networks {
    /// What a card is plugged into.
    ///
    /// # Errors
    /// It can't be had; the text says what to do.
    pub fn open(&mut self, options: &NetOptions) -> Result<Box<dyn Backend>, NetError> {
        let backend: Box<dyn Backend> = match &options.network {
            Network::Tap(name) => Box::new(Tap::open(name)?),
            Network::User(forwards) => Box::new(UserNetwork::start(forwards, options.mtu)?),
            Network::Stream(address) => Box::new(Stream::connect(address)?),
            Network::Switch(name) => Box::new(self.switch(name)?.plug_in()?),
        };
        match &options.pcap {
            Some(path) => match Captured::new(backend, path) {
                Ok(captured) => Ok(Box::new(captured)),
                Err(error) => Err(NetError::Pcap { path: path.clone(), error }),
            },
            None => Ok(backend),
        }
    }

    fn switch(&mut self, name: &str) -> Result<Arc<Switch>, SwitchError> {
        if let Some(switch) = self.switches.get(name) {
            return Ok(Arc::clone(switch));
        }
        let switch = Switch::shared(name)?;
        self.switches.insert(name.into(), Arc::clone(&switch));
        Ok(switch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(options: &str) -> String {
        let options = options.parse().unwrap();
        Networks::default().open(&options).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_had_is_told_with_a_way_out() {
        let text = error("stream=/nowhere/sock");
        assert!(text.contains("/nowhere/sock") && text.contains("; start"), "{text}");
    }
}
