//! Many secrets in the real programs: to bring them in, to start again with them, and to seal them all
//! under another root key while services read.
//!
//! There is no verb that brings many in: what is measured is the control socket, over as many
//! connections as there may be.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tests::{Varlink, process, traces, wait};

use crate::latency::Latencies;
use crate::reader::Order;
use crate::report::{Report, time};
use crate::stage::{Reader, SECRET, Stage, VALUE};

/// Unless SECRETS in the environment says otherwise.
const SECRETS: usize = 20_000;
/// secretsd takes 64, and some stay free for the bench's own.
const CONNECTIONS: usize = 60;
const EVERY: Duration = Duration::from_millis(1);
/// As long as a reader is looked at while there is nothing to wait for.
const WHILE: Duration = Duration::from_secs(4);

pub fn measure(report: &mut Report) {
    let secrets = std::env::var("SECRETS").map_or(SECRETS, |secrets| secrets.parse().unwrap());
    let stage = Stage::start();
    let empty = memory(&stage);
    let what = |of: &str| format!("{secrets} secrets: {of}");
    let of = |duration: Duration| time(duration.as_secs_f64());

    let took = import(&stage, secrets);
    let rate = secrets as f64 / took.as_secs_f64();
    let text = format!("to create them over {CONNECTIONS} connections, a call each");
    let figure = format!("{} ({rate:.0} a second)", of(took));
    report.figure(&what(&text), "", &figure);
    let mb = |name: &str| bytes(&stage.pair.state().join(name)) as f64 / f64::from(1 << 20);
    let figure = format!(
        "{:.0} MB of records and {:.0} MB of audit log, of which each creation is an entry",
        mb("gen-00000001"),
        mb("audit")
    );
    report.figure(&what("on disk"), "", &figure);
    let resident = |report: &mut Report, when: &str, empty: [f64; 2]| {
        let [now, most] = memory(&stage);
        let figure = format!(
            "{now:.0} MB, at most {most:.0} MB until then (before: {:.0} MB)",
            empty[0]
        );
        report.figure(&what(when), "", &figure);
    };
    resident(report, "secretsd's resident memory", empty);

    let mut readers = ["one", "other"].map(|name| stage.reader(name));
    let secretsd = stage.pair.secretsd();
    let start = Instant::now();
    traces::signal(secretsd, Signal::KILL, wait::LONG);
    let order = Order::Latencies {
        path: SECRET.into(),
        opens: 1,
        every: Duration::ZERO,
    };
    let _: Vec<u64> = readers[0].ask(&order);
    let figure = of(start.elapsed());
    let text = "SIGKILL of secretsd to an open that the next one has answered";
    report.figure(&what(text), "", &figure);
    resident(report, "secretsd's resident memory, of the next one", empty);

    rotation(report, &stage, &mut readers, secrets);
    resident(
        report,
        "secretsd's resident memory after `key rotate`",
        empty,
    );
}

/// MB: now, and at its highest.
fn memory(stage: &Stage) -> [f64; 2] {
    let secretsd = stage.pair.secretsd();
    ["VmRSS", "VmHWM"].map(|line| {
        let text = process::status(secretsd, line).unwrap();
        text.trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
    })
}

fn import(stage: &Stage, secrets: usize) -> Duration {
    let start = Instant::now();
    std::thread::scope(|threads| {
        for connection in 0..CONNECTIONS {
            threads.spawn(move || {
                let mut control = Varlink::connect(&stage.pair);
                for secret in (connection..secrets).step_by(CONNECTIONS) {
                    let name = format!("team-{:02}.password-{secret:06}", secret % 20);
                    let parameters = json!({"name": name, "value": VALUE});
                    control
                        .call("io.deploy.Secrets.Create", parameters)
                        .unwrap();
                }
            });
        }
    });
    start.elapsed()
}

fn bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::read_dir(path) {
        Ok(folder) => folder.map(|entry| bytes(&entry.unwrap().path())).sum(),
        Err(_) => path.metadata().map_or(0, |file| file.blocks() * 512),
    }
}

/// What the readers' opens take while something goes on.
fn opens(readers: &mut [Reader], meanwhile: impl FnOnce()) -> Latencies {
    for reader in &mut *readers {
        reader.tell(&Order::Paced {
            path: SECRET.into(),
            every: EVERY,
        });
    }
    meanwhile();
    let all = readers.iter_mut().map(Reader::ends::<Vec<u64>>);
    Latencies::from(all.collect::<Vec<_>>().concat())
}

/// Takes a processor as long as it lives.
struct Busy(Child);

impl Busy {
    fn start() -> Busy {
        let mut shell = Command::new("/bin/sh");
        // Ends with this process, should that be killed.
        shell.args(["-c", "while kill -0 $PPID; do :; done"]);
        Busy(shell.stderr(std::process::Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rotation(report: &mut Report, stage: &Stage, readers: &mut [Reader], secrets: usize) {
    opens(readers, || std::thread::sleep(WHILE / 4));
    let quiet = opens(readers, || std::thread::sleep(WHILE));
    let mut took = Duration::ZERO;
    let beside = opens(readers, || {
        // A connection that says nothing for a while is closed.
        let mut control = Varlink::connect(&stage.pair);
        let start = Instant::now();
        control.call("io.deploy.Keys.Rotate", json!({})).unwrap();
        took = start.elapsed();
    });
    let busy = opens(readers, || {
        let _busy = Busy::start();
        std::thread::sleep(WHILE);
    });
    let text = format!("`key rotate` of {secrets} secrets beside two readers");
    report.figure(&text, "", &time(took.as_secs_f64()));
    report.times("two readers' opens, an open each millisecond", "", &quiet);
    report.beside(
        "two readers' opens while all are sealed again",
        "",
        &beside,
        &quiet,
    );
    report.beside(
        "the same beside a process that computes, and no rotation",
        "",
        &busy,
        &quiet,
    );
}
