//! Responses.

use alloc::string::String;
use core::fmt::Write;

use super::Status;

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

/// The head of a response whose body has `length` bytes; a part of a file if `part` says which.
pub fn head(
    status: Status,
    content_type: &str,
    length: u64,
    part: Option<Part>,
    keep_alive: bool,
) -> String {
    let mut text = String::new();
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut write = |arguments: core::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = text.write_fmt(arguments);
    };
    write(format_args!("HTTP/1.1 {status}\r\nServer: enlighten\r\n"));
    write(format_args!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n"));
    match part {
        Some(Part { first, count, of }) if status == Status::PARTIAL_CONTENT => {
            let last = first + count.saturating_sub(1);
            write(format_args!("Content-Range: bytes {first}-{last}/{of}\r\n"));
        }
        Some(Part { of, .. }) if status == Status::RANGE_NOT_SATISFIABLE => {
            write(format_args!("Content-Range: bytes */{of}\r\n"));
        }
        _ => {}
    }
    if status == Status::METHOD_NOT_ALLOWED {
        write(format_args!("Allow: GET, HEAD\r\n"));
    }
    write(format_args!("Accept-Ranges: bytes\r\nConnection: {connection}\r\n\r\n"));
    text
}

/// The content type of a file, by its name's ending.
pub fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is = |one: &&(&str, &str)| one.0.eq_ignore_ascii_case(ending);
    const TYPES: [(&str, &str); 11] = [
        ("html", "text/html; charset=utf-8"),
        ("htm", "text/html; charset=utf-8"),
        ("txt", "text/plain; charset=utf-8"),
        ("md", "text/plain; charset=utf-8"),
        ("css", "text/css"),
        ("js", "text/javascript"),
        ("json", "application/json"),
        ("svg", "image/svg+xml"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("ico", "image/vnd.microsoft.icon"),
    ];
    TYPES.iter().find(is).map_or("application/octet-stream", |found| found.1)
}

/// A page with the names in a folder; its links hold whether or not the folder was asked for with a slash at the end.
pub fn listing<'a>(folder: &[String], names: impl Iterator<Item = (&'a str, bool)>) -> String {
    let mut page = String::from("<!DOCTYPE html><base href=\"/");
    for part in folder {
        let _ = write!(page, "{}/", Encoded(part));
    }
    page.push_str("\"><title>Files</title><ul>");
    for (name, is_folder) in names {
        let slash = if is_folder { "/" } else { "" };
        let _ = write!(page, "<li><a href=\"{}{slash}\">", Encoded(name));
        escape(&mut page, name);
        let _ = write!(page, "{slash}</a></li>");
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
    use super::*;

    #[test]
    fn a_head_has_the_form_of_the_rfc() {
        let head = head(Status::OK, "text/plain", 5, None, true);
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\nServer: enlighten\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
             Accept-Ranges: bytes\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn a_part_says_which_it_is() {
        let part = Some(Part { first: 500, count: 500, of: 1234 });
        let text = head(Status::PARTIAL_CONTENT, "x", 500, part, false);
        assert!(text.contains("Content-Range: bytes 500-999/1234\r\n"), "{text}");
        let text = head(Status::RANGE_NOT_SATISFIABLE, "x", 0, part, false);
        assert!(text.contains("Content-Range: bytes */1234\r\n"), "{text}");
    }

    #[test]
    fn names_in_a_listing_are_neither_markup_nor_broken_links() {
        let names = [("a<b> \"c\".txt", false), ("d&e", true)];
        let page = listing(&["x y".into()], names.into_iter());
        assert!(page.contains("<base href=\"/x%20y/\">"), "{page}");
        assert!(
            page.contains("<a href=\"a%3Cb%3E%20%22c%22.txt\">a&lt;b&gt; &quot;c&quot;.txt</a>")
        );
        assert!(page.contains("<a href=\"d%26e/\">d&amp;e/</a>"), "{page}");
    }

    #[test]
    fn types_follow_endings_in_any_case() {
        assert_eq!(content_type("INDEX.HTM"), "text/html; charset=utf-8");
        assert_eq!(content_type("a.b.json"), "application/json");
        assert_eq!(content_type("README"), "application/octet-stream");
    }
}
