//! The master mounts, and the views of the instances. What is mounted where says the kernel, which
//! asks no file system; whether somebody answers is asked by a process that can be left behind.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use injector::mounts::{Mount, Mounts};
use injector::run_dir::RunDir;
use injector::supervisor;

use super::finding::{Finding, Repair};

const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(10);

pub fn look(run_dir: &RunDir) -> Vec<Finding> {
    let about = "mounts";
    if !rustix::process::geteuid().is_root() {
        return vec![
            Finding::note(about, "not looked at: that is root's alone").mend("run it by sudo"),
        ];
    }
    let mounts = match Mounts::here() {
        Ok(mounts) => mounts,
        Err(error) => return vec![Finding::error(about, format!("no mount table: {error}"))],
    };
    let running = match supervisor::ps(run_dir.path()) {
        Ok(running) => running,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return vec![Finding::error("instances", error.to_string())],
    };
    let masters = [
        run_dir.views().join("secret"),
        run_dir.views().join("config"),
    ];
    let operators = run_dir.operator_tree();
    let mut findings = Vec::new();
    let mut dead = false;
    for path in masters.iter().chain([&operators]) {
        let (finding, is_dead) = master(path, mounts.exactly_at(path));
        findings.push(finding);
        dead |= is_dead;
    }
    let nobody_keeps =
        !keeper_lives(run_dir) && UnixStream::connect(run_dir.inject_socket()).is_err();
    if nobody_keeps && dead && running.is_empty() {
        findings.push(
            Finding::error(about, "a keeper that is gone has left them")
                .mend(format!(
                    "deploy-inject clean --run-dir {}",
                    run_dir.path().display()
                ))
                .by(Repair::Clean(run_dir.path().to_owned())),
        );
    }
    let device = |path: &Path| mounts.exactly_at(path).map(|mount| mount.device.clone());
    let devices = masters.each_ref().map(|path| device(path));
    let records = running.iter().filter_map(|one| one.instance.as_ref());
    for record in records {
        let (number, service) = (record.number, &record.service);
        let Ok(theirs) = Mounts::of(record.pid) else {
            // It has just ended.
            continue;
        };
        let targets = [&record.targets.secret, &record.targets.config];
        for (target, device) in targets.into_iter().zip(&devices) {
            let shown = target.display();
            let says = match theirs.exactly_at(target) {
                Some(mount) if !mount.is_ours() => format!("something lies over {shown}"),
                Some(mount) if Some(&mount.device) != device.as_ref() => {
                    format!("{shown} is of a connection that was lost")
                }
                Some(_) => continue,
                None => format!("nothing is mounted at {shown}"),
            };
            findings.push(
                Finding::error(
                    "instances",
                    format!("instance {number} of {service}: {says}"),
                )
                .mend(format!(
                    "start it again: deploy stop {service}; deploy run ..."
                )),
            );
        }
    }
    let wrong = findings.iter().any(|one| one.about == "instances");
    if !wrong && !running.is_empty() {
        findings.push(Finding::ok(
            "instances",
            format!("{} have their views", running.len()),
        ));
    }
    findings
}

/// A master mount; and whether it is there and dead.
fn master(path: &Path, mount: Option<&Mount>) -> (Finding, bool) {
    let (about, shown) = ("mounts", path.display());
    if !mount.is_some_and(Mount::is_ours) {
        let finding = Finding::error(about, format!("nothing is mounted at {shown}"))
            .mend("start the keeper: deploy-inject up; its log says why it fails");
        return (finding, false);
    }
    match answers(path) {
        Some(true) => (Finding::ok(about, format!("{shown} answers")), false),
        Some(false) => {
            let finding =
                Finding::error(about, format!("{shown} is dead: its connection has ended"))
                    .mend("the injector makes it anew at once; see the log of `deploy-inject up`");
            (finding, true)
        }
        None => {
            let seconds = PATIENCE.as_secs();
            let finding = Finding::error(
                about,
                format!("{shown} has not answered for {seconds} s"),
            )
            .mend(
                "is secretsd stopped? pkill -CONT -x secretsd; or end it: pkill -KILL -x secretsd",
            );
            (finding, false)
        }
    }
}

/// Asks from a process of its own, which may never end; `None`: not in time.
fn answers(path: &Path) -> Option<bool> {
    let mut asking = Command::new("stat")
        .arg("--file-system")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Ok(Some(status)) = asking.try_wait() {
            return Some(status.success());
        }
        std::thread::sleep(LOOK);
    }
    let _ = Child::kill(&mut asking);
    None
}

/// Its lock is held for as long as it lives. Under systemd there is none, and nothing is left behind.
fn keeper_lives(run_dir: &RunDir) -> bool {
    let Ok(file) = std::fs::File::open(run_dir.keeper_lock()) else {
        return false;
    };
    let lock = rustix::fs::FlockOperation::NonBlockingLockShared;
    rustix::fs::flock(&file, lock).is_err()
}
