//! How something grows, as SVG: both axes logarithmic, so that what grows in step is a straight line.

use std::fmt::Write as _;

use tests::programs::workspace;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 130.0;
const BOTTOM: f64 = 50.0;
/// As in the other plots.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// A plot.
pub struct Curve {
    title: String,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// From decade to decade, at least one.
fn decades(all: impl Iterator<Item = f64>) -> (f64, f64) {
    let logs: Vec<f64> = all.map(f64::log10).collect();
    let first = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
    let last = logs
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil();
    (first, last.max(first + 1.0))
}

fn label(decade: f64) -> String {
    if decade < 0.0 {
        format!("{:.*}", -decade as usize, 10_f64.powf(decade))
    } else {
        format!("{:.0}", 10_f64.powf(decade))
    }
}

impl Curve {
    pub fn new(title: &str, unit: &str) -> Curve {
        Curve {
            title: format!("{title} ({unit}), over the number of records"),
            lines: Vec::new(),
        }
    }

    pub fn line(&mut self, name: &str, points: Vec<(f64, f64)>) {
        self.lines.push((name.into(), points));
    }

    /// Into docs/plots.
    pub fn write(&self, name: &str) {
        let folder = workspace().join("docs/plots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.svg")), self.svg()).unwrap();
    }

    fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|(_, points)| points);
        let (first_x, last_x) = decades(all().map(|(x, _)| *x));
        let (first_y, last_y) = decades(all().map(|(_, y)| *y));
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let x = |decade: f64| LEFT + (decade - first_x) / (last_x - first_x) * (right - LEFT);
        let y = |decade: f64| bottom - (decade - first_y) / (last_y - first_y) * (bottom - TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            self.title
        );
        for decade in first_y as i32..=last_y as i32 {
            let (at, decade) = (y(f64::from(decade)), f64::from(decade));
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                label(decade)
            );
        }
        for decade in first_x as i32..=last_x as i32 {
            let (at, decade) = (x(f64::from(decade)), f64::from(decade));
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                label(decade)
            );
        }
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let mut path = String::new();
            let mut dots = String::new();
            for (n, (at, value)) in points.iter().enumerate() {
                let (at, value) = (x(at.log10()), y(value.log10()));
                let _ = write!(path, "{}{at:.1} {value:.1}", if n == 0 { 'M' } else { 'L' });
                let _ = write!(
                    dots,
                    "<circle cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"3\" fill=\"{colour}\"/>"
                );
            }
            let (mark, words) = (right + 14.0, right + 34.0);
            let line = TOP + 20.0 + 18.0 * number as f64;
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>{dots}\
                 <path d=\"M{mark} {line}h14\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{words}\" y=\"{:.1}\">{name}</text>",
                line + 4.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}
