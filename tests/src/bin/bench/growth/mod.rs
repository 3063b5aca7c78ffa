//! How time, memory and disk grow with the number of records, beside sled and redb alone.
//!
//! RECORDS in the environment is the most of them, 1,000,000 at the utmost of what was tried.

mod curve;
mod engine;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

pub use engine::serve;

use crate::report::{Report, time};
use curve::Curve;
use engine::{Engine, RECORDS, Seen};

const MOST: u32 = 100_000;
const LEAST: u32 = 1_000;

/// What was seen of one engine with so many records.
struct Point {
    records: u32,
    fill: Seen,
    open: Seen,
    /// Bytes on the disk, by what they are for.
    disk: BTreeMap<&'static str, u64>,
}

impl Point {
    fn bytes(&self) -> f64 {
        self.disk.values().sum::<u64>() as f64 / f64::from(self.records)
    }
}

pub fn measure(report: &mut Report) {
    let most = std::env::var("RECORDS").map_or(MOST, |most| most.parse().unwrap());
    let sizes: Vec<u32> = std::iter::successors(Some(LEAST), |size| Some(size * 10))
        .take_while(|size| *size <= most)
        .collect();
    let mut points: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for records in sizes {
        for engine in Engine::ALL {
            points
                .entry(engine.word())
                .or_default()
                .push(point(engine, records));
        }
        rows(report, &points);
    }
    plots(&points);
}

fn point(engine: Engine, records: u32) -> Point {
    // Beside the programs: /tmp may be a tmpfs.
    let folder = tempfile::tempdir_in(tests::programs::build_folder()).unwrap();
    let inside = folder.path().join("records");
    let fill = engine.ask("fill", &inside, records / 2);
    // As after a power failure: what was written is not opened out of a cache that is dirty.
    rustix::fs::sync();
    let open = engine.ask("open", &inside, records / 2);
    let mut disk = BTreeMap::new();
    weigh(&inside, "rest", &mut disk);
    Point {
        records,
        fill,
        open,
        disk,
    }
}

/// Bytes of blocks below a folder.
fn weigh(path: &Path, what: &'static str, disk: &mut BTreeMap<&'static str, u64>) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let what = match name.split('-').next() {
        Some("index") => "index",
        Some("snapshot") => "snapshot",
        Some("journal") => "journal",
        _ => what,
    };
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            weigh(&entry.unwrap().path(), what, disk);
        }
    } else {
        *disk.entry(what).or_default() += path.metadata().unwrap().blocks() * 512;
    }
}

/// The last points that were taken.
fn rows(report: &mut Report, points: &BTreeMap<&str, Vec<Point>>) {
    let last = |engine: Engine| points[engine.word()].last().unwrap();
    let [ours, sled, redb] = Engine::ALL.map(last);
    let n = ours.records;
    let of = |what: &str| format!("{n} records: {what}");
    let beside = |figure: fn(&Point) -> f64, show: fn(f64) -> String| {
        let [ours, sled, redb] = [ours, sled, redb].map(figure);
        [
            show(ours),
            show(sled),
            show(redb),
            format!("{:.2}", ours / sled),
            format!("{:.2}", sled / redb),
        ]
    };
    let mb = |mb: f64| format!("{mb:.0} MB");
    let bytes = |bytes: f64| format!("{bytes:.0}");
    let what = of("to write them, ours acknowledged one by one by 64 writers");
    report.engines(&what, &beside(|point| point.fill.seconds, time));
    let what = of("the same, until the index has all");
    report.engines(&what, &beside(|point| point.fill.settled, time));
    let what = of("memory at its highest meanwhile");
    report.engines(&what, &beside(|point| point.fill.most, mb));
    let what = of("open to ready");
    report.engines(&what, &beside(|point| point.open.seconds, time));
    let what = of("resident then");
    report.engines(&what, &beside(|point| point.open.resident, mb));
    let what = of("at its highest until then");
    report.engines(&what, &beside(|point| point.open.most, mb));
    let record = RECORDS.iter().sum::<usize>() / 2;
    let what = of(&format!("bytes on disk for each, of {record} sealed"));
    report.engines(&what, &beside(Point::bytes, bytes));
    let parts = ours.disk.iter().map(|(what, bytes)| {
        let each = *bytes as f64 / f64::from(n);
        format!("{what} {each:.0}")
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    println!(
        "<!-- {n}: {parts}; {} transactions in {} syncs; open settled {} -->",
        ours.fill.commits,
        ours.fill.syncs,
        time(ours.open.settled)
    );
}

fn plots(points: &BTreeMap<&str, Vec<Point>>) {
    let plot = |title: &str, unit: &str, file: &str, figure: fn(&Point) -> f64| {
        let mut curve = Curve::new(title, unit);
        for engine in Engine::ALL {
            let line = points[engine.word()].iter();
            let line = line.map(|point| (f64::from(point.records), figure(point)));
            curve.line(engine.word(), line.collect());
        }
        curve.write(file);
    };
    plot("Open to ready", "s", "growth-open", |point| {
        point.open.seconds
    });
    plot("Resident memory once open", "MB", "growth-memory", |p| {
        p.open.resident
    });
    plot(
        "Memory at its highest while they are written",
        "MB",
        "growth-most",
        |p| p.fill.most,
    );
    plot(
        "Size on disk for each record",
        "bytes",
        "growth-disk",
        Point::bytes,
    );
}
