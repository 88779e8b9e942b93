//! The matrix as one page of HTML that needs nothing else: no script, no font, no file beside it.
//!
//! What guests say is escaped here: every piece of text goes through [`Escaped`].

use std::fmt;

use super::columns::Kind;
use super::judge::Outcome;
use super::matrix::{CaseReport, Cell, Matrix};
use crate::html::Escaped;

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(matrix: &Matrix) -> String {
    Page(matrix).to_string()
}

struct Page<'a>(&'a Matrix);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matrix = self.0;
        f.write_str(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>Enlighten: conformance matrix</title>\n",
        )?;
        writeln!(f, "<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Conformance matrix</h1>")?;
        ran_on(f, matrix)?;
        columns(f, matrix)?;
        filters(f)?;
        rows(f, matrix)?;
        f.write_str("</body>\n</html>\n")
    }
}

fn ran_on(f: &mut fmt::Formatter<'_>, matrix: &Matrix) -> fmt::Result {
    let ran_on = &matrix.ran_on;
    let ours = matrix.failures_of_ours();
    let verdict = if ours == 0 { "none" } else { "some" };
    writeln!(f, "<p class=\"verdict {verdict}\">Failures of our host: {ours}</p>\n<dl>")?;
    for (what, text) in [
        ("KVM", &ran_on.place),
        ("kernel with that KVM", &ran_on.kvm_kernel),
        ("QEMU as foreign monitor", &ran_on.qemu),
        ("processor of this machine", &ran_on.processor),
    ] {
        if !text.is_empty() {
            writeln!(f, "<dt>{what}</dt><dd>{}</dd>", Escaped(text))?;
        }
    }
    f.write_str("</dl>\n")?;
    if !matrix.whole {
        f.write_str("<p>Only a part of the matrix was run.</p>\n")?;
    }
    for note in &matrix.notes {
        writeln!(f, "<p>Note: {}</p>", Escaped(note))?;
    }
    Ok(())
}

fn columns(f: &mut fmt::Formatter<'_>, matrix: &Matrix) -> fmt::Result {
    f.write_str(
        "<table>\n<thead><tr><th>#</th><th>runs on</th><th>hypervisor</th><th>pass</th><th>fail</th>\
         <th>skip</th><th>deviation</th></tr></thead>\n<tbody>\n",
    )?;
    for (index, column) in matrix.columns.iter().enumerate() {
        let counts = column.counts;
        write!(
            f,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            index + 1,
            Escaped(&column.name),
            Escaped(&column.hypervisor),
            counts.pass,
            counts.fail,
            counts.skip,
            counts.deviation
        )?;
        for problem in &column.problems {
            write!(
                f,
                "<tr class=\"fail\"><td></td><td colspan=\"6\">{}</td></tr>",
                Escaped(problem)
            )?;
        }
        f.write_str("\n")?;
    }
    f.write_str("</tbody>\n</table>\n")
}

/// Radio buttons that the style sheet looks at: rows are hidden without any script.
fn filters(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("<div class=\"filters\">\n")?;
    for (index, (id, label)) in [
        ("all", "all cases"),
        ("not-pass", "not passed somewhere"),
        ("fail", "failed somewhere"),
        ("deviation", "known deviations"),
        ("skip", "skipped somewhere"),
    ]
    .iter()
    .enumerate()
    {
        let checked = if index == 0 { " checked" } else { "" };
        writeln!(
            f,
            "<label><input type=\"radio\" name=\"show\" id=\"show-{id}\"{checked}> {label}</label>"
        )?;
    }
    f.write_str("</div>\n")
}

/// Columns that have a cell of their own; the runs with a part switched off share one.
fn own_columns(matrix: &Matrix) -> Vec<usize> {
    let own = |&index: &usize| matrix.columns[index].kind != Kind::Fallback;
    (0..matrix.columns.len()).filter(own).collect()
}

fn rows(f: &mut fmt::Formatter<'_>, matrix: &Matrix) -> fmt::Result {
    let own = own_columns(matrix);
    for facility in &matrix.facilities {
        writeln!(
            f,
            "<details open class=\"facility\">\n<summary>{} <span>{} cases</span></summary>",
            Escaped(&facility.name),
            facility.cases.len()
        )?;
        f.write_str("<table class=\"matrix\">\n<thead><tr><th>rule</th><th>source</th>")?;
        for &index in &own {
            let name = Escaped(&matrix.columns[index].name);
            write!(f, "<th title=\"{name}\"><abbr title=\"{name}\">{}</abbr></th>", index + 1)?;
        }
        f.write_str("<th title=\"our host with a part switched off\">parts off</th></tr></thead>\n<tbody>\n")?;
        for case in &facility.cases {
            row(f, matrix, case, &own)?;
        }
        f.write_str("</tbody>\n</table>\n</details>\n")?;
    }
    Ok(())
}

fn row(
    f: &mut fmt::Formatter<'_>,
    matrix: &Matrix,
    case: &CaseReport,
    own: &[usize],
) -> fmt::Result {
    f.write_str("<tr class=\"")?;
    for outcome in [Outcome::Fail, Outcome::Deviation, Outcome::Skip, Outcome::Pass] {
        if case.results.iter().any(|cell| cell.result == outcome) {
            write!(f, "has-{} ", word(outcome))?;
        }
    }
    write!(f, "\"><td>{}", Escaped(&case.rule))?;
    reasons(f, matrix, case)?;
    write!(f, "</td><td>{}</td>", Escaped(&case.source))?;
    for &index in own {
        match case.results.iter().find(|cell| cell.column == index) {
            Some(cell) => one_cell(f, cell)?,
            None => f.write_str("<td></td>")?,
        }
    }
    shared_cell(f, matrix, case)?;
    f.write_str("</tr>\n")
}

fn one_cell(f: &mut fmt::Formatter<'_>, cell: &Cell) -> fmt::Result {
    let word = word(cell.result);
    let title = if cell.reason.is_empty() { word } else { &cell.reason };
    write!(f, "<td class=\"{word}\" title=\"{}\">{}</td>", Escaped(title), mark(cell.result))
}

/// Of the runs with a part switched off: the worst result, and how many passed of how many.
fn shared_cell(f: &mut fmt::Formatter<'_>, matrix: &Matrix, case: &CaseReport) -> fmt::Result {
    let is_fallback = |cell: &&Cell| matrix.columns[cell.column].kind == Kind::Fallback;
    let cells: Vec<_> = case.results.iter().filter(is_fallback).collect();
    let passed = cells.iter().filter(|cell| cell.result == Outcome::Pass).count();
    // Where a part is missing, a skip is what most cases are expected to end with.
    let worst = cells.iter().map(|cell| cell.result).min_by_key(|&result| match result {
        Outcome::Fail => 0,
        Outcome::Deviation => 1,
        Outcome::Pass => 2,
        Outcome::Skip => 3,
    });
    match worst {
        None => f.write_str("<td></td>"),
        Some(worst) => {
            write!(f, "<td class=\"{}\">{passed} of {}</td>", word(worst), cells.len())
        }
    }
}

/// What did not pass, and why, to be unfolded.
fn reasons(f: &mut fmt::Formatter<'_>, matrix: &Matrix, case: &CaseReport) -> fmt::Result {
    let cells = || case.results.iter().filter(|cell| cell.result != Outcome::Pass);
    if cells().next().is_none() {
        return Ok(());
    }
    f.write_str("<details><summary>reasons</summary><ul>")?;
    for cell in cells() {
        write!(
            f,
            "<li><b class=\"{0}\">{0}</b> {1}: {2}</li>",
            word(cell.result),
            Escaped(&matrix.columns[cell.column].name),
            Escaped(&cell.reason)
        )?;
    }
    f.write_str("</ul></details>")
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fail => "fail",
        Outcome::Deviation => "deviation",
        Outcome::Skip => "skip",
        Outcome::Pass => "pass",
    }
}

fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fail => "FAIL",
        Outcome::Deviation => "dev",
        Outcome::Skip => "skip",
        Outcome::Pass => "✓",
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::tests::example;
    use super::*;

    #[test]
    fn what_a_guest_says_never_becomes_markup() {
        let html = page(&example(Outcome::Pass));
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;"), "{html}");
        assert!(html.contains("a &lt;slot&gt;"), "the rule");
        assert!(html.contains("the lab stalled &lt;once&gt;"), "a note");
    }

    #[test]
    fn quotes_cannot_end_an_attribute() {
        assert_eq!(Escaped("\" onload='x'").to_string(), "&quot; onload=&#39;x&#39;");
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let html = page(&example(Outcome::Pass));
        for reference in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(reference), "{reference}");
        }
        assert!(html.contains("default-src 'none'"));
    }

    #[test]
    fn a_row_says_what_it_has_for_the_filters() {
        let html = page(&example(Outcome::Fail));
        assert!(html.contains("<tr class=\"has-fail \"><td>a &lt;slot&gt;"), "{html}");
        assert!(html.contains("<tr class=\"has-deviation has-pass \"><td>c"), "{html}");
    }
}
