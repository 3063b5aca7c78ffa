//! Distributions as SVG: what share of the rounds took at most so long, over a logarithmic time.

use std::fmt::Write as _;

use tests::programs::workspace;

use crate::latency::Latencies;
use crate::report::time;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 50.0;
/// Told apart in print and by most who confuse red and green (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
/// More points than this are not seen.
const POINTS: usize = 200;

/// A plot.
pub struct Plot {
    title: String,
    lines: Vec<(String, Vec<u64>)>,
}

impl Plot {
    pub fn new(what: &str, of: &str) -> Plot {
        Plot {
            title: format!("{what}: {of}"),
            lines: Vec::new(),
        }
    }

    pub fn line(&mut self, name: &str, all: &Latencies) {
        self.lines.push((name.into(), all.sorted()));
    }

    /// Into docs/plots.
    pub fn write(&self, name: &str) {
        let folder = workspace().join("docs/plots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.svg")), self.svg()).unwrap();
    }

    fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|(_, sorted)| sorted).copied();
        let decade = |nanoseconds: u64| (nanoseconds.max(1) as f64).log10();
        let first = decade(all().min().unwrap_or(1)).floor();
        let last = decade(all().max().unwrap_or(10)).ceil().max(first + 1.0);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let x = |decade: f64| LEFT + (decade - first) / (last - first) * (right - LEFT);
        let y = |share: f64| bottom - share * (bottom - TOP);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            self.title
        );
        for share in [0.0, 0.25, 0.5, 0.75, 0.99] {
            let (y, percent) = (y(share), share * 100.0);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
                LEFT - 6.0,
                y + 4.0
            );
        }
        let mut at = first;
        while at <= last {
            let x = x(at);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                label(at)
            );
            at += 1.0;
        }
        for (number, (name, sorted)) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let count = sorted.len();
            let mut path = String::new();
            for point in 0..=POINTS.min(count) {
                // The last of all is one of them: it is what is asked for.
                let rank = (point * count).div_ceil(POINTS.min(count).max(1)).max(1);
                let Some(value) = sorted.get(rank - 1) else {
                    continue;
                };
                let (x, y) = (x(decade(*value)), y(rank as f64 / count as f64));
                let _ = write!(path, "{}{x:.1} {y:.1}", if point == 0 { 'M' } else { 'L' });
            }
            let (mark, words) = (right - 330.0, right - 312.0);
            let line = bottom - 14.0 * (self.lines.len() - number) as f64;
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>\
                 <path d=\"M{mark} {line}h14\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{words}\" y=\"{:.1}\">{name}</text>",
                line + 4.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// A power of ten of nanoseconds.
fn label(decade: f64) -> String {
    time(10_f64.powf(decade - 9.0)).replace(".00", "")
}
