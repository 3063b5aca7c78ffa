//! How soon a service sees that an operator has changed something, and what of that is the disk's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde_json::json;
use tests::Varlink;
use tests::readers::now;

use crate::latency::Latencies;
use crate::plot::Plot;
use crate::reader::Order;
use crate::report::Report;
use crate::stage::{Reader, SECRET, Stage, VALUE};

const ROUNDS: usize = 300;
/// Of a journal's frame.
const FRAME: usize = 1024;
const SERVICE: &str = "reader";

pub fn measure(report: &mut Report) {
    let stage = Stage::start();
    let mut control = Varlink::connect(&stage.pair);
    let mut reader = stage.reader(SERVICE);
    let journal = Journal::watch(&stage);
    let syncs = syncs(&stage);
    let wake_ups = wake_ups();

    let revoke = || {
        (
            "io.deploy.Secrets.Revoke",
            json!({"service": SERVICE, "names": ["secret"]}),
        )
    };
    let rotate = || {
        (
            "io.deploy.Secrets.Rotate",
            json!({"name": "secret", "value": VALUE}),
        )
    };
    let mut revokes = Seen::default();
    let mut rotations = Seen::default();
    for _ in 0..ROUNDS {
        let path = SECRET.to_owned();
        revokes.round(
            &mut reader,
            &Order::Denied { path },
            &mut control,
            &journal,
            revoke(),
        );
        let grant = json!({"service": SERVICE, "names": ["secret"]});
        control.call("io.deploy.Secrets.Grant", grant).unwrap();
        let path = SECRET.to_owned();
        rotations.round(
            &mut reader,
            &Order::Heard { path },
            &mut control,
            &journal,
            rotate(),
        );
    }
    let what = "a wake-up of another process and back, through pipes";
    report.times(what, "", &wake_ups);
    report.times(
        "append and fdatasync of a frame, on the same disk",
        "",
        &syncs,
    );
    report.times(
        "revoke: from the request to the denial on an open descriptor",
        "1 ms",
        &revokes.from_request,
    );
    report.times(
        "revoke: from the request to the answer",
        "",
        &revokes.answer,
    );
    report.times(
        "rotate: from the request to inotify in the service",
        "",
        &rotations.from_request,
    );
    report.times(
        "rotate: from the journal's write, before its sync, to inotify",
        "2 ms",
        &rotations.from_write,
    );
    report.times(
        "rotate: from the request to the answer",
        "",
        &rotations.answer,
    );
    let mut plot = Plot::new("Revoke", "from the request");
    plot.line("denial on an open descriptor", &revokes.from_request);
    plot.line("answer to the operator", &revokes.answer);
    plot.line("one fdatasync", &syncs);
    plot.write("revoke");
    let mut plot = Plot::new("Rotate", "until the event");
    plot.line("inotify, from the request", &rotations.from_request);
    plot.line("inotify, from the journal's write", &rotations.from_write);
    plot.line("one fdatasync", &syncs);
    plot.write("rotate");
}

/// What was measured of a kind of change.
#[derive(Default)]
struct Seen {
    from_request: Latencies,
    from_write: Latencies,
    answer: Latencies,
}

impl Seen {
    fn round(
        &mut self,
        reader: &mut Reader,
        order: &Order,
        control: &mut Varlink,
        journal: &Journal,
        (method, parameters): (&str, serde_json::Value),
    ) {
        let _: String = reader.ask(order);
        journal.forget();
        let written = std::thread::scope(|scope| {
            let written = scope.spawn(|| journal.written());
            let sent = now();
            control.call(method, parameters).unwrap();
            self.answer.add(now() - sent);
            let seen: u64 = reader.answer();
            self.from_request.add(seen - sent);
            (written.join().unwrap(), seen)
        });
        if let (Some(written), seen) = written {
            // A revoke is seen before it is written.
            self.from_write.add(seen.saturating_sub(written));
        }
    }
}

/// Tells when the journal is written to. The sync, which follows at once, cannot be seen from outside.
struct Journal(rustix::fd::OwnedFd);

impl Journal {
    fn watch(stage: &Stage) -> Journal {
        let watcher = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let journal = stage.pair.state().join("gen-00000001/journal");
        inotify::add_watch(&watcher, journal, inotify::WatchFlags::MODIFY).unwrap();
        Journal(watcher)
    }

    fn forget(&self) {
        while rustix::io::read(&self.0, &mut [0; 4096]).is_ok() {}
    }

    fn written(&self) -> Option<u64> {
        let patience = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        (poll(&mut ready, Some(&patience)) == Ok(1)).then(now)
    }
}

/// What one sync takes. Preallocated, as the journal is: the sync then writes data alone.
fn syncs(stage: &Stage) -> Latencies {
    let mut file = File::create(stage.pair.state().join("yardstick")).unwrap();
    file.write_all(&vec![0; (ROUNDS + 1) * FRAME]).unwrap();
    file.sync_all().unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut syncs = Latencies::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        file.write_all(&[b'x'; FRAME]).unwrap();
        file.sync_data().unwrap();
        syncs.add(u64::try_from(start.elapsed().as_nanos()).unwrap());
    }
    syncs
}

/// What it takes to have another process do something: revoke and rotate have several of these in them.
fn wake_ups() -> Latencies {
    let mut cat = Command::new("/bin/cat");
    let pipes = cat.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cat = pipes.spawn().unwrap();
    let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let mut all = Latencies::default();
    for _ in 0..ROUNDS {
        // As often as there is a round below.
        std::thread::sleep(Duration::from_millis(2));
        let start = now();
        to.write_all(b"x").unwrap();
        from.read_exact(&mut [0]).unwrap();
        all.add(now() - start);
    }
    drop(to);
    cat.wait().unwrap();
    all
}
