//! The comparison as one page of HTML that needs nothing else: what was found first, then a drawing and all figures for each piece of work.
//!
//! What comes from outside is escaped by [`Escaped`].

use std::fmt::Write as _;

use anyhow::Result;

use super::findings::{of_devices, reasons, sentence, short};
use super::record::Figure;
use super::table::{depth, optional, sorted, verdict};
use super::{Comparison, drawings};
use crate::html::Escaped;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:76em;margin:2em auto;padding:0 1em}\
    table{border-collapse:collapse}td,th{padding:.15em .6em;text-align:right;border-bottom:1px solid #ddd}\
    td.t,th.t{text-align:left}td.w{text-align:left;font-size:85%}.missed{color:#a00}svg{max-width:100%;height:auto}";

/// The page.
///
/// # Errors
///
/// If something can't be drawn.
pub(super) fn page(comparison: &Comparison) -> Result<String> {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Enlighten: synthetic and emulated devices</title>\n",
    );
    writeln!(page, "<style>{STYLE}</style>\n</head>\n<body>\n<h1>What one operation costs</h1>")?;
    head(&mut page, comparison)?;
    ratios(&mut page, comparison)?;
    let figures = sorted(&comparison.figures);
    for group in figures.chunk_by(|a, b| same_work(a, b)) {
        works(&mut page, group)?;
    }
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

/// What was found, what was not, and where.
fn head(page: &mut String, comparison: &Comparison) -> Result<()> {
    for lead in &comparison.lead {
        writeln!(page, "<p><b>{}</b></p>", Escaped(lead))?;
    }
    for ratio in comparison.aims() {
        let class = if ratio.is_missed() { " class=\"missed\"" } else { "" };
        writeln!(page, "<p{class}>{}</p>", Escaped(&sentence(ratio)))?;
    }
    writeln!(page, "<p>{}</p>", Escaped(&verdict(comparison)))?;
    writeln!(
        page,
        "<p>On: {}. {} operations of each piece of work were asked for; where each costs very much, there are fewer (\u{201c}times\u{201d}).</p>",
        Escaped(&comparison.place),
        comparison.operations
    )?;
    let told = |word: &'static str| move |text: String| (word, text);
    let rest = comparison.failures.iter().cloned().map(told("Failed"));
    let rest = rest.chain(comparison.skips.iter().map(ToString::to_string).map(told("Skipped")));
    let rest = rest.chain(comparison.notes.iter().cloned().map(told("Note")));
    for (word, text) in rest {
        writeln!(page, "<p>{word}: {}</p>", Escaped(&text))?;
    }
    Ok(())
}

/// Synthetic against emulated, for all work.
fn ratios(page: &mut String, comparison: &Comparison) -> Result<()> {
    if comparison.ratios.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<h2>How many times fewer exits synthetic devices take</h2>\n<table>\n<tr><th class=\"t\">guest</th><th class=\"t\">work</th>\
         <th>bytes</th><th class=\"t\">emulated</th><th>exits</th><th class=\"t\">synthetic</th><th>exits</th><th>ratio</th><th>aim</th></tr>\n",
    );
    for ratio in &comparison.ratios {
        writeln!(
            page,
            "<tr><td class=\"t\">{}</td><td class=\"t\">{}</td><td>{}</td><td class=\"t\">{}</td><td>{}</td><td class=\"t\">{}</td>\
             <td>{}</td><td>{}</td><td>{}</td></tr>",
            ratio.system.title(),
            Escaped(&ratio.work),
            ratio.bytes,
            Escaped(&ratio.emulated),
            short(ratio.emulated_exits),
            Escaped(&ratio.synthetic),
            short(ratio.synthetic_exits),
            short(ratio.ratio),
            ratio.aim.map_or_else(String::new, |aim| aim.to_string()),
        )?;
    }
    page.push_str("</table>\n");
    Ok(())
}

fn same_work(a: &Figure, b: &Figure) -> bool {
    (&a.work.work, a.work.bytes) == (&b.work.work, b.work.bytes)
}

/// All ways to do the same work.
fn works(page: &mut String, group: &[&Figure]) -> Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    writeln!(page, "<h2>{}, {} bytes</h2>", Escaped(&first.work.work), first.work.bytes)?;
    page.push_str(&drawings::of_work(group)?);
    page.push_str(
        "<table>\n<tr><th class=\"t\">way</th><th class=\"t\">guest</th><th>depth</th><th>times</th><th>exits</th>\
         <th>to the program</th><th>interrupts</th><th>bytes copied</th><th>instructions</th><th>speed</th><th class=\"t\">exits by reason</th></tr>\n",
    );
    for figure in group {
        row(page, figure)?;
    }
    page.push_str("</table>\n");
    Ok(())
}

fn row(page: &mut String, figure: &Figure) -> Result<()> {
    let work = &figure.work;
    writeln!(
        page,
        "<tr><td class=\"t\">{}</td><td class=\"t\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{:.1}</td><td class=\"w\">{}; to the program: {}; the device: {}</td></tr>",
        Escaped(&work.path),
        figure.system.title(),
        depth(work.depth),
        work.operations,
        short(figure.exits),
        optional(figure.user_exits, 3),
        short(figure.interrupts),
        optional(figure.copied_bytes, 0),
        optional(figure.instructions, 0),
        figure.speed,
        Escaped(&reasons(&figure.exits_by_reason)),
        Escaped(&reasons(&figure.user_exits_by_reason)),
        Escaped(&of_devices(figure)),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::comparison;
    use super::*;

    #[test]
    fn the_page_leads_with_what_was_found_and_escapes_what_comes_from_outside() {
        let html = page(&comparison()).unwrap();
        for part in
            ["storvsc", "ide-pio", "here &amp; there", "&lt;script&gt;", "<svg", "no driver"]
        {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("<script>"));
        assert!(html.find("A read of 4 KiB") < html.find("<table>"));
    }
}
