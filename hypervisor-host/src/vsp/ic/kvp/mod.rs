//! Key-value exchange: reads and writes tables that the guest keeps.
//!
//! One question is open at a time; the others wait in line. When a guest's driver is ready, it is given the
//! [`HostItems`].

mod host_items;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hv_abi::guid::Guid;
use hv_abi::ic::kvp::{KVP_VERSIONS, KvpPool};
use hv_abi::ic::{IcVersion, KVP_INSTANCE, KVP_INTERFACE};
use serde::{Deserialize, Serialize};

pub use self::host_items::HostItems;
pub use self::session::KvpSession;
use self::session::{KvpCalls, Question};
use self::wire::{check_key, check_value};
use super::calls::{CallStatus, Wake};
use super::component::Component;
use super::error::CallError;

/// Keys that are listed of a table at most.
pub const MOST_KEYS: u32 = 4096;

/// A table of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// What a user of the host gave the guest
    #[default]
    External,
    /// What a user of the guest put there
    Guest,
    /// What the guest says of itself
    Auto,
    /// What the host said of itself
    AutoExternal,
}

impl From<Pool> for KvpPool {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::External => Self::EXTERNAL,
            Pool::Guest => Self::GUEST,
            Pool::Auto => Self::AUTO,
            Pool::AutoExternal => Self::AUTO_EXTERNAL,
        }
    }
}

/// A value. What is no proper UTF-16 is shown with U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KvpValue {
    /// 32 or 64 bits.
    Number(u64),
    /// Text.
    Text(String),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvpItem {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: KvpValue,
}

/// The component.
#[derive(Clone, Default)]
pub struct Kvp {
    calls: Arc<KvpCalls>,
    host_items: Arc<HostItems>,
}

impl Kvp {
    /// A component that gives the guest these items.
    pub fn new(host_items: HostItems) -> Self {
        Self { calls: Arc::default(), host_items: Arc::new(host_items) }
    }

    /// What is known.
    pub fn status(&self) -> CallStatus {
        self.calls.status()
    }

    /// The value of a key, which is looked for in the guest's list.
    ///
    /// Linux's answer to `GET` is an empty text, whatever the value (its kernel gives its daemon no room for it: `kvp_send_key`
    /// leaves `value_size` 0), and what it says of itself is made up only when it is asked for the list. See
    /// [`get_directly`](Self::get_directly) for others.
    ///
    /// # Errors
    /// There is none, or the guest does not say.
    pub fn get(&self, pool: Pool, key: &str, limit: Duration) -> Result<KvpValue, CallError> {
        check_key(key)?;
        let found = self.list(pool, limit)?.into_iter().find(|item| item.key == key);
        found.map(|item| item.value).ok_or(CallError::NoSuchKey)
    }

    /// The value of a key, by one question only.
    ///
    /// # Errors
    /// There is none, or the guest does not say.
    pub fn get_directly(
        &self,
        pool: Pool,
        key: &str,
        limit: Duration,
    ) -> Result<KvpValue, CallError> {
        check_key(key)?;
        let question = Question::Get { pool: pool.into(), key: key.into() };
        let answer = self.calls.call(question, limit, |_| Ok(()))?;
        answer.value.ok_or(CallError::NoSuchKey)
    }

    /// The value of a key, from the first table that has it: the guest's own ones first.
    ///
    /// # Errors
    /// There is none, or the guest does not say.
    pub fn get_anywhere(&self, key: &str, limit: Duration) -> Result<KvpValue, CallError> {
        let begun = Instant::now();
        for pool in [Pool::Guest, Pool::Auto, Pool::External, Pool::AutoExternal] {
            match self.get(pool, key, limit.saturating_sub(begun.elapsed())) {
                Err(CallError::NoSuchKey) => {}
                other => return other,
            }
        }
        Err(CallError::NoSuchKey)
    }

    /// Gives a key a value.
    ///
    /// # Errors
    /// The guest does not take it, or one of them is too long.
    pub fn set(
        &self,
        pool: Pool,
        key: &str,
        value: &str,
        limit: Duration,
    ) -> Result<(), CallError> {
        check_key(key)?;
        check_value(value)?;
        let (key, value) = (key.into(), value.into());
        let question = Question::Set { pool: pool.into(), key, value };
        self.calls.call(question, limit, |_| Ok(())).map(drop)
    }

    /// Takes a key away.
    ///
    /// # Errors
    /// There is none, or the guest does not do it.
    pub fn delete(&self, pool: Pool, key: &str, limit: Duration) -> Result<(), CallError> {
        check_key(key)?;
        let question = Question::Delete { pool: pool.into(), key: key.into() };
        self.calls.call(question, limit, |_| Ok(())).map(drop)
    }

    /// All keys of a table with their values, within `limit` all together.
    ///
    /// # Errors
    /// The guest does not say, or has no end of them.
    pub fn list(&self, pool: Pool, limit: Duration) -> Result<Vec<KvpItem>, CallError> {
        let begun = Instant::now();
        let mut items = Vec::new();
        for index in 0..MOST_KEYS {
            let question = Question::Enumerate { pool: pool.into(), index };
            let left = limit.saturating_sub(begun.elapsed());
            match self.calls.call(question, left, |_| Ok(())) {
                Ok(answer) => {
                    let item = answer.key.zip(answer.value);
                    items.extend(item.map(|(key, value)| KvpItem { key, value }));
                }
                Err(CallError::NoSuchKey) => return Ok(items),
                Err(CallError::NoAnswer(_)) => return Err(CallError::NoAnswer(limit)),
                Err(error) => return Err(error),
            }
        }
        Err(CallError::Endless(MOST_KEYS))
    }
}

impl Component for Kvp {
    type Session = KvpSession;
    const NAME: &'static str = "kvp";
    const INTERFACE: Guid = KVP_INTERFACE;
    const INSTANCE: Guid = KVP_INSTANCE;
    const VERSIONS: &'static [IcVersion] = &KVP_VERSIONS;

    fn open(&self, wake: Wake) -> KvpSession {
        self.calls.opened(wake);
        KvpSession::new(self.calls.clone(), self.host_items.clone())
    }
}
