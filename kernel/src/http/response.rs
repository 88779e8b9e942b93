//! Responses.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use super::Status;
use crate::files::volume::Entry;

/// The part of a file that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First byte.
    pub first: u64,
    /// Number of bytes.
    pub count: u64,
    /// Bytes of the whole file.
    pub of: u64,
}

/// The head of a response; `Display` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// Its status.
    pub status: Status,
    /// Type and length of the body; none is told of with [`Status::NOT_MODIFIED`] (RFC 9110 §15.4.5).
    pub content: Option<(&'a str, u64)>,
    /// Which part of a file the body is.
    pub part: Option<Part>,
    /// The file's entity tag.
    pub tag: Option<&'a str>,
    /// Where to look instead.
    pub location: Option<&'a str>,
    /// Whether the connection stays.
    pub keep_alive: bool,
}

impl Head<'_> {
    /// With a status and nothing else.
    pub const fn new(status: Status, keep_alive: bool) -> Self {
        Self { status, content: None, part: None, tag: None, location: None, keep_alive }
    }
}

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, .. } = self;
        write!(f, "HTTP/1.1 {status}\r\nServer: enlighten\r\n")?;
        if let Some((kind, length)) = self.content {
            write!(f, "Content-Type: {kind}\r\nContent-Length: {length}\r\n")?;
        }
        match self.part {
            Some(Part { first, count, of }) if *status == Status::PARTIAL_CONTENT => {
                let last = first + count.saturating_sub(1);
                write!(f, "Content-Range: bytes {first}-{last}/{of}\r\n")?;
            }
            Some(Part { of, .. }) if *status == Status::RANGE_NOT_SATISFIABLE => {
                write!(f, "Content-Range: bytes */{of}\r\n")?;
            }
            _ => {}
        }
        if let Some(tag) = self.tag {
            write!(f, "ETag: {tag}\r\nAccept-Ranges: bytes\r\n")?;
        }
        if let Some(location) = self.location {
            write!(f, "Location: {location}\r\n")?;
        }
        if *status == Status::METHOD_NOT_ALLOWED {
            f.write_str("Allow: GET, HEAD\r\n")?;
        }
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        write!(f, "Connection: {connection}\r\n\r\n")
    }
}

/// The content type of a file, by its name's ending.
pub fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is = |one: &&(&str, &str)| one.0.eq_ignore_ascii_case(ending);
    const TYPES: [(&str, &str); 21] = [
        ("html", "text/html; charset=utf-8"),
        ("htm", "text/html; charset=utf-8"),
        ("txt", "text/plain; charset=utf-8"),
        ("md", "text/plain; charset=utf-8"),
        ("css", "text/css; charset=utf-8"),
        ("js", "text/javascript; charset=utf-8"),
        ("mjs", "text/javascript; charset=utf-8"),
        ("csv", "text/csv; charset=utf-8"),
        ("xml", "application/xml"),
        ("json", "application/json"),
        ("pdf", "application/pdf"),
        ("wasm", "application/wasm"),
        ("svg", "image/svg+xml"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("gif", "image/gif"),
        ("webp", "image/webp"),
        ("ico", "image/vnd.microsoft.icon"),
        ("woff2", "font/woff2"),
        ("mp4", "video/mp4"),
    ];
    TYPES.iter().find(is).map_or("application/octet-stream", |found| found.1)
}

/// The path of a folder, as it stands in a URL.
pub fn folder_path(folder: &[String]) -> String {
    let mut path = String::from("/");
    for part in folder {
        // Writing to a string does not fail.
        let _ = write!(path, "{}/", Encoded(part));
    }
    path
}

/// A page with what is in a folder. It is to be had under a path that ends with a slash.
pub fn listing(folder: &[String], entries: &[Entry]) -> String {
    let mut title = String::from("/");
    folder.iter().for_each(|part| {
        escape(&mut title, part);
        title.push('/');
    });
    let mut page = String::from("<!DOCTYPE html><meta charset=\"utf-8\">");
    // Writing to a string does not fail.
    let _ = writeln!(page, "<title>{title}</title><h1>{title}</h1><ul>");
    if !folder.is_empty() {
        page.push_str("<li><a href=\"../\">../</a></li>\n");
    }
    for Entry { name, is_folder, bytes } in entries {
        let slash = if *is_folder { "/" } else { "" };
        // `./`: a name may look like the beginning of a URL.
        let _ = write!(page, "<li><a href=\"./{}{slash}\">", Encoded(name));
        escape(&mut page, name);
        let size = if *is_folder { String::new() } else { bytes.to_string() };
        let _ = writeln!(page, "{slash}</a> {size}</li>");
    }
    page.push_str("</ul>\n");
    page
}

/// A name in a link.
struct Encoded<'a>(&'a str);

impl core::fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                f.write_char(byte.into())?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

fn escape(page: &mut String, name: &str) {
    for c in name.chars() {
        match c {
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '&' => page.push_str("&amp;"),
            '"' => page.push_str("&quot;"),
            c => page.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_head_has_the_form_of_the_rfc() {
        let head = Head { content: Some(("text/plain", 5)), ..Head::new(Status::OK, true) };
        assert_eq!(
            head.to_string(),
            "HTTP/1.1 200 OK\r\nServer: enlighten\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
             Connection: keep-alive\r\n\r\n"
        );
        let head = Head::new(Status::METHOD_NOT_ALLOWED, false).to_string();
        assert!(head.contains("\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_part_says_which_it_is() {
        let part = Some(Part { first: 500, count: 500, of: 1234 });
        let head = Head { part, tag: Some("\"x\""), ..Head::new(Status::PARTIAL_CONTENT, false) };
        let text = head.to_string();
        assert!(text.contains("Content-Range: bytes 500-999/1234\r\nETag: \"x\"\r\n"), "{text}");
        let text = Head { part, ..Head::new(Status::RANGE_NOT_SATISFIABLE, false) }.to_string();
        assert!(text.contains("Content-Range: bytes */1234\r\n"), "{text}");
    }

    #[test]
    fn names_in_a_listing_are_neither_markup_nor_broken_links() {
        let entry = |name: &str, is_folder| Entry { name: name.into(), is_folder, bytes: 7 };
        let entries: Vec<_> = [("a<b> \"c\".txt", false), ("d&e", true), ("javascript:x", false)]
            .map(|(name, is_folder)| entry(name, is_folder))
            .into();
        let page = listing(&["x <y".into()], &entries);
        assert!(page.contains("<h1>/x &lt;y/</h1>") && page.contains("href=\"../\""), "{page}");
        assert!(page.contains(
            "<a href=\"./a%3Cb%3E%20%22c%22.txt\">a&lt;b&gt; &quot;c&quot;.txt</a> 7</li>"
        ));
        assert!(page.contains("<a href=\"./d%26e/\">d&amp;e/</a> </li>"), "{page}");
        assert!(page.contains("href=\"./javascript%3Ax\""), "{page}");
        assert!(!listing(&[], &[]).contains("../"), "nothing is above the root");
        assert_eq!(folder_path(&["a b".into(), "//c".into()]), "/a%20b/%2F%2Fc/");
    }

    #[test]
    fn types_follow_endings_in_any_case() {
        assert_eq!(content_type("INDEX.HTM"), "text/html; charset=utf-8");
        assert_eq!(content_type("a.b.json"), "application/json");
        assert_eq!(content_type("README"), "application/octet-stream");
    }
}
