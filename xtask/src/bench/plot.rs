//! Samples as a drawing: SVG of our own, readable on dark and on light.

use std::fmt::Write;

use super::result::{Bar, Bench, Key, Series, bar};

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 540.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 34.0;
const ROW: f64 = 22.0;
/// Powers of ten of a millisecond, from one to ten seconds.
const DECADES: u32 = 4;
/// Dots of one line beside each other, so that they do not hide one another.
const LANES: [f64; 5] = [0.0, -3.0, 3.0, -5.5, 5.5];

/// One set of colours for both grounds: who shows the page may not say which it is.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#6e7781}\
.grid{stroke:#8c959f;stroke-opacity:.35}\
.dot{fill:#218bff;fill-opacity:.5}\
.peer{fill:#a371f7}\
.median{stroke:#6e7781;stroke-width:2}\
.bar{fill:#d9730d}";

/// The drawing for these samples.
pub(super) fn of(bench: &Bench) -> String {
    let height = TOP + ROW * bench.series.len() as f64 + 30.0;
    let mut drawing = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Samples and bars, milliseconds</title>\n<style>{STYLE}</style>\n"
    );
    drawing.push_str(&grid(height));
    for (place, series) in bench.series.iter().enumerate() {
        drawing.push_str(&row(bench, series, TOP + ROW * (place as f64 + 0.5)));
    }
    drawing + "</svg>\n"
}

/// Upright lines at powers of ten, and what they stand for.
fn grid(height: f64) -> String {
    let (top, bottom) = (TOP - 4.0, height - 26.0);
    (0..=DECADES).fold(String::new(), |mut lines, decade| {
        let millis = 10_f64.powi(decade.cast_signed());
        let x = place(millis);
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
    let label = escape(&format!("{} · {}", series.what.words(), series.key.words()));
    let (x, base) = (LEFT - 14.0, y + 4.0);
    write(&mut drawn, format_args!("<text x=\"{x}\" y=\"{base}\" text-anchor=\"end\">{label}</text>\n"));
    let class = if series.key.is_mimeo() { "dot" } else { "dot peer" };
    for (sample, lane) in series.millis.all().iter().zip(LANES.iter().cycle()) {
        let (x, y) = (place(*sample), y + lane);
        write(&mut drawn, format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\"/>"));
    }
    let (median, from) = (place(series.millis.percentile(50.0)), y - 8.0);
    write(&mut drawn, format_args!("<path class=\"median\" d=\"M{median:.1} {from}v16\"/>\n"));
    if let Some(most) = most(bench, series) {
        let x = place(most);
        write(&mut drawn, format_args!("<path class=\"bar\" d=\"M{x:.1} {y}l4.5 9h-9z\"/>\n"));
    }
    drawn
}

/// The most that the median may be.
fn most(bench: &Bench, series: &Series) -> Option<f64> {
    match bar(series.what, series.key)? {
        Bar::Millis { p50, .. } => Some(p50),
        Bar::ToPodman(ratio) => Some(ratio * bench.find(series.what, Key::Podman)?.percentile(50.0)),
    }
}

/// Where milliseconds lie from left to right.
fn place(millis: f64) -> f64 {
    let decades = millis.max(1.0).log10().min(f64::from(DECADES));
    LEFT + (WIDTH - LEFT - RIGHT) * decades / f64::from(DECADES)
}

fn escape(text: &str) -> String {
    text.replace('`', "").replace('&', "&amp;").replace('<', "&lt;")
}

/// A string takes all that is written to it.
fn write(into: &mut String, what: std::fmt::Arguments<'_>) {
    into.write_fmt(what).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::{LEFT, RIGHT, WIDTH, escape, place};

    #[test]
    fn the_scale_is_of_powers_of_ten_and_keeps_what_lies_beyond() {
        assert_eq!([place(0.2), place(1.0)], [LEFT, LEFT]);
        assert_eq!([place(10_000.0), place(99_999.0)], [WIDTH - RIGHT, WIDTH - RIGHT]);
        assert!((place(100.0) - (LEFT + WIDTH - RIGHT) / 2.0).abs() < 1e-9);
        assert_eq!(escape("`a` & <b"), "a &amp; &lt;b");
    }
}
