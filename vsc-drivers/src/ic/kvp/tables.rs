//! Tables in memory.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use hv_abi::ic::kvp::KvpPool;
use spin::Mutex;

use super::store::{KvpFailure, KvpStore, KvpValue};

/// Tables in memory. Copies are handles of the same tables, so that a kernel reads what the host writes and the other way round.
///
/// The host reads all of them and writes all but [`KvpPool::AUTO`], in which the guest says who it is; as many keys as a
/// table has room for.
#[derive(Clone)]
pub struct KvpTables {
    items: Arc<Mutex<Vec<Item>>>,
    most_keys: usize,
}

struct Item {
    pool: KvpPool,
    key: String,
    value: KvpValue,
}

impl KvpTables {
    /// Empty ones with room for `most_keys` keys all together.
    pub fn new(most_keys: usize) -> Self {
        Self { items: Arc::default(), most_keys }
    }

    /// One key more of those by which the guest says who it is: see
    /// [`KVP_INTRINSIC_KEYS`](hv_abi::ic::kvp::KVP_INTRINSIC_KEYS).
    #[must_use]
    pub fn with_intrinsic(self, key: &str, value: &str) -> Self {
        // Without room it is left out: what the kernel says of itself is its own business.
        let _ = self.put(KvpPool::AUTO, key, value.into());
        self
    }

    /// The value of a key.
    pub fn value(&self, pool: KvpPool, key: &str) -> Option<KvpValue> {
        let items = self.items.lock();
        items.iter().find(|item| item.is(pool, key)).map(|item| item.value.clone())
    }

    /// Gives a key a value.
    ///
    /// # Errors
    ///
    /// [`KvpFailure::Full`].
    pub fn put(&self, pool: KvpPool, key: &str, value: KvpValue) -> Result<(), KvpFailure> {
        let mut items = self.items.lock();
        if let Some(item) = items.iter_mut().find(|item| item.is(pool, key)) {
            item.value = value;
        } else if items.len() < self.most_keys {
            items.push(Item { pool, key: key.into(), value });
        } else {
            return Err(KvpFailure::Full);
        }
        Ok(())
    }

    /// Takes a key away. Whether it was there.
    pub fn remove(&self, pool: KvpPool, key: &str) -> bool {
        let mut items = self.items.lock();
        let at = items.iter().position(|item| item.is(pool, key));
        at.map(|at| items.remove(at)).is_some()
    }
}

impl Item {
    fn is(&self, pool: KvpPool, key: &str) -> bool {
        self.pool == pool && self.key == key
    }
}

impl KvpStore for KvpTables {
    fn get(&mut self, pool: KvpPool, key: &str) -> Result<KvpValue, KvpFailure> {
        self.value(pool, key).ok_or(KvpFailure::NoSuchKey)
    }

    fn set(&mut self, pool: KvpPool, key: &str, value: KvpValue) -> Result<(), KvpFailure> {
        match pool {
            KvpPool::EXTERNAL | KvpPool::GUEST | KvpPool::AUTO_EXTERNAL => {
                self.put(pool, key, value)
            }
            _ => Err(KvpFailure::Refused),
        }
    }

    fn delete(&mut self, pool: KvpPool, key: &str) -> Result<(), KvpFailure> {
        if pool == KvpPool::AUTO {
            return Err(KvpFailure::Refused);
        }
        if self.remove(pool, key) { Ok(()) } else { Err(KvpFailure::NoSuchKey) }
    }

    fn enumerate(&mut self, pool: KvpPool, index: u32) -> Result<(String, KvpValue), KvpFailure> {
        let items = self.items.lock();
        let item = items.iter().filter(|item| item.pool == pool).nth(index as usize);
        item.map(|item| (item.key.clone(), item.value.clone())).ok_or(KvpFailure::NoSuchKey)
    }
}

impl fmt::Debug for KvpTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvpTables").field("most_keys", &self.most_keys).finish_non_exhaustive()
    }
}
