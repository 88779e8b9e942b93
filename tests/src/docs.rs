//! Figures in the documentation: what stands between two comments is written by the command that measures it.

use std::path::Path;

use anyhow::{Context, Result};

/// The comment behind figures.
const END: &str = "<!-- figures: end -->";

/// The comment in front of figures that `command` writes, as it is typed.
pub fn begin(command: &str) -> String {
    format!("<!-- figures: begin; written by {command} -->")
}

/// Writes `figures` into the document `name` under `root`, between the comments of `command`.
///
/// # Errors
///
/// The document is not there, or has no place for them.
pub fn update(root: &Path, name: &str, command: &str, figures: &str) -> Result<()> {
    let path = root.join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
    let begin = begin(command);
    let new = replaced(&text, &begin, &without_place(figures, root))
        .with_context(|| format!("{name} has no place for figures. Put in: {begin} {END}"))?;
    crate::outcome::write_file(&path, new.as_bytes())
}

/// Paths under `root` as they stand in the repository: where a machine keeps its copy is nobody's business.
fn without_place(figures: &str, root: &Path) -> String {
    figures.replace(&format!("{}/", root.display()), "")
}

/// `text` with `figures` between `begin` and the next end; `None` if it does not have both, in this order.
pub(crate) fn replaced(text: &str, begin: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_comments_changes() {
        let begin = begin("make it");
        let text = format!("# Title\n{begin}\nold\n{END}\nrest\n");
        let new = replaced(&text, &begin, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{begin}\n\nnew\n\n{END}\nrest\n"));
        assert_eq!(replaced(&new, &begin, "new\n").unwrap(), new, "a second time changes nothing");
    }

    #[test]
    fn a_log_is_told_by_its_place_in_the_repository() {
        let told = without_place("its log: /a/b/target/x.log", Path::new("/a/b"));
        assert_eq!(told, "its log: target/x.log");
    }

    #[test]
    fn a_document_without_a_place_is_left_alone() {
        let begin = begin("make it");
        assert_eq!(replaced("text", &begin, "new"), None);
        assert_eq!(replaced(&format!("{END} {begin}"), &begin, "new"), None);
    }
}
