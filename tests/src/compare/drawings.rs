//! Bars of exits, one drawing for each piece of work.

use anyhow::Result;

use super::record::Figure;
use super::table::{depth, sorted};
use crate::plot::{Bar, svg};

/// Works of the drawing for the documentation: 4 KiB reads, 1,500-byte packets both ways.
const MOST_TELLING: [(&str, u64); 3] = [("read", 4096), ("send", 1514), ("receive", 1514)];
/// What the axis shows.
const AXIS: &str = "exits for each operation, logarithmic";

/// All ways to do the same work.
///
/// # Errors
///
/// If the library can't draw it.
pub(super) fn of_work(group: &[&Figure]) -> Result<String> {
    let Some(first) = group.first() else { return Ok(String::new()) };
    let title = format!("{}, {} bytes", first.work.work, first.work.bytes);
    svg(&title, AXIS, &group.iter().map(|figure| bar(figure)).collect::<Vec<_>>())
}

/// The work that tells most, in one drawing.
///
/// # Errors
///
/// If the library can't draw it.
pub(super) fn most_telling(figures: &[Figure]) -> Result<String> {
    let told =
        |figure: &&&Figure| MOST_TELLING.contains(&(figure.work.work.as_str(), figure.work.bytes));
    let sorted = sorted(figures);
    let bars: Vec<_> = sorted
        .iter()
        .filter(told)
        .map(|figure| {
            let Bar { label, value, enlightened } = bar(figure);
            Bar {
                label: format!("{} {}, {label}", figure.work.work, figure.work.bytes),
                value,
                enlightened,
            }
        })
        .collect();
    svg("Exits for a read of 4 KiB and for a frame of 1,514 bytes", AXIS, &bars)
}

fn bar(figure: &Figure) -> Bar {
    let work = &figure.work;
    let path = work.path.as_str();
    let times = if work.depth == 0 { format!(" of {}", work.operations) } else { String::new() };
    Bar {
        label: format!("{path}, {}, {}{times}", figure.system.title(), depth(work.depth)),
        value: figure.exits.max(0.0),
        enlightened: path == "storvsc" || path == "netvsc",
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::example;
    use super::*;

    #[test]
    fn every_way_has_a_bar() {
        let figures = example();
        let group: Vec<_> = figures.iter().collect();
        for svg in [of_work(&group).unwrap(), most_telling(&figures).unwrap()] {
            for part in ["storvsc, our kernel, 32", "ide-pio, our kernel, 1", "60"] {
                assert!(svg.contains(part), "{part}");
            }
        }
        assert_eq!(of_work(&[]).unwrap(), "");
    }
}
