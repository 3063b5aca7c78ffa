//! The service that is measured: runs in an instance, as its user, and times what it is asked to.

use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, inotify};
use serde::{Deserialize, Serialize};
use tests::readers::now;

use crate::{pin, tricks};

/// What is timed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Act {
    /// open, read to the end, close.
    Open,
    /// pread on a descriptor that stays open.
    Pread,
    /// A new process that does the first.
    Process,
}

/// One line of standard input.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// An act on our file and on another one, in turn: the time of one act of each half, for each pair.
    Pairs {
        act: Act,
        ours: String,
        yardstick: String,
        processor: Option<usize>,
        pairs: usize,
        /// In each half of a pair.
        acts: u32,
    },
    /// How long each open takes, in nanoseconds.
    Latencies {
        path: String,
        opens: u32,
        /// From the beginning of one to that of the next.
        every: Duration,
    },
    /// The same, without end, until the next line.
    Paced { path: String, every: Duration },
    /// How long so many opens take, from so many threads or processes at once.
    Throughput {
        path: String,
        opens: u32,
        threads: u32,
        processes: u32,
    },
    /// Opens, or does each of [`tricks`], without end, on a thread, until the next line: that is
    /// answered with how many.
    Flood {
        path: String,
        tricks: bool,
        /// As fast as it goes without.
        per_second: Option<u32>,
    },
    /// Holds the file open, says so, and reads it until it is refused: when that was.
    Denied { path: String },
    /// Watches the file, says so, and waits for an event: when that came.
    Heard { path: String },
    /// Opens without end, until the next line; that is answered with begin and end of those that
    /// took long, and how many there were.
    Stalls { path: String },
}

/// Between two reads of who waits for a denial.
const PAUSE: std::time::Duration = std::time::Duration::from_micros(10);
/// An open that takes longer is told of.
const LONG: u64 = 1_000_000;

/// Answers each order with a line of JSON.
pub fn serve() {
    let (line, lines) = channel();
    std::thread::spawn(move || {
        for text in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = line.send(text);
        }
    });
    for line in &lines {
        obey(serde_json::from_str(&line).unwrap(), &lines);
    }
}

fn say(answer: impl Serialize) {
    println!("{}", serde_json::to_string(&answer).unwrap());
}

fn obey(order: Order, lines: &Receiver<String>) {
    match order {
        Order::Pairs {
            act,
            ours,
            yardstick,
            processor,
            pairs,
            acts,
        } => {
            if let Some(processor) = processor {
                pin::this_thread(processor);
            }
            time(act, &ours, acts);
            let pair = |_| (time(act, &ours, acts), time(act, &yardstick, acts));
            say((0..pairs).map(pair).collect::<Vec<_>>());
        }
        Order::Latencies { path, opens, every } => say(latencies(&path, opens, every)),
        Order::Paced { path, every } => {
            let all = std::iter::repeat_with(|| latencies(&path, 1, every));
            let all: Vec<Vec<u64>> = all.take_while(|_| lines.try_recv().is_err()).collect();
            say(all.concat());
        }
        Order::Throughput {
            path,
            opens,
            threads,
            processes: 0,
        } => say(by_threads(&path, opens, threads)),
        Order::Throughput {
            path,
            opens,
            processes,
            ..
        } => say(by_processes(&path, opens, processes)),
        Order::Flood {
            path,
            tricks,
            per_second,
        } => {
            let ends = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&ends);
            let flood = std::thread::spawn(move || flood(&path, tricks, per_second, &told));
            lines.recv().unwrap();
            ends.store(true, Ordering::Relaxed);
            say(flood.join().unwrap());
        }
        Order::Denied { path } => {
            let held = open(&path);
            let reads = || rustix::io::pread(&held, &mut [0; 64], 0).is_ok();
            assert!(reads());
            say("held");
            // Not without a pause: it would take a processor from those whom it measures.
            while reads() {
                std::thread::sleep(PAUSE);
            }
            say(now());
        }
        Order::Heard { path } => {
            let watcher = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
            let which = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE;
            inotify::add_watch(&watcher, &path, which).unwrap();
            say("watching");
            rustix::io::read(&watcher, &mut [0; 4096]).unwrap();
            say(now());
        }
        Order::Stalls { path } => {
            let (mut long, mut opens) = (Vec::new(), 0_u64);
            while lines.try_recv().is_err() {
                let begin = now();
                open_read_close(&path);
                let end = now();
                opens += 1;
                if end - begin > LONG {
                    long.push((begin, end));
                }
            }
            say((long, opens));
        }
    }
}

fn open(path: &str) -> rustix::fd::OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn open_read_close(path: &str) {
    assert!(rustix::io::read(open(path), &mut [0; 4096]).unwrap() > 0);
}

fn time(act: Act, path: &str, acts: u32) -> Duration {
    let held = open(path);
    let start = Instant::now();
    for _ in 0..acts {
        match act {
            Act::Open => open_read_close(path),
            Act::Pread => assert!(rustix::io::pread(&held, &mut [0; 4096], 0).unwrap() > 0),
            Act::Process => {
                let mut cat = Command::new("/bin/cat");
                let cat = cat.arg(path).stdin(Stdio::null()).stdout(Stdio::null());
                assert!(cat.status().unwrap().success());
            }
        }
    }
    start.elapsed() / acts
}

fn latencies(path: &str, opens: u32, every: Duration) -> Vec<u64> {
    let mut next = Instant::now();
    let one = |_| {
        next += every;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let begin = now();
        open_read_close(path);
        now() - begin
    };
    (0..opens).map(one).collect()
}

fn by_threads(path: &str, opens: u32, threads: u32) -> Duration {
    let begin = Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    (0..opens / threads).for_each(|_| open_read_close(path));
                })
            })
            .collect();
        // All of them wait by then, and none runs before the time does.
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        begin.wait();
        all.into_iter().for_each(|thread| thread.join().unwrap());
        start.elapsed()
    })
}

fn by_processes(path: &str, opens: u32, processes: u32) -> Duration {
    let program = std::env::current_exe().unwrap();
    let mut children: Vec<_> = (0..processes)
        .map(|_| {
            let mut command = Command::new(&program);
            command.args(["opens", path, &(opens / processes).to_string()]);
            let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = pipes.spawn().unwrap();
            let mut ready = String::new();
            let stdout = child.stdout.as_mut().unwrap();
            std::io::BufReader::new(stdout)
                .read_line(&mut ready)
                .unwrap();
            child
        })
        .collect();
    let start = Instant::now();
    // What they wait for is the end of their standard input.
    children
        .iter_mut()
        .for_each(|child| drop(child.stdin.take()));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    start.elapsed()
}

/// One of [`by_processes`].
pub fn opens(path: &str, opens: &str) {
    open_read_close(path);
    say("ready");
    let _ = std::io::stdin().lock().read_line(&mut String::new());
    (0..opens.parse::<u32>().unwrap()).for_each(|_| open_read_close(path));
}

fn flood(path: &str, tricks: bool, per_second: Option<u32>, ends: &AtomicBool) -> u64 {
    let start = Instant::now();
    let count = AtomicU64::new(0);
    while !ends.load(Ordering::Relaxed) {
        let done = count.fetch_add(1, Ordering::Relaxed);
        if let Some(per_second) = per_second {
            let due = Duration::from_secs(1) * u32::try_from(done).unwrap() / per_second;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        if tricks {
            tricks::all(path, done);
        } else {
            open_read_close(path);
        }
    }
    count.into_inner()
}
