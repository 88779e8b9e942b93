//! What a kernel gives the exchange.

use alloc::string::String;

use hv_abi::ic::IcStatus;
use hv_abi::ic::kvp::KvpPool;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvpValue {
    /// Text; at most 1,023 UTF-16 units go to the host.
    Text(String),
    /// 32 bits.
    U32(u32),
    /// 64 bits.
    U64(u64),
}

impl From<&str> for KvpValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// Why a table does not do what the host asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvpFailure {
    /// There is no such key, or no more; or no such table.
    NoSuchKey,
    /// The host may not do that.
    Refused,
    /// There is no room.
    Full,
}

impl KvpFailure {
    /// What the host is told.
    pub const fn status(self) -> IcStatus {
        match self {
            Self::NoSuchKey => IcStatus::S_CONT,
            Self::Refused => IcStatus::E_FAIL,
            Self::Full => IcStatus::DISK_FULL,
        }
    }
}

/// Tables of keys and values. [`KvpTables`](super::KvpTables) is one.
pub trait KvpStore: Send {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// There is none.
    fn get(&mut self, pool: KvpPool, key: &str) -> Result<KvpValue, KvpFailure>;

    /// Gives a key a value.
    ///
    /// # Errors
    ///
    /// The host may not, or there is no room.
    fn set(&mut self, pool: KvpPool, key: &str, value: KvpValue) -> Result<(), KvpFailure>;

    /// Takes a key away.
    ///
    /// # Errors
    ///
    /// There is none, or the host may not.
    fn delete(&mut self, pool: KvpPool, key: &str) -> Result<(), KvpFailure>;

    /// A key by its index: the host asks for 0, 1, 2… until there are no more.
    ///
    /// # Errors
    ///
    /// There is none.
    fn enumerate(&mut self, pool: KvpPool, index: u32) -> Result<(String, KvpValue), KvpFailure>;
}
