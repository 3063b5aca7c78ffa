//! `make soak`: the long forms of the suites that go in rounds, and docs/reliability.md with what they
//! found. What stands there from `## Findings` on is written by hand, and stays.
//!
//! `SOAK=10 make soak` goes a tenth of the way; `target/debug/soak SUITE...` plays these alone, and the
//! page has them alone.
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
    let mut verdicts = String::new();
    let mut all_hold = true;
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for suite in SUITES {
        if !asked.is_empty() && !asked.iter().any(|one| one == suite) {
            continue;
        }
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
                let test = test.replace('_', " ");
                writeln!(verdicts, "| {suite} | {test} | {kind} | {verdict} |").unwrap();
            }
            if !output.status.success() {
                let (errors, all) = (String::from_utf8_lossy(&output.stderr), out);
                println!("{all}\n{errors}");
                all_hold &= more.is_some();
            }
            println!("{suite}, {kind}: {} s", took.as_secs());
        }
    }
    let counted = std::fs::read_to_string(counts.path()).unwrap();
    let before = std::fs::read_to_string(&document).unwrap_or_default();
    let findings = before
        .find("## Findings")
        .map_or("## Findings\n", |at| &before[at..]);
    let text = format!(
        "# What the long runs found\n\
         `make soak` writes this page: {}, commit {}, Linux {}, {percent} % of the long form.\n\n\
         | suite | what was tried, and held | seed |\n|---|---|---|\n{counted}\n\
         | suite | test | it is said to | and did |\n|---|---|---|---|\n{verdicts}\n{findings}",
        said("date", &["-u", "+%Y-%m-%d"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        said("uname", &["-r"]),
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

fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program)
        .args(words)
        .current_dir(workspace())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
