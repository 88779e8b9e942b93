//! Bars on a logarithmic axis: spin iterations per acquisition for each lock and policy, exits for each operation and device.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What stands beside it.
    pub label: String,
    /// Its length; zero or more.
    pub value: f64,
    /// Whether it stands out: the lock notifies the hypervisor, the device is synthetic.
    pub enlightened: bool,
}

const PLAIN: RGBColor = RGBColor(0x9A, 0x9A, 0xA2);
const ENLIGHTENED: RGBColor = RGBColor(0x1F, 0x77, 0xB4);
const ROW_HEIGHT: u32 = 26;

/// Writes `bars` to `path` as SVG, the first on top.
pub fn draw(path: &Path, title: &str, axis: &str, bars: &[Bar]) -> Result<()> {
    let svg = svg(title, axis, bars).with_context(|| format!("{}", path.display()))?;
    crate::outcome::write_file(path, svg.as_bytes())
}

/// `bars` as SVG, the first on top.
///
/// # Errors
///
/// If the library can't draw it.
pub fn svg(title: &str, axis: &str, bars: &[Bar]) -> Result<String> {
    let rows = u32::try_from(bars.len()).context("too many bars")?;
    let mut svg = String::new();
    paint(&mut svg, title, axis, bars, 110 + ROW_HEIGHT * rows)
        .map_err(|error| anyhow!("cannot draw {title}: {error}"))?;
    Ok(svg)
}

fn paint(
    svg: &mut String,
    title: &str,
    axis: &str,
    bars: &[Bar],
    height: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, (980, height)).into_drawing_area();
    area.fill(&WHITE)?;
    // A logarithmic axis has no zero: bars start a decade below the least value shown.
    let least = bars.iter().map(|bar| bar.value).filter(|&v| v > 0.0).fold(1.0, f64::min) / 10.0;
    let most = bars.iter().map(|bar| bar.value).fold(least * 10.0, f64::max) * 3.0;
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(330)
        .build_cartesian_2d((least..most).log_scale(), 0.0..count)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_desc(axis).draw()?;
    for (row, bar) in bars.iter().enumerate() {
        let y = count - row as f64;
        let color = if bar.enlightened { ENLIGHTENED } else { PLAIN };
        let end = bar.value.max(least);
        let corners = [(least, y - 0.85), (end, y - 0.15)];
        chart.draw_series([Rectangle::new(corners, color.filled())])?;
        let style = ("sans-serif", 13).into_font();
        let value = format!(" {}", short(bar.value));
        chart.draw_series([Text::new(value, (end, y - 0.28), style.clone())])?;
        let pixel = chart.backend_coord(&(least, y - 0.28));
        let label = style.color(&BLACK).pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Right,
            plotters::style::text_anchor::VPos::Top,
        ));
        area.draw(&Text::new(bar.label.clone(), (pixel.0 - 8, pixel.1), label))?;
    }
    area.present()?;
    Ok(())
}

/// `value` with three significant digits.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.2} k", v / 1e3),
        v if v >= 10.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(bars: &[Bar]) -> String {
        let mut svg = String::new();
        paint(&mut svg, "title", "axis", bars, 300).unwrap();
        svg
    }

    fn bar(label: &str, value: f64) -> Bar {
        Bar { label: label.into(), value, enlightened: false }
    }

    #[test]
    fn every_bar_is_named_and_measured() {
        let svg = drawn(&[bar("spin, none", 12_345.0), bar("ticket, yield", 0.5)]);
        for text in ["spin, none", "12.35 k", "ticket, yield", "0.50"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn nothing_and_zero_can_be_drawn() {
        drawn(&[]);
        assert!(drawn(&[bar("quiet", 0.0)]).contains("quiet"));
    }
}
