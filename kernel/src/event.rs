//! The machine-readable lines of `docs/interfaces.md`: `@enl ` and one JSON object.

use core::fmt::{self, Write};

/// What begins every event line.
pub const PREFIX: &str = "@enl ";

/// A JSON object that is being written.
///
/// Errors of the underlying writer are kept until [`Object::end`].
pub struct Object<'w, W: Write + ?Sized> {
    out: &'w mut W,
    first: bool,
    result: fmt::Result,
}

impl<'w, W: Write + ?Sized> Object<'w, W> {
    /// Begins an event line: the prefix and the field `event`.
    pub fn event(out: &'w mut W, name: &str) -> Self {
        let result = out.write_str(PREFIX);
        Self::begin(out, result).str("event", name)
    }

    fn begin(out: &'w mut W, result: fmt::Result) -> Self {
        let result = result.and_then(|()| out.write_char('{'));
        Self { out, first: true, result }
    }

    /// Adds a text.
    #[must_use]
    pub fn str(self, key: &str, value: &str) -> Self {
        self.field(key, |out| string(out, format_args!("{value}")))
    }

    /// Adds a text that is still to be formatted.
    #[must_use]
    pub fn text(self, key: &str, value: fmt::Arguments<'_>) -> Self {
        self.field(key, |out| string(out, value))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, key: &str, value: u64) -> Self {
        self.field(key, |out| write!(out, "{value}"))
    }

    /// Adds an array with one object for each item, which `each` fills.
    #[must_use]
    pub fn objects<T>(
        self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        each: impl Fn(Object<'_, W>, T) -> fmt::Result,
    ) -> Self {
        self.field(key, |out| {
            out.write_char('[')?;
            for (index, item) in items.into_iter().enumerate() {
                let comma = if index == 0 { Ok(()) } else { out.write_char(',') };
                each(Object::begin(&mut *out, comma), item)?;
            }
            out.write_char(']')
        })
    }

    fn field(mut self, key: &str, value: impl FnOnce(&mut W) -> fmt::Result) -> Self {
        if self.result.is_ok() {
            let comma = if self.first { "" } else { "," };
            self.first = false;
            self.result = write!(self.out, "{comma}\"{key}\":").and_then(|()| value(self.out));
        }
        self
    }

    /// Closes the object.
    ///
    /// # Errors
    /// The first error of the underlying writer.
    pub fn end(self) -> fmt::Result {
        self.result?;
        self.out.write_char('}')
    }
}

/// Writes a JSON string (RFC 8259 §7).
fn string(out: &mut (impl Write + ?Sized), value: fmt::Arguments<'_>) -> fmt::Result {
    out.write_char('"')?;
    write!(Escape(out), "{value}")?;
    out.write_char('"')
}

struct Escape<'w, W: Write + ?Sized>(&'w mut W);

impl<W: Write + ?Sized> Write for Escape<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                '\n' => self.0.write_str("\\n")?,
                other if other < ' ' => write!(self.0, "\\u{:04x}", u32::from(other))?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;
    use crate::fixed::Text;

    #[test]
    fn an_event_is_one_line_as_documented() {
        let mut out = String::new();
        Object::event(&mut out, "end").number("code", 0).end().unwrap();
        assert_eq!(out, r#"@enl {"event":"end","code":0}"#);
    }

    #[test]
    fn text_is_escaped() {
        let mut out = String::new();
        Object::event(&mut out, "panic").str("message", "a \"b\"\\\n\u{1}ü").end().unwrap();
        assert_eq!(out, "@enl {\"event\":\"panic\",\"message\":\"a \\\"b\\\"\\\\\\n\\u0001ü\"}");
    }

    #[test]
    fn arrays_hold_objects() {
        let mut out = String::new();
        let event = Object::event(&mut out, "study");
        event.objects("per_vp", [1, 2], |o, n| o.number("n", n).end()).end().unwrap();
        assert_eq!(out, r#"@enl {"event":"study","per_vp":[{"n":1},{"n":2}]}"#);
    }

    #[test]
    fn a_full_writer_is_an_error() {
        let mut out = Text::<20>::new();
        assert!(Object::event(&mut out, "end").str("x", "0123456789").end().is_err());
    }
}
