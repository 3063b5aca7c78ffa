//! `deploy unit`: systemd units that exist already get their view by a drop-in.

mod changes;
mod drop_ins;
mod kinds;
mod life;
mod losses;
mod nginx;
mod start;

use std::collections::BTreeMap;

use serde_json::Value;
use tests::{Guest, wait};

use crate::with_secret;

/// One line: the word it is given, the instance that it sees, as whom it runs, and the secret.
// Not awk: a small root has no /etc/alternatives.
const TELL: &str = r#"#!/bin/sh
echo "$1 $(mawk '$5 == "/secret" { n = $4 } END { print n }' /proc/self/mountinfo) $(id -u) $(cat /secret/db 2>&1)"
"#;
/// A service that says what it sees whenever that is something new.
const SERVE: &str = r#"#!/bin/sh
while :; do
    now=$(/bin/sh /usr/local/bin/tell main)
    [ "$now" = "$last" ] || echo "$now"
    last=$now
    sleep 0.05
done
"#;

/// A guest whose store has `db`, granted to `web`, and whose manifests are web.yaml and lacks.yaml, for
/// which there is no grant.
fn guest() -> Guest {
    let guest = with_secret("hunter2");
    guest.ok("deploy secret grant web db");
    guest.write("/usr/local/bin/tell", TELL);
    guest.write("/usr/local/bin/serve", SERVE);
    manifest(&guest, "web", "");
    manifest(&guest, "lacks", "");
    guest
}

/// A manifest that asks for `db`, with more lines.
fn manifest(guest: &Guest, service: &str, more: &str) {
    let text = format!("service: {service}\nsecrets: [db]\n{more}");
    guest.write(&format!("/etc/deploy/{service}.yaml"), text);
}

/// A unit that exists already; what it says is in /var/said-UNIT, opened by systemd itself.
fn unit(guest: &Guest, name: &str, lines: &str) {
    let text = format!(
        "[Service]\nStandardOutput=append:/var/said-%n\nExecStart=/bin/sh /usr/local/bin/serve\n{lines}\n"
    );
    guest.write(&format!("/etc/systemd/system/{name}"), text);
    guest.ok("systemctl daemon-reload");
}

/// Enables a unit with the manifest of `service`.
fn enable(guest: &Guest, unit: &str, service: &str) {
    guest.ok(&format!(
        "deploy unit enable {unit} --manifest /etc/deploy/{service}.yaml --yes"
    ));
}

/// Everything that a unit has said, one a line.
fn said(guest: &Guest, unit: &str) -> Vec<String> {
    let text = guest.run(&format!("cat /var/said-{unit}")).out();
    text.lines().map(str::to_owned).collect()
}

/// Waits until the last that a unit's main process has said is what `ends` with.
#[track_caller]
fn says(guest: &Guest, unit: &str, end: &str) -> String {
    let found = wait::within(wait::LONG, || {
        said(guest, unit).pop().filter(|line| line.ends_with(end))
    });
    found.unwrap_or_else(|| {
        let status = guest.run(&format!("systemctl status --no-pager --full {unit}"));
        let said = said(guest, unit);
        panic!("{unit} does not say {end:?}; {said:?}; {}", status.out())
    })
}

/// Starts a unit that cannot start, and gives its status. Of Type=simple, `systemctl start` itself
/// says nothing of what comes after the fork.
#[track_caller]
fn fails(guest: &Guest, unit: &str) -> String {
    let place = std::panic::Location::caller();
    guest.run(&format!("systemctl reset-failed {unit}"));
    guest.run(&format!("systemctl start {unit}"));
    wait::until(&format!("{unit} to fail ({place})"), || {
        (guest.run(&format!("systemctl is-failed {unit}")).out() == "failed\n").then_some(())
    });
    guest
        .run(&format!("systemctl status --no-pager --full {unit}"))
        .out()
}

/// The instances that units have, by unit, as `deploy unit status` says.
fn instances(guest: &Guest) -> BTreeMap<String, u64> {
    let text = guest.ok("deploy unit status --json");
    let all: Value = serde_json::from_str(&text).unwrap();
    let units = all.as_array().unwrap().iter();
    units
        .flat_map(|unit| unit["instances"].as_array().unwrap().clone())
        .map(|one| {
            let unit = one["unit"].as_str().unwrap().to_owned();
            (unit, one["instance"].as_u64().unwrap())
        })
        .collect()
}

/// Nothing is left of an instance: not in the registry, nor a mount, nor a file of its changes.
#[track_caller]
fn nothing_left(guest: &Guest) {
    let place = std::panic::Location::caller();
    wait::until(&format!("the end of all instances ({place})"), || {
        let left =
            guest.run("ls /run/deploy/instances /run/deploy/changes 2>/dev/null | grep '^[0-9]'");
        left.out().is_empty().then_some(())
    });
    assert!(instances(guest).is_empty());
}

/// The instance that a line of `tell` is of.
fn instance_in(line: &str) -> u64 {
    let word = line.split(' ').nth(1).unwrap_or_default();
    word.trim_start_matches('/')
        .parse()
        .unwrap_or_else(|_| panic!("no instance: {line}"))
}
