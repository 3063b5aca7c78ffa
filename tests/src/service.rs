//! A service that `deploy run` has started.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use crate::command::{Finished, end_of};
use crate::{Pair, interrupt, process, traces, wait};

/// A `deploy run` in the foreground. Dropping it ends it.
pub struct Service {
    name: String,
    supervisor: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
    instances: std::path::PathBuf,
}

/// What RUN_DIR/instances/NUMBER says of a running instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its number.
    pub number: u32,
    /// The first process of the service.
    pub pid: i32,
    /// All that the file says.
    pub record: serde_json::Value,
}

impl Service {
    /// `deploy run`, with pipes for its standard streams.
    pub(crate) fn start(pair: &Pair, name: &str, mut command: Command) -> Service {
        let creating = interrupt::creating();
        let mut supervisor = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(creating);
        let (stdout, stderr) = (
            supervisor.stdout.take().unwrap(),
            supervisor.stderr.take().unwrap(),
        );
        let (line, lines) = channel();
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&errors);
        std::thread::spawn(move || {
            for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&text);
                kept.push('\n');
            }
        });
        Service {
            name: name.to_owned(),
            stdin: supervisor.stdin.take(),
            supervisor,
            lines,
            errors,
            instances: pair.run_folder().join("instances"),
        }
    }

    /// Writes a line to the service's standard input.
    #[track_caller]
    pub fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
    }

    /// The next line of the service's standard output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(wait::LONG) {
            Ok(line) => line,
            Err(_) => {
                let code = end_of(&mut self.supervisor, Duration::from_millis(10));
                panic!(
                    "no line from {} (ended: {code:?}); its stderr:\n{}",
                    self.name,
                    self.errors()
                )
            }
        }
    }

    /// Passes over the lines that are there.
    pub fn skip_lines(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// What came on standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    /// The instance, once the registry has it.
    #[track_caller]
    pub fn instance(&self) -> Instance {
        wait::until(&format!("an instance of {}", self.name), || {
            instances(&self.instances)
                .into_iter()
                .find(|(service, instance)| {
                    *service == self.name && is_below(instance.pid, self.supervisor())
                })
                .map(|(_, instance)| instance)
        })
    }

    /// The process of `deploy run`.
    pub fn supervisor(&self) -> i32 {
        i32::try_from(self.supervisor.id()).unwrap()
    }

    /// Runs a command in the instance's mount namespace, as some user, with all the groups of
    /// that user and no others.
    pub fn inside(&self, uid: u32, words: &[&str]) -> Command {
        let pid = self.instance().pid.to_string();
        let uid = uid.to_string();
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--target", &pid, "--", "setpriv"])
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
            .args(words);
        command
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: Signal) {
        traces::signal(self.supervisor(), signal, Duration::ZERO);
    }

    /// Closes standard input, and waits for the end; gives exit code and outputs.
    #[track_caller]
    pub fn end(mut self) -> Finished {
        self.stdin.take();
        self.wait()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let code = end_of(&mut self.supervisor, wait::LONG);
        let Some(code) = code else {
            panic!("{} does not end:\n{}", self.name, self.errors());
        };
        let mut stdout = String::new();
        while let Ok(line) = self.lines.recv_timeout(wait::LONG) {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        Finished {
            line: format!("deploy run ({})", self.name),
            code,
            stdout: stdout.into_bytes(),
            stderr: self.errors().into_bytes(),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() && !interrupt::came() && !self.errors().is_empty() {
            eprintln!("--- stderr of {}\n{}", self.name, self.errors());
        }
        self.stdin.take();
        if end_of(&mut self.supervisor, Duration::ZERO).is_none() {
            self.signal(Signal::TERM);
            if end_of(&mut self.supervisor, Duration::from_secs(5)).is_none() {
                let _ = self.supervisor.kill();
                let _ = self.supervisor.wait();
            }
        }
    }
}

/// All records of the registry, with the service's name.
fn instances(folder: &Path) -> Vec<(String, Instance)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(text) = std::fs::read(entry.path()) else {
            continue;
        };
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(&text) else {
            continue;
        };
        let number = |key: &str| record[key].as_i64();
        if let (Some(service), Some(pid), Some(id)) =
            (record["service"].as_str(), number("pid"), number("number"))
        {
            let instance = Instance {
                number: u32::try_from(id).unwrap(),
                pid: i32::try_from(pid).unwrap(),
                record: record.clone(),
            };
            found.push((service.to_owned(), instance));
        }
    }
    found
}

/// Whether `pid` is a descendant of `ancestor`.
fn is_below(mut pid: i32, ancestor: i32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        pid = process::stat(pid).map_or(0, |stat| stat.parent);
    }
    false
}
