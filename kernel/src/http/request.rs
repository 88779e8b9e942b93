//! Requests.

use alloc::string::String;
use alloc::vec::Vec;

use super::{MAX_HEAD_BYTES, Status};

/// Fields that a request may have.
const MAX_FIELDS: usize = 48;
/// Bytes that a path may have, decoded.
const MAX_PATH_BYTES: usize = 512;

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Send it.
    Get,
    /// Send the head only.
    Head,
}

/// A part of a file, as asked for (RFC 9110 §14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From this byte on, to the one named if there is one.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

impl ByteRange {
    /// First byte and number of bytes in a file of `length` bytes; `None` if it has no such part.
    pub fn resolve(self, length: u64) -> Option<(u64, u64)> {
        let last = length.checked_sub(1)?;
        match self {
            Self::From(first, end) if first <= last => {
                let end = end.map_or(last, |end| end.min(last));
                Some((first, end.checked_sub(first)? + 1))
            }
            Self::Last(count) if count != 0 => {
                let count = count.min(length);
                Some((length - count, count))
            }
            _ => None,
        }
    }
}

/// A request for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// The parts of the path, decoded: none is empty, `.` or `..`. None at all for `/`.
    pub path: Vec<String>,
    /// The part that is wanted.
    pub range: Option<ByteRange>,
    /// Whether the connection is to stay.
    pub keep_alive: bool,
    /// Bytes of the head: the next request begins behind them.
    pub bytes: usize,
}

/// Reads a request from the beginning of `bytes`. `None`: it has not all arrived.
///
/// # Errors
///
/// What is to be answered instead; the connection then ends.
pub fn parse(bytes: &[u8]) -> Result<Option<Request>, Status> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Status::HEADER_FIELDS_TOO_LARGE);
        }
        Err(httparse::Error::Version) => return Err(Status::VERSION_NOT_SUPPORTED),
        Err(_) => return Err(Status::BAD_REQUEST),
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Err(Status::METHOD_NOT_ALLOWED),
    };
    let path = path(head.path.unwrap_or_default())?;
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        core::str::from_utf8(found.value).ok()
    };
    if field("content-length").is_some_and(|length| length.trim() != "0")
        || field("transfer-encoding").is_some()
    {
        // A body would be taken for the next request.
        return Err(Status::CONTENT_TOO_LARGE);
    }
    let is_1_1 = head.version == Some(1);
    if is_1_1 && field("host").is_none() {
        return Err(Status::BAD_REQUEST);
    }
    let says = |word: &str| {
        let words = field("connection").unwrap_or_default();
        words.split(',').any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    let keep_alive = if is_1_1 { !says("close") } else { says("keep-alive") };
    // A range that is malformed, or of a kind we don't have, is ignored (RFC 9110 §14.2).
    let range = field("range").and_then(range);
    Ok(Some(Request { method, path, range, keep_alive, bytes: head_bytes }))
}

/// Takes a request's target apart; what comes after `?` is nobody's business here.
fn path(target: &str) -> Result<Vec<String>, Status> {
    // The absolute form names us first (RFC 9112 §3.2.2).
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let rest = target.strip_prefix('/').ok_or(Status::BAD_REQUEST)?;
    if rest.len() > 3 * MAX_PATH_BYTES {
        return Err(Status::BAD_REQUEST);
    }
    let mut parts = Vec::new();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        let part = decode(part).ok_or(Status::BAD_REQUEST)?;
        let odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
        if matches!(&*part, "." | "..") || part.contains(odd) || part.len() > MAX_PATH_BYTES {
            return Err(Status::BAD_REQUEST);
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Percent-decoding (RFC 3986 §2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// The field `Range`, if it names one range of bytes.
fn range(value: &str) -> Option<ByteRange> {
    let spec = value.trim().strip_prefix("bytes=")?;
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last) {
        ("", last) => Some(ByteRange::Last(number(last)?)),
        (first, "") => Some(ByteRange::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::From(first, Some(last)))
        }
    }
}

#[cfg(test)]
mod tests {
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
        for target in ["/..", "/a/../b", "/%2e%2e/x", "/a%2f..%2fb", "/a%5cb", "/c:", "/%00", "/."]
        {
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
        for odd in ["bytes=5-4", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=+1-2"]
        {
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
}
