//! The results in the documentation: Markdown, and a drawing.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::findings::{reasons, sentence, short};
use super::record::Figure;
use super::table::{depth, optional, sorted};
use super::{Comparison, drawings};

/// What writes it.
const COMMAND: &str = "make compare ARGS=\"--update-docs\"";
/// The document and its drawing.
const DOCUMENT: &str = "docs/synthetic-vs-emulated.md";
const DRAWING: &str = "compare-exits.svg";

/// Writes the results into the documentation under `root`. The names of what was written.
///
/// # Errors
///
/// The document has no place for them.
pub(super) fn update(root: &Path, comparison: &Comparison) -> Result<Vec<String>> {
    let drawing = format!("docs/{DRAWING}");
    let svg = drawings::most_telling(&comparison.figures)?;
    crate::outcome::write_file(&root.join(&drawing), svg.as_bytes())?;
    crate::docs::update(root, DOCUMENT, COMMAND, &results(comparison)?)?;
    Ok(vec![DOCUMENT.into(), drawing])
}

fn results(comparison: &Comparison) -> Result<String> {
    let mut out = String::new();
    for lead in &comparison.lead {
        writeln!(out, "- **{lead}**")?;
    }
    for ratio in comparison.aims() {
        writeln!(out, "- {}", sentence(ratio))?;
    }
    writeln!(
        out,
        "\nOne run, {} operations of each piece of work (*times*: fewer where each costs very much), on: {}.",
        comparison.operations, comparison.place
    )?;
    for skip in &comparison.skips {
        writeln!(out, "- Skipped: {skip}")?;
    }
    for note in &comparison.notes {
        writeln!(out, "- Note: {note}")?;
    }
    writeln!(out, "\n![Exits for each operation]({DRAWING})\n")?;
    ratios(&mut out, comparison)?;
    figures(&mut out, comparison)?;
    Ok(out)
}

fn ratios(out: &mut String, comparison: &Comparison) -> Result<()> {
    out.push_str(
        "### How many times fewer exits\n\n| guest | work | bytes | emulated | exits | synthetic | exits | ratio | aim |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for ratio in &comparison.ratios {
        writeln!(
            out,
            "| {} | {} | {} | `{}` | {} | `{}` | {} | {} | {} |",
            ratio.system.title(),
            ratio.work,
            ratio.bytes,
            ratio.emulated,
            short(ratio.emulated_exits),
            ratio.synthetic,
            short(ratio.synthetic_exits),
            short(ratio.ratio),
            ratio.aim.map_or_else(String::new, |aim| aim.to_string()),
        )?;
    }
    Ok(())
}

fn figures(out: &mut String, comparison: &Comparison) -> Result<()> {
    out.push_str(
        "\n### All figures, for one operation\n\n\
         | work | bytes | depth | times | way | guest | exits | to the program | interrupts | copied | instructions | speed | exits by reason |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for figure in sorted(&comparison.figures) {
        row(out, figure)?;
    }
    Ok(())
}

fn row(out: &mut String, figure: &Figure) -> Result<()> {
    let work = &figure.work;
    writeln!(
        out,
        "| {} | {} | {} | {} | `{}` | {} | {} | {} | {} | {} | {} | {:.1} | {} |",
        work.work,
        work.bytes,
        depth(work.depth),
        work.operations,
        work.path,
        figure.system.title(),
        short(figure.exits),
        optional(figure.user_exits, 3),
        short(figure.interrupts),
        optional(figure.copied_bytes, 0),
        optional(figure.instructions, 0),
        figure.speed,
        reasons(&figure.exits_by_reason),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::comparison;
    use super::*;

    #[test]
    fn the_results_lead_with_what_was_found() {
        let text = results(&comparison()).unwrap();
        assert!(text.starts_with("- **A read of 4 KiB"), "{text}");
        for part in
            ["60.0 times as many", "Skipped: linux, tulip", "| read | 4096 | 32 | 10 | `storvsc` |"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_document_of_this_repository_has_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = std::fs::read_to_string(root.join(DOCUMENT)).unwrap();
        assert!(crate::docs::replaced(&text, &crate::docs::begin(COMMAND), "").is_some());
    }
}
