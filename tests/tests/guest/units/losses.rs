//! Kills, lost connections, and a stop of our own programs, under units that run.

use tests::{Guest, wait};

use super::{enable, guest, instance_in, instances, nothing_left, said, says, unit};
use crate::{main_pid, running_pid};

/// Two units: one process, and two in mount namespaces of their own (`ExecReload=` that lasts).
fn running() -> Guest {
    let guest = guest();
    unit(&guest, "web.service", "User=daemon");
    let lasts = "ExecStartPost=/bin/sh -c 'setsid unshare --mount --propagation slave sh /usr/local/bin/serve \
         >/var/beside 2>&1 &'";
    unit(&guest, "two.service", lasts);
    for name in ["web", "two"] {
        enable(&guest, name, "web");
        guest.ok(&format!("systemctl start {name}"));
        says(&guest, &format!("{name}.service"), "hunter2");
    }
    beside(&guest, "hunter2");
    guest
}

#[track_caller]
fn beside(guest: &Guest, end: &str) {
    let place = std::panic::Location::caller();
    wait::until(&format!("{end:?} of the second process ({place})"), || {
        let text = guest.run("tail -n 1 /var/beside").out();
        text.trim().ends_with(end).then_some(())
    });
}

/// All see this value, now or soon.
#[track_caller]
fn all_see(guest: &Guest, value: &str) {
    guest.ok(&format!("printf {value} | deploy secret set db --file -"));
    says(guest, "web.service", value);
    says(guest, "two.service", value);
    beside(guest, value);
}

#[test]
fn a_unit_reads_on_while_both_programs_are_killed() {
    let guest = running();
    let before = instances(&guest);
    for round in 0..4 {
        let units = match round {
            0 => "secretsd",
            1 => "deploy-inject",
            _ => "secretsd deploy-inject",
        };
        let pids: Vec<_> = units
            .split(' ')
            .map(|unit| running_pid(&guest, unit))
            .collect();
        guest.ok(&format!("kill -KILL {}", pids.join(" ")));
        all_see(&guest, &format!("value{round}"));
    }
    assert_eq!(instances(&guest), before);
    for unit in ["web.service", "two.service"] {
        let lines = said(&guest, unit);
        let ours = |line: &&String| line.contains("hunter2") || line.contains("value");
        assert_eq!(lines.iter().find(|line| !ours(line)), None, "{unit}");
    }
    // Who ends while nobody looks is found by the next one.
    let pid = running_pid(&guest, "deploy-inject");
    guest.ok(&format!(
        "kill -KILL {pid}; systemctl kill -s KILL web two; systemctl stop web two"
    ));
    nothing_left(&guest);
}

#[test]
fn a_connection_that_a_unit_has_aborted_comes_back_in_all_its_namespaces() {
    let guest = running();
    let before = instances(&guest);
    for round in 0..2 {
        let pid = main_pid(&guest, "two");
        guest.run(&format!("nsenter --target {pid} --mount umount -f /secret"));
        all_see(&guest, &format!("again{round}"));
    }
    assert_eq!(instances(&guest), before);
    guest.ok("systemctl stop web two");
    nothing_left(&guest);
}

#[test]
fn a_stop_of_secretsd_takes_the_view_of_a_unit_and_a_start_gives_it_back() {
    let guest = running();
    let number = instances(&guest)["web.service"];
    guest.ok("systemctl stop secretsd");
    wait::until("a read that fails", || {
        let last = said(&guest, "web.service").pop()?;
        (!last.ends_with("hunter2")).then_some(())
    });
    // Its own unit is not stopped by it.
    assert_eq!(guest.ok("systemctl is-active web two"), "active\nactive");
    guest.ok("systemctl start secretsd");
    all_see(&guest, "back");
    assert_eq!(instances(&guest)["web.service"], number);
    let line = says(&guest, "web.service", "back");
    assert_eq!(instance_in(&line), number);
    // One that is started now is like any other.
    guest.ok("rm /var/said-web.service; systemctl restart web");
    let line = says(&guest, "web.service", "back");
    assert_ne!(instance_in(&line), number);
    guest.ok("systemctl stop web two");
    nothing_left(&guest);
}
