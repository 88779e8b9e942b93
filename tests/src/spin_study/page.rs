//! The page `study.html`: everything in one file that needs no other.

use std::fmt::Write as _;

use super::tables::Section;
use crate::html::Escaped;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}\
    th,td{border-bottom:1px solid #ddd;padding:.2em .7em;text-align:right}\
    th:first-child,td:first-child{text-align:left}thead{background:#f3f3f6}\
    svg{max-width:100%;height:auto}h2{margin-top:2em}";

/// The page from tables and drawings (SVG).
pub fn page(title: &str, sections: &[Section], drawings: &[String]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\
         <body><h1>{0}</h1>\n",
        escape(title)
    );
    let (first, rest) = sections.split_at(sections.len().min(2));
    first.iter().for_each(|section| add(&mut out, section));
    for drawing in drawings {
        // The library writes a whole file; within a page its first line may not stand.
        let svg = drawing.find("<svg").map_or("", |at| &drawing[at..]);
        let _ = writeln!(out, "<figure>{svg}</figure>");
    }
    rest.iter().for_each(|section| add(&mut out, section));
    out + "</body></html>\n"
}

fn add(out: &mut String, section: &Section) {
    let _ = writeln!(out, "<h2>{}</h2>", escape(&section.title));
    for sentence in &section.text {
        let _ = writeln!(out, "<p>{}</p>", escape(sentence));
    }
    let mut rows = section.rows.iter();
    let Some(head) = rows.next() else { return };
    let cells = |row: &[String], tag: &str| {
        row.iter().fold(String::new(), |mut line, cell| {
            let _ = write!(line, "<{tag}>{}</{tag}>", escape(cell));
            line
        })
    };
    let _ = writeln!(out, "<table><thead><tr>{}</tr></thead><tbody>", cells(head, "th"));
    for row in rows {
        let _ = writeln!(out, "<tr>{}</tr>", cells(row, "td"));
    }
    let _ = writeln!(out, "</tbody></table>");
}

/// Text for a page; the emphasis of Markdown is left out.
fn escape(text: &str) -> String {
    Escaped(text).to_string().replace('*', "")
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::data;
    use super::super::tables::sections;
    use super::*;

    #[test]
    fn the_page_shows_all_and_lets_no_text_become_markup() {
        let data = data();
        let sections = sections(&data, &data.findings());
        let page = page("Title", &sections, &["<?xml?><svg id=\"one\"></svg>".into()]);
        assert!(page.contains("a &lt;lab&gt;") && !page.contains("a <lab>"));
        assert!(page.contains("<svg id=\"one\">") && !page.contains("<?xml"));
        assert!(page.contains("tas-enlightened") && page.trim_end().ends_with("</html>"));
        assert!(!page.contains("src=") && !page.contains("href="), "it needs no other file");
    }
}
