//! The key-value exchange, byte for byte.

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::host::{Answer, agreed, ask, get32, kvp, put32, utf16};
use crate::ic::{IcError, Kvp, KvpFailure, KvpPool, KvpStore, KvpTables, KvpValue, Responder};

const GET: u8 = 0;
const SET: u8 = 1;
const DELETE: u8 = 2;
const ENUMERATE: u8 = 3;
const NO_MORE: u32 = 0x8007_0103;
const FAIL: u32 = 0x8000_4005;

/// `struct hv_kvp_exchg_msg_value`: type, sizes, key, value.
fn exchange(value_type: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12 + 512 + 2048];
    put32(&mut bytes, 0, value_type);
    put32(&mut bytes, 4, key.len() as u32);
    put32(&mut bytes, 8, value.len() as u32);
    bytes[12..12 + key.len()].copy_from_slice(key);
    bytes[524..524 + value.len()].copy_from_slice(value);
    bytes
}

fn delete(key: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4 + 512];
    put32(&mut bytes, 0, key.len() as u32);
    bytes[4..4 + key.len()].copy_from_slice(key);
    bytes
}

/// The answer's value: its type, and its bytes.
fn value_of(answer: &Answer, at: usize) -> (u32, Vec<u8>) {
    assert_eq!(answer.status, 0);
    let size = get32(&answer.body, at + 8) as usize;
    (get32(&answer.body, at), answer.body[at + 524..at + 524 + size].to_vec())
}

struct Host(Responder<Kvp<KvpTables>>);

impl Host {
    fn new(tables: &KvpTables) -> Self {
        Self(agreed(Kvp::new(tables.clone()), (4, 0)))
    }

    fn ask(&mut self, operation: u8, pool: u8, body: &[u8]) -> Result<Answer, IcError> {
        ask(&mut self.0, 2, &kvp(operation, pool, body))
    }

    fn status(&mut self, operation: u8, pool: u8, body: &[u8]) -> u32 {
        self.ask(operation, pool, body).unwrap().status
    }
}

#[test]
fn the_host_writes_and_reads_what_the_kernel_sees() {
    let tables = KvpTables::new(8);
    let mut host = Host::new(&tables);
    let key = utf16("Schlüssel 🔑");
    let get = exchange(0, &key, &[]);
    assert_eq!(host.status(GET, 0, &get), NO_MORE);
    assert_eq!(host.status(SET, 0, &exchange(1, &key, &utf16("größer"))), 0);
    let seen = tables.value(KvpPool::EXTERNAL, "Schlüssel 🔑");
    assert_eq!(seen, Some(KvpValue::Text("größer".into())));
    assert_eq!(value_of(&host.ask(GET, 0, &get).unwrap(), 4), (1, utf16("größer")));
    assert_eq!(host.status(SET, 0, &exchange(1, &key, &utf16("x"))), 0);
    assert_eq!(value_of(&host.ask(GET, 0, &get).unwrap(), 4), (1, utf16("x")));
    assert_eq!(host.status(GET, 1, &get), NO_MORE, "another table");
    assert_eq!(host.status(DELETE, 0, &delete(&key)), 0);
    assert_eq!(host.status(DELETE, 0, &delete(&key)), NO_MORE);
}

#[test]
fn the_guest_says_who_it_is_and_the_host_can_not_change_that() {
    let tables =
        KvpTables::new(8).with_intrinsic("OSName", "Enlighten").with_intrinsic("OSVersion", "1");
    let mut host = Host::new(&tables);
    for (index, key, value) in [(0, "OSName", "Enlighten"), (1, "OSVersion", "1")] {
        let answer = host.ask(ENUMERATE, 2, &u32::to_le_bytes(index)).unwrap();
        assert_eq!(value_of(&answer, 8), (1, utf16(value)));
        let size = get32(&answer.body, 12) as usize;
        assert_eq!(answer.body[20..20 + size], utf16(key));
    }
    for index in [2, u32::MAX] {
        assert_eq!(host.status(ENUMERATE, 2, &index.to_le_bytes()), NO_MORE);
    }
    let key = utf16("OSName");
    assert_eq!(host.status(SET, 2, &exchange(1, &key, &utf16("x"))), FAIL);
    assert_eq!(host.status(DELETE, 2, &delete(&key)), FAIL);
    for pool in [4, 5, 0xFF] {
        assert_eq!(host.status(SET, pool, &exchange(1, &key, &utf16("x"))), FAIL);
        assert_eq!(host.status(ENUMERATE, pool, &[0; 4]), NO_MORE);
    }
}

#[test]
fn tables_have_a_limit() {
    let tables = KvpTables::new(2);
    let mut host = Host::new(&tables);
    let set = |key: &str| exchange(1, &utf16(key), &utf16("v"));
    assert_eq!(host.status(SET, 0, &set("a")), 0);
    assert_eq!(host.status(SET, 1, &set("a")), 0);
    assert_eq!(host.status(SET, 0, &set("b")), 0x8007_0070, "DISK_FULL");
    assert_eq!(host.status(SET, 0, &set("a")), 0, "what is there can be changed");
}

#[test]
fn numbers_are_numbers_of_their_size() {
    let tables = KvpTables::new(4);
    let mut host = Host::new(&tables);
    let key = utf16("n");
    let bytes = [1, 2, 3, 4, 5, 6, 7, 0x88];
    for (value_type, size, value, told) in [
        (4, 4, KvpValue::U32(0x0403_0201), 4),
        (8, 8, KvpValue::U64(0x8807_0605_0403_0201), 11),
        (11, 8, KvpValue::U64(0x8807_0605_0403_0201), 11),
    ] {
        assert_eq!(host.status(SET, 0, &exchange(value_type, &key, &bytes[..size])), 0);
        assert_eq!(tables.value(KvpPool::EXTERNAL, "n"), Some(value));
        let answer = host.ask(GET, 0, &exchange(0, &key, &[])).unwrap();
        assert_eq!(value_of(&answer, 4), (told, bytes[..size].to_vec()));
    }
    for (value_type, size) in [(4, 8), (8, 4), (11, 0)] {
        let set = exchange(value_type, &key, &bytes[..size]);
        assert_eq!(host.ask(SET, 0, &set), Err(IcError::Size(size as u32)));
    }
    assert_eq!(host.ask(SET, 0, &exchange(3, &key, &bytes)), Err(IcError::ValueType(3)));
}

#[test]
fn sizes_that_lie_end_the_channel() {
    let tables = KvpTables::new(4);
    let mut host = Host::new(&tables);
    for size in [1, 513, 514, u32::MAX] {
        let mut get = exchange(0, &[], &[]);
        put32(&mut get, 4, size);
        assert_eq!(host.ask(GET, 0, &get), Err(IcError::Size(size)));
        let mut body = delete(&[]);
        put32(&mut body, 0, size);
        assert_eq!(host.ask(DELETE, 0, &body), Err(IcError::Size(size)));
    }
    let mut set = exchange(1, &utf16("k"), &[]);
    put32(&mut set, 8, 2050);
    assert_eq!(host.ask(SET, 0, &set), Err(IcError::Size(2050)));
}

#[test]
fn messages_without_room_end_the_channel() {
    let tables = KvpTables::new(4);
    let mut host = Host::new(&tables);
    for (operation, room) in [(GET, 2572), (SET, 2572), (DELETE, 516), (ENUMERATE, 2576)] {
        let body = vec![operation; 4 + room - 1];
        let short = IcError::MessageShort { present: room - 1, needed: room };
        assert_eq!(ask(&mut host.0, 2, &body), Err(short));
    }
    let short = IcError::MessageShort { present: 1, needed: 2 };
    assert_eq!(ask(&mut host.0, 2, &[0]), Err(short));
}

#[test]
fn text_that_is_none_is_refused_and_unknown_operations_are_too() {
    let tables = KvpTables::new(4);
    let mut host = Host::new(&tables);
    let lone = [0x00, 0xD8, 0, 0];
    assert_eq!(host.status(GET, 0, &exchange(0, &lone, &[])), 0x8007_0057, "INVALIDARG");
    assert_eq!(host.status(SET, 0, &exchange(1, &utf16("k"), &lone)), 0x8007_0057);
    assert_eq!(host.status(DELETE, 0, &delete(&lone)), 0x8007_0057);
    for operation in [4, 5, 6, 0xFF] {
        assert_eq!(host.status(operation, 0, &[]), 0x8007_0032, "NOT_SUPPORTED");
    }
    // Without its zero, or with one in the middle.
    assert_eq!(host.status(SET, 0, &exchange(1, &[b'a', 0], &[b'x', 0, 0, 0, b'y', 0])), 0);
    assert_eq!(tables.value(KvpPool::EXTERNAL, "a"), Some("x".into()));
}

/// A store that says what does not fit.
struct Long;

impl KvpStore for Long {
    fn get(&mut self, _pool: KvpPool, key: &str) -> Result<KvpValue, KvpFailure> {
        Ok(KvpValue::Text("v".repeat(if key == "fits" { 1023 } else { 1024 })))
    }

    fn set(&mut self, _: KvpPool, _: &str, _: KvpValue) -> Result<(), KvpFailure> {
        Err(KvpFailure::Refused)
    }

    fn delete(&mut self, _: KvpPool, _: &str) -> Result<(), KvpFailure> {
        Err(KvpFailure::Refused)
    }

    fn enumerate(&mut self, _: KvpPool, index: u32) -> Result<(String, KvpValue), KvpFailure> {
        Ok(("k".repeat(255 + index as usize), "v".into()))
    }
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let mut responder = agreed(Kvp::new(Long), (4, 0));
    let mut get = |key: &str| {
        let body = kvp(GET, 0, &exchange(0, &utf16(key), &[]));
        ask(&mut responder, 2, &body).unwrap()
    };
    assert_eq!(value_of(&get("fits"), 4).1.len(), 2048);
    assert_eq!(get("does not").status, FAIL);
    let mut list =
        |index: u32| ask(&mut responder, 2, &kvp(ENUMERATE, 0, &index.to_le_bytes())).unwrap();
    assert_eq!(get32(&list(0).body, 12), 512);
    assert_eq!(list(1).status, FAIL);
}
