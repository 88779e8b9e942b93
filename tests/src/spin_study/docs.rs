//! Refreshes the figures in the documentation: what stands between two comments, and the drawings beside it.

use std::path::Path;

use anyhow::{Context, Result};

use super::tables::Section;

/// The comments.
const BEGIN: &str = "<!-- figures: begin; written by make study ARGS=\"--update-docs\" -->";
const END: &str = "<!-- figures: end -->";

/// The documents: the file, and the sections of it that are told by their titles' beginnings; the second has what the
/// first leaves.
const SCALING: (&str, &str) = ("docs/scaling.md", "Scaling");
const SPIN_WAIT: &str = "docs/spin-wait.md";
/// Which drawings go along.
const DRAWINGS: [&str; 2] = ["study-throughput.svg", "study-threshold.svg"];

/// Writes the sections and drawings into the documentation under `root`; a document of which nothing was measured stays
/// as it is. The names of those written.
///
/// # Errors
///
/// If a document is not there or has no place for them.
pub fn update(
    root: &Path,
    sections: &[Section],
    drawings: &[(&str, String)],
) -> Result<Vec<String>> {
    let is_scaling = |section: &&Section| section.title.starts_with(SCALING.1);
    let place = sections.first().into_iter();
    let scaling: Vec<&Section> = place.chain(sections.iter().filter(is_scaling)).collect();
    let rest: Vec<&Section> = sections.iter().filter(|section| !is_scaling(section)).collect();
    let mut written = Vec::new();
    for (name, sections) in [(SPIN_WAIT, rest), (SCALING.0, scaling)] {
        if sections.iter().all(|section| section.rows.is_empty()) {
            // That part was not measured: its figures stay.
            continue;
        }
        let path = root.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let figures: Vec<_> = sections.iter().map(|section| section.markdown(3)).collect();
        let new = replaced(&text, &without_place(&figures.join("\n"), root))
            .with_context(|| format!("{name} has no place for figures. Put in: {BEGIN} {END}"))?;
        crate::outcome::write_file(&path, new.as_bytes())?;
        written.push(name.to_string());
    }
    for (name, svg) in drawings.iter().filter(|(name, _)| DRAWINGS.contains(name)) {
        let name = format!("docs/{name}");
        crate::outcome::write_file(&root.join(&name), svg.as_bytes())?;
        written.push(name);
    }
    Ok(written)
}

/// Paths under `root` as they stand in the repository: where a machine keeps its copy is nobody's business.
fn without_place(figures: &str, root: &Path) -> String {
    figures.replace(&format!("{}/", root.display()), "")
}

/// `text` with `figures` between the comments; `None` if it does not have both, in this order.
fn replaced(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_comments_changes() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nrest\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{BEGIN}\n\nnew\n\n{END}\nrest\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new, "a second time changes nothing");
    }

    #[test]
    fn a_log_is_told_by_its_place_in_the_repository() {
        let told = without_place("its log: /a/b/target/x.log", Path::new("/a/b"));
        assert_eq!(told, "its log: target/x.log");
    }

    #[test]
    fn a_document_without_a_place_is_left_alone() {
        assert_eq!(replaced("text", "new"), None);
        assert_eq!(replaced(&format!("{END} {BEGIN}"), "new"), None);
    }

    #[test]
    fn the_documents_of_this_repository_have_their_places() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for name in [SPIN_WAIT, SCALING.0] {
            let text = std::fs::read_to_string(root.join(name)).unwrap();
            assert!(replaced(&text, "").is_some(), "{name}");
        }
    }
}
