//! HTTP/1.1 (RFC 9110, RFC 9112) as far as a server of files needs it: requests taken apart, heads of responses put
//! together. What a request says is never trusted; no I/O here.
//!
//! - [`request`]: method, path, range, conditions, connection
//! - [`response`]: status lines, fields, content types, listings
//! - [`connection`]: from requests to the bytes of responses

pub mod connection;
pub mod request;
pub mod response;

use core::fmt;

/// Bytes that a request's head may have.
pub const MAX_HEAD_BYTES: usize = 8192;

/// A status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

#[expect(missing_docs, reason = "RFC 9110 §15 says what each is")]
impl Status {
    pub const OK: Self = Self(200);
    pub const PARTIAL_CONTENT: Self = Self(206);
    pub const MOVED_PERMANENTLY: Self = Self(301);
    pub const NOT_MODIFIED: Self = Self(304);
    pub const BAD_REQUEST: Self = Self(400);
    pub const NOT_FOUND: Self = Self(404);
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    pub const CONTENT_TOO_LARGE: Self = Self(413);
    pub const URI_TOO_LONG: Self = Self(414);
    pub const RANGE_NOT_SATISFIABLE: Self = Self(416);
    pub const HEADER_FIELDS_TOO_LARGE: Self = Self(431);
    pub const INTERNAL_SERVER_ERROR: Self = Self(500);
    pub const NOT_IMPLEMENTED: Self = Self(501);
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);

    /// The reason phrase.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::OK => "OK",
            Self::PARTIAL_CONTENT => "Partial Content",
            Self::MOVED_PERMANENTLY => "Moved Permanently",
            Self::NOT_MODIFIED => "Not Modified",
            Self::BAD_REQUEST => "Bad Request",
            Self::NOT_FOUND => "Not Found",
            Self::METHOD_NOT_ALLOWED => "Method Not Allowed",
            Self::CONTENT_TOO_LARGE => "Content Too Large",
            Self::URI_TOO_LONG => "URI Too Long",
            Self::RANGE_NOT_SATISFIABLE => "Range Not Satisfiable",
            Self::HEADER_FIELDS_TOO_LARGE => "Request Header Fields Too Large",
            Self::NOT_IMPLEMENTED => "Not Implemented",
            Self::VERSION_NOT_SUPPORTED => "HTTP Version Not Supported",
            _ => "Internal Server Error",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}
