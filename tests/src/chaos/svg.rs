//! The latency over time, drawn.

use std::time::Duration;

use super::{Latencies, ScenarioReport};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;

/// The lowest and the highest latency on the axis, in microseconds; the axis is logarithmic.
const LOWEST: f64 = 1.0;
const HIGHEST: f64 = 10_000_000.0;

/// How many points a line has at most.
const POINTS: u32 = 240;

/// Median and 99th percentile of calls by when they began, with the fault as a band, in an SVG of its own.
#[must_use]
pub fn draw(report: &ScenarioReport, latencies: &Latencies) -> String {
    let (start, end) = latencies.span();
    let length = end - start;
    let axes = Axes { start: start.as_secs_f64(), length: length.as_secs_f64().max(0.001) };
    let bucket = (length / POINTS).max(Duration::from_millis(50));
    let series = latencies.series(bucket);
    let line = |figure: fn(&super::Quantiles) -> u32| {
        series.iter().map(|(at, figures)| axes.point(at.as_secs_f64(), f64::from(figure(figures)))).collect::<String>()
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut add = |element: &str| {
        svg.push_str(element);
        svg.push('\n');
    };
    let [began, detected, ended, recovered] = report.marks_ms.map(|mark| mark.map(seconds));
    if let (Some(began), Some(ended)) = (began, ended) {
        let (left, right) = (axes.x(began), axes.x(ended));
        add(&format!(
            "<rect x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f6dcdc\"/>",
            (right - left).max(1.0),
            HEIGHT - TOP - BOTTOM
        ));
    }
    for mark in axes.marks() {
        add(&mark);
    }
    for (at, what, color) in [(detected, "breaker open", "#b03030"), (recovered, "Redis used again", "#207020")] {
        let Some(x) = at.map(|at| axes.x(at)) else { continue };
        add(&format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"{color}\" stroke-dasharray=\"4 3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{what}</text>",
            HEIGHT - BOTTOM,
            x + 4.0,
            TOP + if what == "breaker open" { 14.0 } else { 28.0 },
        ));
    }
    for (points, color) in [(line(|at| at.p50_us), "#2060a0"), (line(|at| at.p99_us), "#d08020")] {
        add(&format!(
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" points=\"{}\"/>",
            points.trim_end()
        ));
    }
    add(&format!(
        "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}: latency of calls; <tspan fill=\"#2060a0\">median</tspan>, \
         <tspan fill=\"#d08020\">99th percentile</tspan>; the fault is the red band</text>",
        report.scenario
    ));
    svg + "</svg>\n"
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

struct Axes {
    start: f64,
    length: f64,
}

impl Axes {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + ((seconds - self.start) / self.length).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(micros: f64) -> f64 {
        let share = (micros.clamp(LOWEST, HIGHEST) / LOWEST).log10() / (HIGHEST / LOWEST).log10();
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn point(&self, seconds: f64, micros: f64) -> String {
        format!("{:.1},{:.1} ", self.x(seconds), Self::y(micros))
    }

    /// Lines for the powers of ten, and ten marks of the time.
    fn marks(&self) -> Vec<String> {
        let mut marks = Vec::new();
        let right = WIDTH - RIGHT;
        for (micros, name) in [
            (1.0, "1 us"),
            (10.0, "10 us"),
            (100.0, "100 us"),
            (1e3, "1 ms"),
            (1e4, "10 ms"),
            (1e5, "100 ms"),
            (1e6, "1 s"),
            (1e7, "10 s"),
        ] {
            let y = Self::y(micros);
            marks.push(format!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 6.0,
                y + 4.0
            ));
        }
        for tenth in 0..=10 {
            let seconds = self.length * f64::from(tenth) / 10.0;
            marks.push(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds:.1} s</text>",
                self.x(self.start + seconds),
                HEIGHT - BOTTOM + 16.0
            ));
        }
        marks
    }
}
