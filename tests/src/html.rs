//! What reports that are pages of HTML have in common.

use std::fmt::{self, Write as _};

/// Text as it stands in HTML, also within an attribute in quotes.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup_or_ends_an_attribute() {
        let escaped = Escaped("<a href=\"'\">&\u{e4}").to_string();
        assert_eq!(escaped, "&lt;a href=&quot;&#39;&quot;&gt;&amp;\u{e4}");
    }
}
