//! Requests as people and programs make them, and as nobody should.

use alloc::format;
use alloc::vec;

use proptest::prelude::*;

use super::*;

fn get(target: &str, fields: &str) -> Result<Option<Request>, Status> {
    parse(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes())
}

fn path_of(target: &str) -> Result<Vec<String>, Status> {
    get(target, "").map(|request| request.unwrap().path)
}

#[test]
fn a_request_of_curl_is_understood() {
    let text = b"GET /docs/a%20b.html?x=1 HTTP/1.1\r\nHost: 10.0.2.15\r\n\
        User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\nGET";
    let request = parse(text).unwrap().unwrap();
    assert_eq!(request.path, ["docs", "a b.html"]);
    assert_eq!((request.method, request.keep_alive), (Method::Get, true));
    assert_eq!(request.bytes, text.len() - 3);
}

#[test]
fn half_a_head_is_waited_for_and_an_endless_one_is_not() {
    assert_eq!(parse(b""), Ok(None));
    assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: x\r\n"), Ok(None));
    let long = format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(MAX_HEAD_BYTES));
    assert_eq!(parse(long.as_bytes()), Err(Status::HEADER_FIELDS_TOO_LARGE));
    let many = "a: b\r\n".repeat(MAX_FIELDS + 1);
    assert_eq!(get("/", &many), Err(Status::HEADER_FIELDS_TOO_LARGE));
}

#[test]
fn nobody_gets_out_of_the_root() {
    for target in ["/..", "/a/../b", "/%2e%2e/x", "/a%2f..%2fb", "/a%5cb", "/c:", "/%00", "/."] {
        assert_eq!(path_of(target), Err(Status::BAD_REQUEST), "{target}");
    }
    for target in ["*", "a", "/%", "/%4", "/%zz", "/%ff"] {
        assert_eq!(path_of(target), Err(Status::BAD_REQUEST), "{target}");
    }
    assert_eq!(path_of("//a//").unwrap(), ["a"]);
    assert_eq!(path_of("http://host:80/a").unwrap(), ["a"]);
    assert!(path_of("http://host").unwrap().is_empty());
}

#[test]
fn other_methods_versions_and_bodies_are_refused_by_name() {
    let text = |line: &str| parse(format!("{line}\r\nHost: x\r\n\r\n").as_bytes());
    assert_eq!(text("POST / HTTP/1.1"), Err(Status::METHOD_NOT_ALLOWED));
    assert_eq!(text("GET / HTTP/2.0"), Err(Status::VERSION_NOT_SUPPORTED));
    assert_eq!(text("nonsense"), Err(Status::BAD_REQUEST));
    assert_eq!(get("/", "Content-Length: 5\r\n"), Err(Status::CONTENT_TOO_LARGE));
    assert_eq!(get("/", "Transfer-Encoding: chunked\r\n"), Err(Status::CONTENT_TOO_LARGE));
    assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), Err(Status::BAD_REQUEST), "no host");
}

#[test]
fn what_is_too_long_is_told_apart() {
    let long = "a".repeat(3 * MAX_PATH_BYTES + 1);
    assert_eq!(path_of(&format!("/{long}")), Err(Status::URI_TOO_LONG));
    assert!(path_of(&format!("/{}", &long[1..])).is_ok());
    // A line that never ends, with and without an empty one before it.
    for begin in ["GET /", "\r\nGET /"] {
        let line = format!("{begin}{}", "a".repeat(MAX_HEAD_BYTES));
        assert_eq!(parse(line.as_bytes()), Err(Status::URI_TOO_LONG));
    }
}

#[test]
fn methods_that_nobody_knows_are_not_implemented() {
    for (line, status) in [
        ("BREW / HTTP/1.1", Status::NOT_IMPLEMENTED),
        ("get / HTTP/1.1", Status::NOT_IMPLEMENTED),
        ("OPTIONS * HTTP/1.1", Status::METHOD_NOT_ALLOWED),
        ("DELETE / HTTP/1.1", Status::METHOD_NOT_ALLOWED),
    ] {
        let text = format!("{line}\r\nHost: x\r\n\r\n");
        assert_eq!(parse(text.as_bytes()), Err(status), "{line}");
    }
}

#[test]
fn fields_that_others_would_read_differently_are_refused() {
    for fields in [
        "Host: y\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: +0\r\n",
        "Content-Length:\r\n",
        "Content-Length: \u{e9}\r\n",
        "Content-Length : 0\r\n",
        "A: b\r\n continued\r\n",
        " A: b\r\n",
        "no colon\r\n",
        "A\0: b\r\n",
    ] {
        assert_eq!(get("/", fields), Err(Status::BAD_REQUEST), "{fields:?}");
    }
    assert!(get("/", "Content-Length: 00\r\n").is_ok());
    assert_eq!(get("/", "Content-Length: 007\r\n"), Err(Status::CONTENT_TOO_LARGE));
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n";
    assert_eq!(get("/", both), Err(Status::CONTENT_TOO_LARGE));
}

#[test]
fn tags_are_compared_weakly_and_one_by_one() {
    let tags = |fields: &str| get("/", fields).unwrap().unwrap().if_none_match;
    let some = tags("If-None-Match: \"a\", W/\"b\"\r\nif-none-match: \"c\"\r\n");
    for (tag, there) in
        [("\"a\"", true), ("\"b\"", true), ("\"c\"", true), ("\"d\"", false), ("a", false)]
    {
        assert_eq!(some.contain(tag), there, "{tag}");
    }
    assert!(tags("If-None-Match: *\r\n").contain("\"x\""));
    assert!(!tags("").contain("\"x\""));
}

#[test]
fn a_slash_at_the_end_is_kept_in_mind() {
    for (target, slash) in
        [("/", true), ("/a", false), ("/a/", true), ("/a//?b=c/", true), ("/a?/", false)]
    {
        assert_eq!(get(target, "").unwrap().unwrap().is_folder, slash, "{target}");
    }
}

#[test]
fn a_connection_stays_as_its_version_says() {
    let stays = |line: &str| parse(line.as_bytes()).unwrap().unwrap().keep_alive;
    assert!(stays("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(!stays("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"));
    assert!(!stays("GET / HTTP/1.0\r\n\r\n"));
    assert!(stays("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

#[test]
fn ranges_are_those_of_the_rfc() {
    let range = |value: &str| get("/", &format!("Range: {value}\r\n")).unwrap().unwrap().range;
    assert_eq!(range("bytes=0-499"), Some(ByteRange::From(0, Some(499))));
    assert_eq!(range("bytes=9500-"), Some(ByteRange::From(9500, None)));
    assert_eq!(range("bytes=-500"), Some(ByteRange::Last(500)));
    for odd in ["bytes=5-4", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=+1-2"] {
        assert_eq!(range(odd), None, "{odd}");
    }
}

#[test]
fn a_range_is_cut_to_the_file() {
    assert_eq!(ByteRange::From(0, Some(499)).resolve(10_000), Some((0, 500)));
    assert_eq!(ByteRange::From(9_999, Some(20_000)).resolve(10_000), Some((9_999, 1)));
    assert_eq!(ByteRange::From(10_000, None).resolve(10_000), None);
    assert_eq!(ByteRange::Last(20_000).resolve(10_000), Some((0, 10_000)));
    assert_eq!(ByteRange::Last(0).resolve(10_000), None);
    assert_eq!(ByteRange::From(0, None).resolve(0), None);
}

proptest! {
    #[test]
    fn anything_gives_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_part_of_a_path_leads_up(target in "/[a.%/2eE]{0,20}") {
        if let Ok(parts) = path_of(&target) {
            prop_assert!(!parts.contains(&String::from("..")));
        }
    }

    #[test]
    fn a_resolved_range_lies_in_the_file(first: u64, last: Option<u64>, length: u64) {
        for range in [ByteRange::From(first, last), ByteRange::Last(first)] {
            if let Some((start, count)) = range.resolve(length) {
                prop_assert!(count != 0 && start.checked_add(count).unwrap() <= length);
            }
        }
    }

    #[test]
    fn encoded_names_are_decoded(name in "[a-zA-Z0-9 äß]{1,20}") {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        prop_assume!(!name.trim().is_empty());
        prop_assert_eq!(path_of(&format!("/{encoded}")).unwrap(), vec![name]);
    }
}
