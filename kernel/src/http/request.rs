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

/// Entity tags that the peer has (RFC 9110 §13.1.2), as it wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Vec<String>);

impl Tags {
    /// Whether `tag` is among them, weakly compared (RFC 9110 §8.8.3.2). Our tags have no comma inside.
    pub fn contain(&self, tag: &str) -> bool {
        let mut all = self.0.iter().flat_map(|list| list.split(',')).map(str::trim);
        all.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
    }
}

/// A request for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// The parts of the path, decoded: none is empty, `.` or `..`. None at all for `/`.
    pub path: Vec<String>,
    /// Whether the path ends with a slash, as a folder's does.
    pub is_folder: bool,
    /// The part that is wanted.
    pub range: Option<ByteRange>,
    /// The part is wanted of the file with this tag; of another, all is (RFC 9110 §13.1.5).
    pub if_range: Option<String>,
    /// The file is not wanted if it has one of these.
    pub if_none_match: Tags,
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
        Ok(_) if !bytes.trim_ascii_start().contains(&b'\n') => return Err(Status::URI_TOO_LONG),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Status::HEADER_FIELDS_TOO_LARGE);
        }
        Err(httparse::Error::Version) => return Err(Status::VERSION_NOT_SUPPORTED),
        Err(_) => return Err(Status::BAD_REQUEST),
    };
    let method = method(head.method.unwrap_or_default())?;
    let (path, is_folder) = path(head.path.unwrap_or_default())?;
    let is_1_1 = head.version == Some(1);
    let fields = Fields(head.headers);
    fields.check(is_1_1)?;
    // A range that is malformed, or of a kind we don't have, is ignored (RFC 9110 §14.2).
    let range = fields.first("range").and_then(range);
    Ok(Some(Request {
        method,
        path,
        is_folder,
        range,
        if_range: fields.first("if-range").map(|tag| tag.trim().into()),
        if_none_match: Tags(fields.all("if-none-match").map(String::from).collect()),
        keep_alive: fields.keep_alive(is_1_1),
        bytes: head_bytes,
    }))
}

/// Those that are known but not for files, and those that nobody knows (RFC 9110 §9.1).
fn method(name: &str) -> Result<Method, Status> {
    match name {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
            Err(Status::METHOD_NOT_ALLOWED)
        }
        _ => Err(Status::NOT_IMPLEMENTED),
    }
}

struct Fields<'h>(&'h [httparse::Header<'h>]);

impl<'h> Fields<'h> {
    /// The values of a field, lines that are no text left out.
    fn all(&self, name: &str) -> impl Iterator<Item = &'h str> {
        let lines = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        lines.filter_map(|field| core::str::from_utf8(field.value).ok())
    }

    fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count()
    }

    fn first(&self, name: &str) -> Option<&'h str> {
        self.all(name).next()
    }

    /// What must be right whatever is asked for.
    fn check(&self, is_1_1: bool) -> Result<(), Status> {
        // Two would be read differently by others on the way (RFC 9112 §3.2, §6.3).
        let hosts = self.count("host");
        if hosts > 1 || (is_1_1 && hosts == 0) || self.count("content-length") > 1 {
            return Err(Status::BAD_REQUEST);
        }
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match self.first("content-length").map(str::trim) {
            // A body would be taken for the next request.
            _ if self.count("transfer-encoding") != 0 => Err(Status::CONTENT_TOO_LARGE),
            Some(length) if !is_number(length) => Err(Status::BAD_REQUEST),
            Some(length) if length.bytes().any(|digit| digit != b'0') => {
                Err(Status::CONTENT_TOO_LARGE)
            }
            None if self.count("content-length") != 0 => Err(Status::BAD_REQUEST),
            _ => Ok(()),
        }
    }

    fn keep_alive(&self, is_1_1: bool) -> bool {
        let says = |word: &str| {
            let mut words = self.all("connection").flat_map(|line| line.split(','));
            words.any(|said| said.trim().eq_ignore_ascii_case(word))
        };
        !says("close") && (is_1_1 || says("keep-alive"))
    }
}

/// Takes a request's target apart, and tells whether it ends with a slash; what comes after `?` is nobody's business here.
fn path(target: &str) -> Result<(Vec<String>, bool), Status> {
    // The absolute form names us first (RFC 9112 §3.2.2).
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let rest = target.strip_prefix('/').ok_or(Status::BAD_REQUEST)?;
    if rest.len() > 3 * MAX_PATH_BYTES {
        return Err(Status::URI_TOO_LONG);
    }
    let mut parts = Vec::new();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        let part = decode(part).ok_or(Status::BAD_REQUEST)?;
        let odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
        if matches!(&*part, "." | "..") || part.contains(odd) {
            return Err(Status::BAD_REQUEST);
        }
        parts.push(part);
    }
    Ok((parts, target.ends_with('/')))
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
mod tests;
