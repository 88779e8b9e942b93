//! Requests to a volume that foreign tools made, and what comes back.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::files::cache::Cache;
use crate::files::tests::image::{Image, LARGE_BYTES, large};

/// All that comes back for `requests`, `room` bytes at a time.
fn answers(
    image: &Image,
    cache: &Cache<Vec<u8>>,
    requests: &str,
    room: usize,
) -> (Vec<u8>, Connection) {
    let volume = image.with(cache, || Volume::open(cache)).unwrap();
    let mut connection = Connection::default();
    let mut rest = requests.as_bytes();
    let (mut out, mut room) = (Vec::new(), vec![0; room]);
    loop {
        let count = rest.len().min(connection.room());
        connection.receive(&rest[..count]);
        rest = &rest[count..];
        let filled = connection.fill(&volume, &mut room);
        out.extend_from_slice(&room[..filled.bytes]);
        match filled.wants {
            Some(chunk) => image.read(cache, chunk),
            None if filled.bytes == 0 && rest.is_empty() => break,
            None => {}
        }
    }
    (out, connection)
}

fn ask(image: &Image, requests: &str) -> String {
    let (out, _) = answers(image, &image.cache(4), requests, 1000);
    String::from_utf8_lossy(&out).to_string()
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

#[test]
fn pages_folders_and_what_is_not_there() {
    let image = Image::fat16();
    let page = ask(&image, &get("/", ""));
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.ends_with("\r\n\r\n<h1>Hello</h1>"), "{page}");
    let page = ask(&image, &get("/docs/", ""));
    assert!(page.contains("<a href=\"./Read%20me%20first.md\">Read me first.md</a> 9"), "{page}");
    let moved = ask(&image, &get("/docs?x=1", ""));
    assert!(
        moved.starts_with("HTTP/1.1 301 ") && moved.contains("Location: /docs/\r\n"),
        "{moved}"
    );
    assert!(ask(&image, &get("/index.html/", "")).starts_with("HTTP/1.1 404 "));
    let page = ask(
        &image,
        &get(
            "/A%20file%20with%20a%20rather%20long%20name,%20in%20which%20there%20are%20spaces.txt",
            "",
        ),
    );
    assert!(page.contains("text/plain") && page.ends_with("\r\n\r\nlong"), "{page}");
    assert!(ask(&image, &get("/none", "")).starts_with("HTTP/1.1 404 "));
    assert!(ask(&image, &get("/empty", "")).contains("Content-Length: 0\r\n"));
    for path in ["/../index.html", "/docs/%2e%2e/index.html", "/docs%2f..%2findex.html"] {
        assert!(ask(&image, &get(path, "")).starts_with("HTTP/1.1 400 "), "{path}");
    }
    let post = ask(&image, "POST / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("Allow: GET, HEAD\r\n"), "{post}");
}

/// The value of a field of an answer.
fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find(|line| line.starts_with(name));
    line.unwrap_or_default().split_once(": ").unwrap_or_default().1
}

#[test]
fn what_the_peer_has_is_not_sent_again() {
    let image = Image::fat16();
    let page = ask(&image, &get("/index.html", ""));
    let tag = field(&page, "ETag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{page}");
    for list in [tag, "*", &format!("\"x\", W/{tag}")] {
        let none = ask(&image, &get("/", &format!("If-None-Match: {list}\r\n")));
        assert!(none.starts_with("HTTP/1.1 304 ") && none.ends_with("\r\n\r\n"), "{none}");
        assert!(!none.contains("Content-Length") && field(&none, "ETag") == tag, "{none}");
    }
    let other = ask(&image, &get("/large.bin", &format!("If-None-Match: {tag}\r\n")));
    assert!(other.starts_with("HTTP/1.1 200 ") && field(&other, "ETag") != tag);
}

#[test]
fn a_part_of_another_file_than_the_peer_has_is_all_of_it() {
    let image = Image::fat16();
    let part = |tag: &str| {
        ask(&image, &get("/index.html", &format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n")))
    };
    let all = part("\"other\"");
    assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with("<h1>Hello</h1>"), "{all}");
    let some = part(field(&all, "ETag"));
    assert!(some.starts_with("HTTP/1.1 206 ") && some.ends_with("\r\n\r\n<h"), "{some}");
}

#[test]
fn a_request_that_waits_for_the_disk_is_being_answered() {
    let image = Image::fat16();
    for path in ["/none", "/index.html"] {
        let cache = image.cache(4);
        let volume = image.with(&cache, || Volume::open(&cache)).unwrap();
        let (mut connection, mut room, mut waits) = (Connection::default(), vec![0; 1000], 0);
        // Others have pushed the folder out of the cache.
        (100..104).for_each(|chunk| image.read(&cache, Chunk(chunk)));
        connection.receive(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        // The peer has ended its side by now: whoever looks must not end ours.
        while let Some(chunk) = connection.fill(&volume, &mut room).wants {
            assert!(connection.is_responding() && !connection.is_over(), "{path}");
            waits += 1;
            image.read(&cache, chunk);
        }
        while connection.fill(&volume, &mut room).bytes != 0 {}
        assert!(waits > 0 && connection.is_over(), "{path}: {waits} times");
    }
}

#[test]
fn a_head_has_no_body() {
    let image = Image::fat16();
    for path in ["/", "/docs", "/docs/", "/none", "/large.bin"] {
        let head = ask(&image, &format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: "), "{head}");
    }
}

#[test]
fn a_file_and_its_parts_come_whole_in_pieces_of_any_size() {
    let image = Image::fat16();
    let expected = large();
    for room in [1_000_000, 65_536, 1461] {
        let (out, connection) = answers(&image, &image.cache(2), &get("/large.bin", ""), room);
        assert!(out.ends_with(&expected), "{room}");
        assert_eq!((connection.responses(), connection.is_over()), (1, false));
    }
    let part = get("/large.bin", "Range: bytes=100000-199999\r\n");
    let (out, _) = answers(&image, &image.cache(2), &part, 9999);
    assert!(out.starts_with(b"HTTP/1.1 206 ") && out.ends_with(&expected[100_000..200_000]));
    let beyond = ask(&image, &get("/large.bin", "Range: bytes=9999999-\r\n"));
    assert!(beyond.starts_with("HTTP/1.1 416 "), "{beyond}");
    assert!(beyond.contains(&format!("bytes */{LARGE_BYTES}")), "{beyond}");
}

#[test]
fn many_requests_on_one_connection_are_answered_in_order_until_one_ends_it() {
    let image = Image::fat16();
    let mut requests = get("/", "").repeat(200);
    requests.push_str(&get("/none", "Connection: close\r\n"));
    requests.push_str(&get("/", ""));
    let (out, connection) = answers(&image, &image.cache(4), &requests, 333);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 200);
    assert_eq!(text.matches("HTTP/1.1 404 ").count(), 1);
    assert!(connection.is_over());
    assert_eq!(connection.responses(), 201);
}

#[test]
fn nonsense_ends_the_connection_and_takes_no_more_memory_than_a_head() {
    let image = Image::fat16();
    for nonsense in ["\0\0\0\0\r\n\r\n", "GET / HTTP/3\r\n\r\n", &"x".repeat(100_000)] {
        let (out, connection) = answers(&image, &image.cache(4), nonsense, 1000);
        assert!(out.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&out));
        assert!(connection.is_over());
        assert!(connection.input.capacity() <= 2 * MAX_HEAD_BYTES);
    }
    let (out, connection) = answers(&image, &image.cache(4), "GET / HTT", 1000);
    assert!(out.is_empty() && !connection.is_over());
}

#[test]
fn a_file_that_breaks_off_is_no_regular_end() {
    let image = Image::fat16();
    let cache = image.cache(2);
    let volume = image.with(&cache, || Volume::open(&cache)).unwrap();
    let mut connection = Connection::default();
    connection.receive(get("/large.bin", "").as_bytes());
    let mut room = vec![0; 4096];
    let mut bytes = 0;
    while !connection.is_over() {
        let filled = connection.fill(&volume, &mut room);
        bytes += filled.bytes;
        match filled.wants {
            Some(chunk) if bytes > 500_000 => cache.fail(chunk, cache.claim(chunk)),
            Some(chunk) => image.read(&cache, chunk),
            None => {}
        }
    }
    assert!(connection.is_broken() && bytes < LARGE_BYTES);
    assert_eq!(connection.responses(), 0);
    connection.reset();
    assert!(!connection.is_broken() && !connection.is_over());
}
