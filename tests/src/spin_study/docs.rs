//! Refreshes the figures in the documentation: what stands between two comments, and the drawings beside it.

use std::path::Path;

use anyhow::Result;

use super::tables::Section;

/// What writes them.
const COMMAND: &str = "make study ARGS=\"--update-docs\"";

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
        let figures: Vec<_> = sections.iter().map(|section| section.markdown(3)).collect();
        crate::docs::update(root, name, COMMAND, &figures.join("\n"))?;
        written.push(name.to_string());
    }
    for (name, svg) in drawings.iter().filter(|(name, _)| DRAWINGS.contains(name)) {
        let name = format!("docs/{name}");
        crate::outcome::write_file(&root.join(&name), svg.as_bytes())?;
        written.push(name);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_of_this_repository_have_their_places() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for name in [SPIN_WAIT, SCALING.0] {
            let text = std::fs::read_to_string(root.join(name)).unwrap();
            let begin = crate::docs::begin(COMMAND);
            assert!(crate::docs::replaced(&text, &begin, "").is_some(), "{name}");
        }
    }
}
