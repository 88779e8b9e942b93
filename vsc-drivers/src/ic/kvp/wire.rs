//! Messages about keys, read and written in place.
//!
//! Text that the host sends ends with a zero or where its size says. What is no proper UTF-16 is the request's fault, not
//! the protocol's: it is `None` here, and refused.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem::offset_of;

use hv_abi::ic::IcStatus;
use hv_abi::ic::kvp::{
    HV_KVP_EXCHANGE_MAX_KEY_SIZE, HV_KVP_EXCHANGE_MAX_VALUE_SIZE, KVP_BODY_OFFSET, KvpDelete,
    KvpEnumerate, KvpExchangeValue, KvpValueType,
};

use super::super::error::IcError;
use super::super::message::{put, read};
use super::store::KvpValue;

/// Where an exchanged value is in a message of `GET` and `SET`.
const EXCHANGE: usize = KVP_BODY_OFFSET;
/// The same for `ENUMERATE`.
const ENUMERATED: usize = KVP_BODY_OFFSET + offset_of!(KvpEnumerate, data);

/// The key of `GET` and `SET`.
pub(super) fn exchange_key(message: &[u8]) -> Result<Option<String>, IcError> {
    let data = exchange(message)?;
    read_text(&data.key, data.key_size)
}

/// The value of `SET`.
pub(super) fn exchange_value(message: &[u8]) -> Result<Option<KvpValue>, IcError> {
    let data = exchange(message)?;
    let size = data.value_size;
    let bytes = match data.value_type {
        KvpValueType::SZ | KvpValueType::EXPAND_SZ => {
            return Ok(read_text(&data.value, size)?.map(KvpValue::Text));
        }
        KvpValueType::U32 => 4,
        KvpValueType::U64 | KvpValueType::QWORD => 8,
        KvpValueType(other) => return Err(IcError::ValueType(other)),
    };
    if size as usize != bytes {
        return Err(IcError::Size(size));
    }
    let number: u64 = read(&data.value, bytes)?;
    Ok(Some(match bytes {
        4 => KvpValue::U32(number as u32),
        _ => KvpValue::U64(number),
    }))
}

fn exchange(message: &[u8]) -> Result<KvpExchangeValue, IcError> {
    let body = message.get(EXCHANGE..).unwrap_or_default();
    read(body, size_of::<KvpExchangeValue>())
}

/// The key of `DELETE`.
pub(super) fn delete_key(message: &[u8]) -> Result<Option<String>, IcError> {
    let body = message.get(KVP_BODY_OFFSET..).unwrap_or_default();
    let body: KvpDelete = read(body, size_of::<KvpDelete>())?;
    read_text(&body.key, body.key_size)
}

/// The index of `ENUMERATE`, in a message that has room for the answer.
pub(super) fn index(message: &[u8]) -> Result<u32, IcError> {
    let body = message.get(KVP_BODY_OFFSET..).unwrap_or_default();
    let body: KvpEnumerate = read(body, size_of::<KvpEnumerate>())?;
    Ok(body.index)
}

fn read_text(field: &[u8], size: u32) -> Result<Option<String>, IcError> {
    let bytes = field.get(..size as usize).filter(|it| it.len().is_multiple_of(2));
    let bytes = bytes.ok_or(IcError::Size(size))?;
    let units = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Ok(String::from_utf16(&units).ok())
}

/// Writes the answer to `GET`.
pub(super) fn put_value(message: &mut [u8], value: &KvpValue) -> IcStatus {
    put_value_at(message, EXCHANGE, value)
}

/// Writes the answer to `ENUMERATE`.
pub(super) fn put_item(message: &mut [u8], key: &str, value: &KvpValue) -> IcStatus {
    let Some((key, size)) = text::<HV_KVP_EXCHANGE_MAX_KEY_SIZE>(key) else {
        return IcStatus::E_FAIL;
    };
    put(message, ENUMERATED + offset_of!(KvpExchangeValue, key), &key);
    put(message, ENUMERATED + offset_of!(KvpExchangeValue, key_size), &size.to_le_bytes());
    put_value_at(message, ENUMERATED, value)
}

fn put_value_at(message: &mut [u8], at: usize, value: &KvpValue) -> IcStatus {
    let (kind, size, bytes) = match value {
        KvpValue::U32(number) => (KvpValueType::U32, 4, u64::from(*number).to_le_bytes().to_vec()),
        KvpValue::U64(number) => (KvpValueType::QWORD, 8, number.to_le_bytes().to_vec()),
        KvpValue::Text(value) => match text::<HV_KVP_EXCHANGE_MAX_VALUE_SIZE>(value) {
            Some((bytes, size)) => (KvpValueType::SZ, size, bytes),
            None => return IcStatus::E_FAIL,
        },
    };
    put(message, at + offset_of!(KvpExchangeValue, value_type), &kind.0.to_le_bytes());
    put(message, at + offset_of!(KvpExchangeValue, value_size), &size.to_le_bytes());
    put(message, at + offset_of!(KvpExchangeValue, value), &bytes);
    IcStatus::S_OK
}

/// A text with its zero, filled up with zeros to `BYTES`, and its size; `None` if it is too long.
fn text<const BYTES: usize>(text: &str) -> Option<(Vec<u8>, u32)> {
    let mut bytes = Vec::with_capacity(BYTES);
    for unit in text.encode_utf16().chain([0]) {
        bytes.extend_from_slice(&unit.to_le_bytes());
    }
    let size = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= BYTES)?;
    bytes.resize(BYTES, 0);
    Some((bytes, size))
}
