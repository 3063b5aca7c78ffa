//! The package in a booted Debian 12: `make guests`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod boot;
mod credentials;
mod install;
mod package;
mod podman;
mod remove;
mod stop;
mod units;
mod upgrade;

use std::path::PathBuf;

use tests::Guest;
use tests::programs::build_folder;

/// The package that `make deb` has made.
fn package() -> PathBuf {
    let folder = build_folder().parent().unwrap().join("debian");
    let mut found = std::fs::read_dir(&folder)
        .unwrap_or_else(|_| panic!("no {}: run `make deb`", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "deb"));
    found
        .next()
        .unwrap_or_else(|| panic!("no package in {}: run `make deb`", folder.display()))
}

/// A guest with the package, and no store.
fn installed() -> Guest {
    let guest = Guest::boot();
    let package = guest.copy(&package());
    guest.ok(&format!("dpkg --install {package}"));
    guest
}

/// A guest whose store has a secret, `db`, with this value, granted to `reader`.
fn with_secret(value: &str) -> Guest {
    let guest = installed();
    guest.ok("deploy init");
    guest.ok(&format!(
        "printf %s '{value}' | deploy secret set db --file -"
    ));
    guest.ok("deploy secret grant reader db");
    guest
}

/// Reads `db` again and again, opening it each time: says every 100 reads how many there were, and
/// each failure, into files.
const READER: &str = r#"
import os, sys
reads = 0
value = sys.argv[1].encode()
while True:
    try:
        file = os.open("/secret/db", os.O_RDONLY)
        got = os.read(file, 100)
        os.close(file)
        if got != value:
            raise ValueError(got)
    except Exception as error:
        with open("/tmp/failed", "a") as failed:
            failed.write(repr(error) + "\n")
    reads += 1
    if reads % 100 == 0:
        with open("/tmp/reads.%d.new" % os.getpid(), "w") as file:
            file.write(str(reads))
        os.rename("/tmp/reads.%d.new" % os.getpid(), "/tmp/reads.%d" % os.getpid())
"#;

/// Has two processes of the service `reader` read under load, as a unit.
fn start_readers(guest: &Guest, value: &str) {
    guest.write("/usr/local/lib/reader.py", READER);
    let one = format!("python3 /usr/local/lib/reader.py {value}");
    let manifest = format!(
        "service: reader\nuser: nobody\ncommand: [sh, -c, '{one} & exec {one}']\nsecrets: [db]\n"
    );
    guest.write("/etc/deploy/reader.yaml", manifest);
    guest.ok("systemctl start deploy@reader");
    reads_go_on(guest);
}

/// How often they have read.
fn reads(guest: &Guest) -> u64 {
    let lines = guest
        .run("cat /tmp/reads.*[0-9] 2>/dev/null | sed 's/$/\\n/'")
        .out();
    // Both files end without a line end.
    lines
        .split_whitespace()
        .filter_map(|line| line.parse::<u64>().ok())
        .sum()
}

/// Waits until they have read more.
#[track_caller]
fn reads_go_on(guest: &Guest) {
    let before = reads(guest);
    tests::wait::until("more reads", || (reads(guest) > before + 200).then_some(()));
}

/// What went wrong for them, one a line.
fn failures(guest: &Guest) -> String {
    guest.run("cat /tmp/failed 2>/dev/null").out()
}

/// The process of a unit.
fn main_pid(guest: &Guest, unit: &str) -> String {
    guest.ok(&format!("systemctl show -P MainPID {unit}"))
}

/// The same, once it has one: whoever is to be signalled. 0 would be the whole process group of the
/// shell that signals, and that is the test program's.
fn running_pid(guest: &Guest, unit: &str) -> String {
    tests::wait::until("a process of the unit", || {
        Some(main_pid(guest, unit)).filter(|pid| pid != "0")
    })
}
