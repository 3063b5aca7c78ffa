//! `make soak`: the long forms of the suites that go in rounds, and docs/reliability.md with what they
//! found. What stands there from `## Findings` on is written by hand, and stays.
//!
//! `SOAK=10 make soak` goes a tenth of the way; `target/debug/soak SUITE...` plays these alone, and the
//! rows of the others stay as they are, each with the commit that it is of.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::time::Instant;

use tests::programs::workspace;

const SUITES: &[&str] = &[
    "revoke_rounds",
    "kill_rounds",
    "rotation_rounds",
    "pairs",
    "reference",
    "torn",
    "starts",
    "power_cut",
    "failing_disk",
    "damage",
];

fn main() -> ExitCode {
    let percent = std::env::var("SOAK").unwrap_or_else(|_| "100".into());
    let document = workspace().join("docs/reliability.md");
    let counts = tempfile::NamedTempFile::new().unwrap();
    let mut failures = String::new();
    let mut all_hold = true;
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_played = |suite: &str| asked.is_empty() || asked.iter().any(|one| one == suite);
    for suite in SUITES.iter().filter(|suite| is_played(suite)) {
        // Those that are known not to hold are tried too, and do not count.
        for (kind, more) in [("holds", None), ("not yet", Some("--ignored"))] {
            let start = Instant::now();
            let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
                .current_dir(workspace())
                .args([
                    "test",
                    "--quiet",
                    "--package",
                    if *suite == "damage" { "store" } else { "tests" },
                    "--test",
                    suite,
                    "--",
                ])
                .args(["--test-threads=1", "--format=pretty"])
                .args(more)
                .env("SOAK", &percent)
                .env("SOAK_REPORT", counts.path())
                .output()
                .unwrap();
            let (out, took) = (String::from_utf8_lossy(&output.stdout), start.elapsed());
            let ended = verdicts_of(&out);
            if ended.is_empty() && !output.status.success() {
                panic!("{suite}: {}", String::from_utf8_lossy(&output.stderr));
            }
            for (test, verdict) in ended {
                println!("{suite} {test}: {verdict}");
                if verdict != "ok" {
                    writeln!(failures, "| {suite} | {test} {verdict} | - |").unwrap();
                }
            }
            if !output.status.success() {
                let (errors, all) = (String::from_utf8_lossy(&output.stderr), out);
                println!("{all}\n{errors}");
                all_hold &= more.is_some();
            }
            println!("{suite}, {kind}: {} s", took.as_secs());
        }
    }
    let before = std::fs::read_to_string(&document).unwrap_or_default();
    let findings = before
        .find("## Findings")
        .map_or("## Findings\n", |at| &before[at..]);
    let row = |line: &str| format!("{line} {}, {} |\n", said("date", &["-u", "+%F"]), commit());
    let counted = std::fs::read_to_string(counts.path()).unwrap() + &failures;
    let others = before.lines().filter(|line| {
        let suite = line
            .strip_prefix("| ")
            .and_then(|line| line.split_once(" | "));
        suite.is_some_and(|(suite, _)| SUITES.contains(&suite) && !is_played(suite))
    });
    let mut rows: Vec<String> = others.map(|line| format!("{line}\n")).collect();
    rows.extend(counted.lines().map(row));
    let text = format!(
        "# What the long runs found\n\
         `make soak` writes this page, a row for what was tried and held, with the commit that it is \
         of. Last run: Linux {}, {percent} % of the long form.\n\n\
         | suite | what was tried, and held | seed | commit |\n|---|---|---|---|\n{}\n{findings}",
        said("uname", &["-r"]),
        rows.concat(),
    );
    std::fs::write(&document, text).unwrap();
    println!("{}", document.display());
    if all_hold {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// `test NAME ... ok`, also where the test has written in between.
fn verdicts_of(out: &str) -> Vec<(String, &'static str)> {
    let failed = |name: &str| out.lines().any(|line| line.trim() == name);
    out.lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .filter(|(_, end)| !end.starts_with("ignored"))
        .map(|(name, _)| {
            let verdict = if failed(name) { "**failed**" } else { "ok" };
            (name.to_owned(), verdict)
        })
        .collect()
}

fn commit() -> String {
    said("git", &["rev-parse", "--short", "HEAD"])
}

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program)
        .args(words)
        .current_dir(workspace())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
