//! The key-value exchange against a guest scripted as Linux's `hv_kvp.c` and its daemon behave.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use hv_abi::ic::kvp::{KVP_V1, KVP_V4};

use super::super::error::{CallError, IcError};
use super::super::tests::guest::{BODY, Guest, answer_to, get32, refusal_of, type_of, with_size};
use super::*;

const LONG: Duration = Duration::from_secs(60);
/// `struct hv_kvp_exchg_msg_value` in a message of `GET` and `SET`: type, key's size, value's size, key, value.
const VALUE: usize = 4;
const KEY_TEXT: usize = VALUE + 12;
const VALUE_TEXT: usize = KEY_TEXT + 512;

/// Linux's side: one table for each number, and the answers of `kvp_respond_to_host`.
#[derive(Default)]
struct Tables {
    items: BTreeMap<(u8, String), String>,
    /// Answers `GET` with an empty text, as Linux 6.1 does.
    empty_get: bool,
}

impl Tables {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let body = &request[BODY..];
        let (operation, pool) = (body[0], body[1]);
        let key = |at: usize, size_at: usize| utf16(&body[at..], get32(body, size_at));
        match operation {
            0 => match self.items.get(&(pool, key(KEY_TEXT, VALUE + 4))) {
                Some(_) if self.empty_get => answer_to(request, |body| put_value(body, VALUE, "")),
                Some(value) => answer_to(request, |body| put_value(body, VALUE, value)),
                None => refusal_of(request, 0x8007_0103),
            },
            1 => {
                assert_eq!(get32(body, VALUE), 1, "REG_SZ");
                let value = utf16(&body[VALUE_TEXT..], get32(body, VALUE + 8));
                self.items.insert((pool, key(KEY_TEXT, VALUE + 4)), value);
                answer_to(request, |_| {})
            }
            2 => match self.items.remove(&(pool, key(8, 4))) {
                Some(_) => answer_to(request, |_| {}),
                None => refusal_of(request, 0x8007_0103),
            },
            3 => {
                let index = get32(body, 4) as usize;
                let found =
                    self.items.iter().filter(|((in_pool, _), _)| *in_pool == pool).nth(index);
                match found {
                    Some(((_, key), value)) => answer_to(request, |body| {
                        let size = put_utf16(&mut body[KEY_TEXT + 4..], key);
                        body[12..16].copy_from_slice(&size.to_le_bytes());
                        put_value(body, VALUE + 4, value);
                    }),
                    None => refusal_of(request, 0x8007_0103),
                }
            }
            other => panic!("operation {other}"),
        }
    }
}

fn put_value(body: &mut [u8], at: usize, value: &str) {
    body[at..at + 4].copy_from_slice(&1_u32.to_le_bytes());
    let size = put_utf16(&mut body[at + 12 + 512..], value);
    body[at + 8..at + 12].copy_from_slice(&size.to_le_bytes());
}

fn put_utf16(to: &mut [u8], text: &str) -> u32 {
    let bytes: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    to[..bytes.len()].copy_from_slice(&bytes);
    bytes.len() as u32
}

fn utf16(bytes: &[u8], size: u32) -> String {
    let units: Vec<u16> = bytes[..size as usize]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    assert_eq!(units.last(), Some(&0), "the zero counts");
    String::from_utf16(&units[..units.len() - 1]).unwrap()
}

#[test]
fn a_value_is_found_in_the_list_where_linux_answers_with_nothing() {
    let kvp = Kvp::default();
    let mut guest = Guest::agree(&kvp, KVP_V4);
    let mut tables = Tables { empty_get: true, ..Tables::default() };
    with_guest(&kvp, &mut guest, &mut tables, |kvp| {
        kvp.set(Pool::External, "k", "v", LONG).unwrap();
        let text = |text: &str| Ok(KvpValue::Text(text.into()));
        assert_eq!(kvp.get_directly(Pool::External, "k", LONG), text(""));
        assert_eq!(kvp.get(Pool::External, "k", LONG), text("v"));
    });
}

/// Runs `work` in another thread while a guest with these tables answers.
fn with_guest<T: Send + 'static>(
    kvp: &Kvp,
    guest: &mut Guest<Kvp>,
    tables: &mut Tables,
    work: impl FnOnce(&Kvp) -> T + Send + 'static,
) -> T {
    let kvp = kvp.clone();
    let worker = thread::spawn(move || work(&kvp));
    while !worker.is_finished() {
        match guest.next() {
            None => thread::yield_now(),
            Some(request) => {
                // `KVP_MESSAGE_BYTES`: Linux answers in the place of the question.
                assert_eq!((type_of(&request), request.len()), (2, BODY + 2580));
                let answer = tables.answer(&request);
                guest.send(&answer).unwrap();
            }
        }
    }
    worker.join().unwrap()
}

#[test]
fn keys_are_set_read_listed_and_deleted() {
    for version in [KVP_V1, KVP_V4] {
        let kvp = Kvp::default();
        let mut guest = Guest::agree(&kvp, version);
        let mut tables = Tables::default();
        with_guest(&kvp, &mut guest, &mut tables, |kvp| {
            assert_eq!(kvp.get(Pool::Guest, "a", LONG), Err(CallError::NoSuchKey));
            kvp.set(Pool::Guest, "a", "Größe 🎉", LONG).unwrap();
            kvp.set(Pool::Guest, "b", "", LONG).unwrap();
            kvp.set(Pool::External, "a", "other", LONG).unwrap();
            let text = |text: &str| KvpValue::Text(text.into());
            assert_eq!(kvp.get(Pool::Guest, "a", LONG), Ok(text("Größe 🎉")));
            assert_eq!(kvp.get(Pool::Guest, "b", LONG), Ok(text("")));
            assert_eq!(kvp.get_directly(Pool::Guest, "a", LONG), Ok(text("Größe 🎉")));
            assert_eq!(kvp.get_directly(Pool::Guest, "c", LONG), Err(CallError::NoSuchKey));
            assert_eq!(kvp.get_anywhere("a", LONG), Ok(text("Größe 🎉")), "the guest's first");
            let items = kvp.list(Pool::Guest, LONG).unwrap();
            let item = |key: &str, value: &str| KvpItem { key: key.into(), value: text(value) };
            assert_eq!(items, [item("a", "Größe 🎉"), item("b", "")]);
            kvp.delete(Pool::Guest, "a", LONG).unwrap();
            assert_eq!(kvp.delete(Pool::Guest, "a", LONG), Err(CallError::NoSuchKey));
            assert_eq!(kvp.list(Pool::Auto, LONG), Ok(Vec::new()));
        });
        assert_eq!(tables.items.len(), 2);
    }
}

#[test]
fn a_guest_is_told_of_its_host_first() {
    let kvp = Kvp::new(HostItems::new("iron", "web", "1-2"));
    let mut guest = Guest::agree(&kvp, KVP_V4);
    let mut tables = Tables::default();
    let items = with_guest(&kvp, &mut guest, &mut tables, |kvp| kvp.list(Pool::AutoExternal, LONG));
    assert_eq!(items.unwrap().len(), 5);
    assert_eq!(tables.items[&(3, "HostName".into())], "iron");
}

#[test]
fn what_is_too_long_never_reaches_the_guest() {
    let kvp = Kvp::default();
    let mut guest = Guest::agree(&kvp, KVP_V4);
    let key = "k".repeat(256);
    let error = kvp.get(Pool::Guest, &key, LONG).unwrap_err();
    assert_eq!(error, CallError::TooLong { what: "key", most: 255 });
    let error = kvp.set(Pool::Guest, "k", &"🎉".repeat(512), LONG).unwrap_err();
    assert_eq!(error, CallError::TooLong { what: "value", most: 1023 });
    assert_eq!(guest.next(), None);
    let mut tables = Tables::default();
    with_guest(&kvp, &mut guest, &mut tables, |kvp| {
        let (key, value) = ("k".repeat(255), "v".repeat(1023));
        kvp.set(Pool::Guest, &key, &value, LONG).unwrap();
        assert_eq!(kvp.get(Pool::Guest, &key, LONG), Ok(KvpValue::Text(value)));
    });
}

/// Asks for the key `k`, and answers as `change` says.
fn answered(
    change: impl FnOnce(&[u8]) -> Vec<u8>,
) -> (Result<(), IcError>, Result<KvpValue, CallError>) {
    let kvp = Kvp::default();
    let mut guest = Guest::agree(&kvp, KVP_V4);
    let asker = {
        let kvp = kvp.clone();
        thread::spawn(move || kvp.get_directly(Pool::Guest, "k", LONG))
    };
    let request = loop {
        match guest.next() {
            Some(request) => break request,
            None => thread::yield_now(),
        }
    };
    let sent = guest.send(&change(&request));
    drop(guest);
    (sent, asker.join().unwrap())
}

fn value_of_type(value_type: u32, size: u32, bytes: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |request| {
        answer_to(request, |body| {
            body[VALUE..VALUE + 4].copy_from_slice(&value_type.to_le_bytes());
            body[VALUE + 8..VALUE + 12].copy_from_slice(&size.to_le_bytes());
            body[VALUE_TEXT..VALUE_TEXT + bytes.len()].copy_from_slice(bytes);
        })
    }
}

#[test]
fn numbers_are_numbers() {
    let number =
        |value_type, size| answered(value_of_type(value_type, size, &[1, 2, 3, 4, 5, 0, 0, 0xFF]));
    assert_eq!(number(4, 4), (Ok(()), Ok(KvpValue::Number(0x0403_0201))));
    for value_type in [8, 11] {
        let value = KvpValue::Number(0xFF00_0005_0403_0201);
        assert_eq!(number(value_type, 8), (Ok(()), Ok(value)));
    }
    for (value_type, size) in [(4, 8), (4, 0), (8, 4), (11, 2048)] {
        let (sent, answer) = number(value_type, size);
        assert_eq!(sent, Err(IcError::Size { what: "number", size }));
        assert_eq!(answer, Err(CallError::Gone));
    }
}

#[test]
fn text_need_not_be_proper() {
    let text = |size, bytes: &[u8]| answered(value_of_type(1, size, bytes)).1;
    assert_eq!(text(0, &[]), Ok(KvpValue::Text(String::new())));
    assert_eq!(text(4, &[b'x', 0, b'y', 0]), Ok(KvpValue::Text("xy".into())), "no zero");
    assert_eq!(text(6, &[b'x', 0, 0, 0, b'y', 0]), Ok(KvpValue::Text("x".into())));
    assert_eq!(text(2, &[0, 0xD8]), Ok(KvpValue::Text("\u{FFFD}".into())));
    assert_eq!(answered(value_of_type(2, 2, b"x\0")).1, Ok(KvpValue::Text("x".into())));
}

#[test]
fn malformed_answers_end_the_channel() {
    for size in [3, 2049, 2050, u32::MAX] {
        let (sent, answer) = answered(value_of_type(1, size, &[]));
        assert_eq!(sent, Err(IcError::Size { what: "value", size }));
        assert_eq!(answer, Err(CallError::Gone));
    }
    let (sent, _) = answered(value_of_type(7, 2, &[]));
    assert_eq!(sent, Err(IcError::ValueType(7)));
    let (sent, _) = answered(|request| answer_to(request, |body| body[0] = 3));
    assert_eq!(sent, Err(IcError::Operation { found: 3, expected: 0 }));
    let (sent, _) = answered(|request| with_size(answer_to(request, |_| {}), 2575));
    assert_eq!(sent, Err(IcError::MessageShort { present: 2571, needed: 2572 }));
    let (sent, _) = answered(|request| with_size(answer_to(request, |_| {}), 1));
    assert_eq!(sent, Err(IcError::MessageShort { present: 1, needed: 2 }));
    // What the guest says no to need not have anything in it.
    let (sent, answer) = answered(|request| with_size(refusal_of(request, 0x8000_4005), 0));
    assert_eq!(sent, Ok(()));
    assert!(matches!(answer, Err(CallError::Refused(_))));
}

#[test]
fn one_question_is_open_at_a_time_and_few_wait() {
    let kvp = Kvp::default();
    let mut guest = Guest::agree(&kvp, KVP_V4);
    let short = Duration::from_millis(1);
    let mut busy = 0;
    for _ in 0..80 {
        match kvp.get(Pool::Guest, "k", short) {
            Err(CallError::NoAnswer(_)) => {}
            Err(CallError::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
        guest.next();
    }
    assert_eq!(busy, 80 - 1 - 64, "one is open, 64 wait");
}

#[test]
fn a_table_without_end_is_given_up() {
    let kvp = Kvp::default();
    let mut guest = Guest::agree(&kvp, KVP_V4);
    let lister = {
        let kvp = kvp.clone();
        thread::spawn(move || kvp.list(Pool::Guest, LONG))
    };
    while !lister.is_finished() {
        match guest.next() {
            None => thread::yield_now(),
            Some(request) => guest.answer(&request, |body| body[VALUE + 4] = 1).unwrap(),
        }
    }
    assert_eq!(lister.join().unwrap(), Err(CallError::Endless(MOST_KEYS)));
}
