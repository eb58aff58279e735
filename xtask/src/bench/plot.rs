//! Plots samples as SVG, readable on dark and light backgrounds.

use std::fmt::Write;

use super::result::{Bench, Series, Subject, Target, target};

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 540.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 34.0;
const ROW: f64 = 22.0;
/// Powers of ten on the scale, from one millisecond to ten seconds.
const DECADES: u32 = 4;
/// Vertical offsets of successive dots, so that they do not cover each other.
const DOT_OFFSETS: [f64; 5] = [0.0, -3.0, 3.0, -5.5, 5.5];

/// One set of colours for both backgrounds, since a viewer may not state which one it has.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#6e7781}\
.grid{stroke:#8c959f;stroke-opacity:.35}\
.dot{fill:#218bff;fill-opacity:.5}\
.peer{fill:#a371f7}\
.median{stroke:#6e7781;stroke-width:2}\
.target{fill:#d9730d}";

/// Renders the plot of these samples.
pub(super) fn render(bench: &Bench) -> String {
    let height = TOP + ROW * bench.series.len() as f64 + 30.0;
    let mut drawing = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Samples and targets, milliseconds</title>\n<style>{STYLE}</style>\n"
    );
    drawing.push_str(&grid(height));
    for (index, series) in bench.series.iter().enumerate() {
        drawing.push_str(&row(bench, series, TOP + ROW * (index as f64 + 0.5)));
    }
    drawing + "</svg>\n"
}

/// Vertical lines at powers of ten with their labels.
fn grid(height: f64) -> String {
    let (top, bottom) = (TOP - 4.0, height - 26.0);
    (0..=DECADES).fold(String::new(), |mut lines, decade| {
        let millis = 10_f64.powi(decade.cast_signed());
        let x = x_of(millis);
        let name = if millis < 1000.0 { format!("{millis} ms") } else { format!("{} s", millis / 1000.0) };
        write(&mut lines, format_args!("<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>\n"));
        for y in [top - 6.0, bottom + 16.0] {
            write(
                &mut lines,
                format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{name}</text>\n"),
            );
        }
        lines
    })
}

fn row(bench: &Bench, series: &Series, y: f64) -> String {
    let mut drawn = String::new();
    let label = escape(&format!("{} · {}", series.measurement.label(), series.subject.label()));
    let (x, base) = (LEFT - 14.0, y + 4.0);
    write(&mut drawn, format_args!("<text x=\"{x}\" y=\"{base}\" text-anchor=\"end\">{label}</text>\n"));
    let class = if series.subject.is_mimeo() { "dot" } else { "dot peer" };
    for (sample, offset) in series.millis.all().iter().zip(DOT_OFFSETS.iter().cycle()) {
        let (x, y) = (x_of(*sample), y + offset);
        write(&mut drawn, format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\"/>"));
    }
    let (median, from) = (x_of(series.millis.percentile(50.0)), y - 8.0);
    write(&mut drawn, format_args!("<path class=\"median\" d=\"M{median:.1} {from}v16\"/>\n"));
    if let Some(max) = max_median(bench, series) {
        let x = x_of(max);
        write(&mut drawn, format_args!("<path class=\"target\" d=\"M{x:.1} {y}l4.5 9h-9z\"/>\n"));
    }
    drawn
}

/// The target's maximum median.
fn max_median(bench: &Bench, series: &Series) -> Option<f64> {
    match target(series.measurement, series.subject)? {
        Target::Millis { p50, .. } => Some(p50),
        Target::ToPodman(ratio) => {
            Some(ratio * bench.find(series.measurement, Subject::Podman)?.percentile(50.0))
        }
    }
}

/// The horizontal position of a time.
fn x_of(millis: f64) -> f64 {
    let decades = millis.max(1.0).log10().min(f64::from(DECADES));
    LEFT + (WIDTH - LEFT - RIGHT) * decades / f64::from(DECADES)
}

fn escape(text: &str) -> String {
    text.replace('`', "").replace('&', "&amp;").replace('<', "&lt;")
}

/// Writing to a string cannot fail.
fn write(into: &mut String, text: std::fmt::Arguments<'_>) {
    into.write_fmt(text).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::{LEFT, RIGHT, WIDTH, escape, x_of};

    #[test]
    fn the_scale_is_logarithmic_and_clamped() {
        assert_eq!([x_of(0.2), x_of(1.0)], [LEFT, LEFT]);
        assert_eq!([x_of(10_000.0), x_of(99_999.0)], [WIDTH - RIGHT, WIDTH - RIGHT]);
        assert!((x_of(100.0) - (LEFT + WIDTH - RIGHT) / 2.0).abs() < 1e-9);
        assert_eq!(escape("`a` & <b"), "a &amp; &lt;b");
    }
}
