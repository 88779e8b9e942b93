//! Questions as bytes, and answers from bytes.

use hv_abi::ic::kvp::{
    HV_KVP_EXCHANGE_MAX_KEY_SIZE, HV_KVP_EXCHANGE_MAX_VALUE_SIZE, KVP_BODY_OFFSET,
    KVP_MESSAGE_BYTES, KvpDelete, KvpEnumerate, KvpExchangeValue, KvpHeader, KvpOperation, KvpPool,
    KvpValueType,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::super::error::{CallError, IcError};
use super::super::message::{Answer, read};
use super::KvpValue;
use super::session::Question;

/// What an answer has in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) key: Option<String>,
    pub(super) value: Option<KvpValue>,
}

/// Whether a key fits.
pub(super) fn check_key(key: &str) -> Result<(), CallError> {
    check("key", key, HV_KVP_EXCHANGE_MAX_KEY_SIZE)
}

/// Whether a value fits.
pub(super) fn check_value(value: &str) -> Result<(), CallError> {
    check("value", value, HV_KVP_EXCHANGE_MAX_VALUE_SIZE)
}

fn check(what: &'static str, text: &str, bytes: usize) -> Result<(), CallError> {
    // One unit is the zero at the end.
    let most = bytes / 2 - 1;
    let fits = text.encode_utf16().count() <= most;
    if fits { Ok(()) } else { Err(CallError::TooLong { what, most }) }
}

/// The message of a question.
pub(super) fn encode(question: &Question) -> Vec<u8> {
    match question {
        Question::Get { pool, key } => {
            let mut body = KvpExchangeValue::new_zeroed();
            body.key_size = write_text(&mut body.key, key);
            message(KvpOperation::GET, *pool, &body)
        }
        Question::Set { pool, key, value } => {
            let mut body = KvpExchangeValue::new_zeroed();
            body.value_type = KvpValueType::SZ;
            body.key_size = write_text(&mut body.key, key);
            body.value_size = write_text(&mut body.value, value);
            message(KvpOperation::SET, *pool, &body)
        }
        Question::Delete { pool, key } => {
            let mut body = KvpDelete::new_zeroed();
            body.key_size = write_text(&mut body.key, key);
            message(KvpOperation::DELETE, *pool, &body)
        }
        Question::Enumerate { pool, index } => {
            let body = KvpEnumerate { index: *index, data: KvpExchangeValue::new_zeroed() };
            message(KvpOperation::ENUMERATE, *pool, &body)
        }
    }
}

/// All messages have the length of the longest, as Linux answers in the place of the question.
fn message<B: IntoBytes + Immutable>(operation: KvpOperation, pool: KvpPool, body: &B) -> Vec<u8> {
    let mut bytes = KvpHeader { operation, pool }.as_bytes().to_vec();
    bytes.resize(KVP_BODY_OFFSET, 0);
    bytes.extend_from_slice(body.as_bytes());
    bytes.resize(KVP_MESSAGE_BYTES, 0);
    bytes
}

/// Writes what fits of a text that was [`check`]ed, with a zero at the end; tells its size in bytes.
fn write_text(field: &mut [u8], text: &str) -> u32 {
    let mut size = 0;
    for (to, unit) in field.chunks_exact_mut(2).zip(text.encode_utf16().chain([0])) {
        to.copy_from_slice(&unit.to_le_bytes());
        size += 2;
    }
    size
}

/// What the guest found. Answers that say "no" are not looked into.
pub(super) fn decode(question: &Question, answer: &Answer<'_>) -> Result<Found, IcError> {
    let header: KvpHeader = answer.read(size_of::<KvpHeader>())?;
    let expected = question.operation();
    if header.operation != expected {
        let (found, expected) = (header.operation.0, expected.0);
        return Err(IcError::Operation { found, expected });
    }
    let body = answer.body.get(KVP_BODY_OFFSET..).unwrap_or_default();
    match question {
        Question::Get { .. } => {
            let data: KvpExchangeValue = read(body, size_of::<KvpExchangeValue>())?;
            Ok(Found { key: None, value: Some(decode_value(&data)?) })
        }
        Question::Enumerate { .. } => {
            let body: KvpEnumerate = read(body, size_of::<KvpEnumerate>())?;
            let key = read_text("key", &body.data.key, body.data.key_size)?;
            Ok(Found { key: Some(key), value: Some(decode_value(&body.data)?) })
        }
        Question::Set { .. } | Question::Delete { .. } => Ok(Found::default()),
    }
}

fn decode_value(data: &KvpExchangeValue) -> Result<KvpValue, IcError> {
    let size = data.value_size;
    let bytes = match data.value_type {
        KvpValueType::SZ | KvpValueType::EXPAND_SZ => {
            return read_text("value", &data.value, size).map(KvpValue::Text);
        }
        KvpValueType::U32 => 4,
        KvpValueType::U64 | KvpValueType::QWORD => 8,
        KvpValueType(other) => return Err(IcError::ValueType(other)),
    };
    if size as usize != bytes {
        return Err(IcError::Size { what: "number", size });
    }
    read(&data.value, bytes)
        .map(|number: u64| match bytes {
            4 => number & u64::from(u32::MAX),
            _ => number,
        })
        .map(KvpValue::Number)
}

/// Text up to its first zero, whether there is one or not.
fn read_text(what: &'static str, field: &[u8], size: u32) -> Result<String, IcError> {
    let wrong = IcError::Size { what, size };
    let bytes = field.get(..size as usize).filter(|it| it.len() % 2 == 0).ok_or(wrong)?;
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|&unit| unit != 0).collect();
    Ok(String::from_utf16_lossy(&units))
}
