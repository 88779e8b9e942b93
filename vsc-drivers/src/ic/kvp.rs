//! Key-value exchange: tables that the host reads and writes.

mod store;
mod tables;
mod wire;

pub use store::{KvpFailure, KvpStore, KvpValue};
pub use tables::KvpTables;

use hv_abi::guid::Guid;
use hv_abi::ic::kvp::{KVP_VERSIONS, KvpHeader, KvpOperation, KvpPool};
use hv_abi::ic::{IcMessageType, IcStatus, IcVersion, KVP_INTERFACE};

use super::error::IcError;
use super::message::read;
use super::responder::{Service, Versions};

/// Key-value exchange.
#[derive(Debug)]
pub struct Kvp<S> {
    store: S,
}

impl<S: KvpStore> Kvp<S> {
    /// With these tables.
    pub const fn new(store: S) -> Self {
        Self { store }
    }

    fn get(&mut self, pool: KvpPool, message: &mut [u8]) -> Result<IcStatus, IcError> {
        let Some(key) = wire::exchange_key(message)? else { return Ok(IcStatus::INVALIDARG) };
        Ok(match self.store.get(pool, &key) {
            Ok(value) => wire::put_value(message, &value),
            Err(failure) => failure.status(),
        })
    }

    fn set(&mut self, pool: KvpPool, message: &[u8]) -> Result<IcStatus, IcError> {
        let (key, value) = (wire::exchange_key(message)?, wire::exchange_value(message)?);
        let Some((key, value)) = key.zip(value) else { return Ok(IcStatus::INVALIDARG) };
        Ok(status(self.store.set(pool, &key, value)))
    }

    fn delete(&mut self, pool: KvpPool, message: &[u8]) -> Result<IcStatus, IcError> {
        let Some(key) = wire::delete_key(message)? else { return Ok(IcStatus::INVALIDARG) };
        Ok(status(self.store.delete(pool, &key)))
    }

    fn enumerate(&mut self, pool: KvpPool, message: &mut [u8]) -> Result<IcStatus, IcError> {
        let index = wire::index(message)?;
        Ok(match self.store.enumerate(pool, index) {
            Ok((key, value)) => wire::put_item(message, &key, &value),
            Err(failure) => failure.status(),
        })
    }
}

fn status(result: Result<(), KvpFailure>) -> IcStatus {
    result.map_or_else(KvpFailure::status, |()| IcStatus::S_OK)
}

impl<S: KvpStore> Service for Kvp<S> {
    const INTERFACE: Guid = KVP_INTERFACE;
    const TYPE: IcMessageType = IcMessageType::KVPEXCHANGE;
    const VERSIONS: &'static [IcVersion] = &KVP_VERSIONS;

    fn answer(&mut self, _versions: Versions, message: &mut [u8]) -> Result<IcStatus, IcError> {
        let header: KvpHeader = read(message, size_of::<KvpHeader>())?;
        match header.operation {
            KvpOperation::GET => self.get(header.pool, message),
            KvpOperation::SET => self.set(header.pool, message),
            KvpOperation::DELETE => self.delete(header.pool, message),
            KvpOperation::ENUMERATE => self.enumerate(header.pool, message),
            // Addresses are the network driver's business, and the kernel's.
            _ => Ok(IcStatus::NOT_SUPPORTED),
        }
    }
}
