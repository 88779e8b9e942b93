//! Line charts in panels: one line for each lock, one panel for each setting.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// A line: a lock, and a value for each step of the horizontal axis that has one.
#[derive(Debug, Clone)]
pub struct Line {
    /// The lock.
    pub lock: String,
    /// Step and value.
    pub points: Vec<(usize, f64)>,
}

/// One of several charts beside one another.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What is above it.
    pub title: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A drawing of several panels with the same axes.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// What is above all.
    pub title: String,
    /// What the steps of the horizontal axis are.
    pub x_title: String,
    /// Names of the steps.
    pub steps: Vec<String>,
    /// What the vertical axis shows.
    pub y_title: String,
    /// Whether the vertical axis is logarithmic.
    pub logarithmic: bool,
    /// The panels, row by row, `columns` in a row.
    pub panels: Vec<Panel>,
    /// Panels in a row.
    pub columns: usize,
}

const WIDTH: u32 = 1100;
const PANEL_HEIGHT: u32 = 280;
const HEAD: u32 = 84;

/// Colour by algorithm; plain locks are pale.
fn colour(lock: &str) -> RGBColor {
    let (algorithm, variant) = lock.split_once('-').unwrap_or((lock, ""));
    let RGBColor(r, g, b) = match (algorithm, variant) {
        ("spin", _) => RGBColor(0x7A, 0x4F, 0xB5),
        ("tas", _) => RGBColor(0x1F, 0x77, 0xB4),
        ("ticket", _) => RGBColor(0xD9, 0x5F, 0x02),
        ("mcs", "notifying") => RGBColor(0xB8, 0x86, 0x0B),
        ("mcs", _) => RGBColor(0x2C, 0x93, 0x3C),
        _ => RGBColor(0x55, 0x55, 0x55),
    };
    let pale = |part: u8| part / 2 + 0x78;
    if variant.is_empty() { RGBColor(pale(r), pale(g), pale(b)) } else { RGBColor(r, g, b) }
}

/// The drawing as SVG.
///
/// # Errors
///
/// If the library can't draw it.
pub fn svg(drawing: &Drawing) -> Result<String> {
    let mut svg = String::new();
    paint(&mut svg, drawing).map_err(|error| anyhow!("cannot draw {}: {error}", drawing.title))?;
    Ok(svg)
}

/// Writes the drawing to `path`.
///
/// # Errors
///
/// If it can't be drawn or written.
pub fn write(path: &Path, drawing: &Drawing) -> Result<()> {
    crate::outcome::write_file(path, svg(drawing)?.as_bytes())
}

type Painted = Result<(), Box<dyn std::error::Error>>;

fn paint(svg: &mut String, drawing: &Drawing) -> Painted {
    let columns = drawing.columns.max(1);
    let rows = drawing.panels.len().div_ceil(columns).max(1);
    let height = HEAD + PANEL_HEIGHT * u32::try_from(rows)?;
    let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&Text::new(drawing.title.clone(), (14, 10), ("sans-serif", 19)))?;
    legend(&area, drawing)?;
    let (_, below) = area.split_vertically(HEAD);
    let range = range(drawing);
    for (panel, place) in drawing.panels.iter().zip(below.split_evenly((rows, columns))) {
        paint_panel(&place, drawing, panel, range)?;
    }
    area.present()?;
    Ok(())
}

fn legend(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    drawing: &Drawing,
) -> Painted {
    let mut locks: Vec<&str> = Vec::new();
    for line in drawing.panels.iter().flat_map(|panel| &panel.lines) {
        if !locks.contains(&line.lock.as_str()) {
            locks.push(&line.lock);
        }
    }
    for (place, lock) in (0..).zip(locks) {
        let (x, y) = (16 + (place % 6) * 178, 42 + (place / 6) * 20);
        let corners = [(x, y + 2), (x + 22, y + 6)];
        area.draw(&Rectangle::new(corners, colour(lock).filled()))?;
        area.draw(&Text::new(lock.to_string(), (x + 28, y - 4), ("sans-serif", 14)))?;
    }
    Ok(())
}

fn range(drawing: &Drawing) -> (f64, f64) {
    let lines = drawing.panels.iter().flat_map(|panel| &panel.lines);
    let values = || lines.clone().flat_map(|line| &line.points).map(|point| point.1);
    let most = values().filter(|value| value.is_finite()).fold(0.0, f64::max);
    if !drawing.logarithmic {
        return (0.0, if most > 0.0 { most * 1.08 } else { 1.0 });
    }
    let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let least = if least.is_finite() { least / 2.0 } else { 0.1 };
    (least, (most * 2.0).max(least * 10.0))
}

fn paint_panel(
    place: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    drawing: &Drawing,
    panel: &Panel,
    (least, most): (f64, f64),
) -> Painted {
    let last = drawing.steps.len().saturating_sub(1) as f64;
    let steps = -0.2..last + 0.2;
    let mut builder = ChartBuilder::on(place);
    builder
        .caption(&panel.title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(38)
        .y_label_area_size(58);
    // The two kinds of axis are two types.
    macro_rules! fill {
        ($chart:expr) => {{
            let mut chart = $chart;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(drawing.steps.len() * 2)
                .x_label_formatter(&|x| step_name(&drawing.steps, *x))
                .x_desc(drawing.x_title.as_str())
                .y_desc(drawing.y_title.as_str())
                .draw()?;
            for line in &panel.lines {
                let style = colour(&line.lock).stroke_width(2);
                let points = || line.points.iter().map(|(x, y)| (*x as f64, y.clamp(least, most)));
                chart.draw_series(LineSeries::new(points(), style))?;
                let dots = points().map(|point| Circle::new(point, 3, colour(&line.lock).filled()));
                chart.draw_series(dots)?;
            }
        }};
    }
    if drawing.logarithmic {
        fill!(builder.build_cartesian_2d(steps, (least..most).log_scale())?);
    } else {
        fill!(builder.build_cartesian_2d(steps, least..most)?);
    }
    Ok(())
}

/// The name of a step; nothing between two steps.
fn step_name(steps: &[String], x: f64) -> String {
    let near = x.round();
    let name = || steps.get(near as usize).cloned();
    if (x - near).abs() > 0.01 || near < 0.0 { String::new() } else { name().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(logarithmic: bool, values: &[f64]) -> Drawing {
        let line = Line {
            lock: "tas-enlightened".into(),
            points: (0..).zip(values.iter().copied()).collect(),
        };
        Drawing {
            title: "title".into(),
            x_title: "across".into(),
            steps: ["2", "4", "never"].map(String::from).into(),
            y_title: "up".into(),
            logarithmic,
            panels: vec![
                Panel { title: "one".into(), lines: vec![line.clone()] },
                Panel { title: "two".into(), lines: vec![line] },
            ],
            columns: 2,
        }
    }

    #[test]
    fn titles_steps_and_locks_are_named() {
        for logarithmic in [false, true] {
            let svg = svg(&drawing(logarithmic, &[1.0, 10.0, 100.0])).unwrap();
            for text in ["title", "one", "two", "across", "never", "tas-enlightened"] {
                assert!(svg.contains(text), "{text}");
            }
        }
    }

    #[test]
    fn zeros_and_nothing_can_be_drawn_on_either_axis() {
        for logarithmic in [false, true] {
            svg(&drawing(logarithmic, &[0.0, 0.0])).unwrap();
            svg(&drawing(logarithmic, &[])).unwrap();
            svg(&drawing(logarithmic, &[0.0, f64::NAN, f64::INFINITY])).unwrap();
            let empty = Drawing { panels: vec![], steps: vec![], ..drawing(logarithmic, &[]) };
            svg(&empty).unwrap();
        }
    }

    #[test]
    fn plain_locks_are_paler_than_their_twins() {
        let light = |RGBColor(r, g, b): RGBColor| u32::from(r) + u32::from(g) + u32::from(b);
        for (plain, twin) in
            [("tas", "tas-enlightened"), ("mcs", "mcs-notifying"), ("spin", "spin-enlightened")]
        {
            assert!(light(colour(plain)) > light(colour(twin)), "{plain}");
        }
    }
}
