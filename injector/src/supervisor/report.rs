//! What came of a change, on its way to secretsd, which writes it down. Nobody waits for it but the
//! end of the supervisor, and that not for long.

use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control::inner::{ChangeOutcome, Outcome, Reply, ToInjector};
use sys::lock::lock;

use super::instance::ask;
use super::{RunOptions, say};
use crate::run_dir::RunDir;

/// Injector and secretsd may be away for some of their restarts.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);
/// How long the end of the supervisor waits.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Reports that are under way.
#[derive(Debug, Default)]
pub(super) struct Reports(Mutex<Vec<JoinHandle<()>>>);

impl Reports {
    /// Sends one, and tries again while nobody takes it.
    pub fn send(&self, options: &RunOptions, outcome: ChangeOutcome) {
        let ChangeOutcome {
            service,
            act,
            outcome: how,
            why,
            ..
        } = &outcome;
        if *how != Outcome::Done {
            say(&format!(
                "{service} has changes; on_change: {act} {how}: {why}"
            ));
        }
        let run_dir = RunDir::new(&options.run_dir);
        let started = std::thread::Builder::new()
            .name("report".into())
            .spawn(move || send(&run_dir, outcome));
        let mut under_way = lock(&self.0);
        under_way.retain(|one| !one.is_finished());
        match started {
            Ok(thread) => under_way.push(thread),
            Err(error) => say(&format!(
                "cannot report what was done after a change: {error}"
            )),
        }
    }

    /// Gives those that are under way a moment.
    pub fn end(&self) {
        let until = Instant::now() + LAST_PATIENCE;
        while lock(&self.0).iter().any(|one| !one.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn send(run_dir: &RunDir, outcome: ChangeOutcome) {
    let until = Instant::now() + PATIENCE;
    let question = ToInjector::Outcome(outcome);
    loop {
        let why = match ask(run_dir, &question, &[]) {
            Ok(Reply::Ok) => return,
            Ok(Reply::Failed { message }) => message,
            Ok(_) => "an answer to another question".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return say(&format!(
                "secretsd does not hear what was done after a change: {why}"
            ));
        }
        std::thread::sleep(RETRY);
    }
}
