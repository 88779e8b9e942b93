//! The comparison as one page of HTML that needs nothing else: bars of exits for each piece of work, then all figures.
//!
//! What comes from outside is escaped by [`Escaped`].

use std::fmt;

use super::Comparison;
use super::record::Figure;
use super::table::{sorted, verdict};
use crate::html::Escaped;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}\
    table{border-collapse:collapse}td,th{padding:.15em .6em;text-align:right;border-bottom:1px solid #ddd}\
    td.t,th.t{text-align:left}.bar{display:inline-block;height:.8em;background:#1f77b4}.e{background:#b45f1f}.v{background:#8a8a92}\
    .missed{color:#a00}";

/// The page.
pub(super) fn page(comparison: &Comparison) -> String {
    Page(comparison).to_string()
}

struct Page<'a>(&'a Comparison);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(comparison) = self;
        f.write_str(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>Enlighten: synthetic and emulated devices</title>\n",
        )?;
        writeln!(f, "<style>{STYLE}</style>\n</head>\n<body>\n<h1>What one operation costs</h1>")?;
        writeln!(f, "<p>{}</p>", Escaped(&comparison.place))?;
        for aim in &comparison.aims {
            let class = if aim.is_reached() { "" } else { " class=\"missed\"" };
            writeln!(f, "<p{class}>{}</p>", Escaped(&verdict(aim, &comparison.figures)))?;
        }
        for note in &comparison.notes {
            writeln!(f, "<p>Note: {}</p>", Escaped(note))?;
        }
        let figures = sorted(&comparison.figures);
        for group in figures.chunk_by(|a, b| same_work(a, b)) {
            bars(f, group)?;
        }
        f.write_str("</body>\n</html>\n")
    }
}

fn same_work(a: &Figure, b: &Figure) -> bool {
    (&a.work.work, a.work.bytes) == (&b.work.work, b.work.bytes)
}

/// All ways to do the same work. A bar's length is the logarithm of its exits.
fn bars(f: &mut fmt::Formatter<'_>, group: &[&Figure]) -> fmt::Result {
    let Some(first) = group.first() else { return Ok(()) };
    writeln!(f, "<h2>{}, {} bytes</h2>\n<table>", Escaped(&first.work.work), first.work.bytes)?;
    f.write_str(
        "<tr><th class=\"t\">way</th><th class=\"t\">guest</th><th>depth</th><th>exits</th><th class=\"t\">(logarithmic)</th>\
         <th>to the program</th><th>interrupts</th><th>bytes copied</th><th>speed</th></tr>\n",
    )?;
    for figure in group {
        let work = &figure.work;
        let (class, depth) = (class(&work.path), depth(work.depth));
        let width = ((figure.exits.max(0.001) / 0.001).log10() * 2.0).max(0.1);
        let optional =
            |value: Option<f64>| value.map_or_else(|| "–".into(), |it| format!("{it:.2}"));
        writeln!(
            f,
            "<tr><td class=\"t\">{}</td><td class=\"t\">{}</td><td>{depth}</td><td>{:.3}</td>\
             <td class=\"t\"><span class=\"bar {class}\" style=\"width:{width:.1}em\"></span></td>\
             <td>{}</td><td>{:.3}</td><td>{}</td><td>{:.1}</td></tr>",
            Escaped(&work.path),
            figure.system.title(),
            figure.exits,
            optional(figure.user_exits),
            figure.interrupts,
            optional(figure.copied_bytes),
            figure.speed,
        )?;
    }
    f.write_str("</table>\n")
}

fn class(path: &str) -> &'static str {
    match path {
        "storvsc" | "netvsc" => "s",
        path if path.starts_with("virtio") => "v",
        _ => "e",
    }
}

fn depth(depth: u32) -> String {
    if depth == 0 { "burst".into() } else { depth.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;

    #[test]
    fn the_page_has_every_way_and_escapes_what_comes_from_outside() {
        let figures = record::tests::example();
        let notes = vec!["<script>".into()];
        let aims = record::aims(&figures);
        let comparison = Comparison { schema: 1, place: "a & b".into(), figures, aims, notes };
        let html = page(&comparison);
        for part in ["storvsc", "ide-pio", "a &amp; b", "&lt;script&gt;"] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("<script>"));
    }
}
