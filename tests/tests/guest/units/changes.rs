//! `on_change` of units: systemd signals or restarts them, as deploy-on-change@UNIT.service says.

use tests::{Guest, wait};

use super::{enable, guest, instance_in, instances, manifest, nothing_left, said, says, unit};
use crate::{main_pid, running_pid};

/// Says each signal that it gets, with the secret of that moment; its child says them, too.
const TRAPS: &str = r#"#!/bin/sh
trap 'echo "$1 usr1 $(cat /secret/db)"' USR1
[ "$1" = child ] || sh /usr/local/bin/traps child &
while :; do sleep 0.05; done
"#;

fn set(guest: &Guest, value: &str) {
    guest.ok(&format!("printf {value} | deploy secret set db --file -"));
}

/// Waits until a change would be heard of.
fn somebody_acts(guest: &Guest, helper: &str) {
    wait::until("who acts on changes", || {
        let pid = main_pid(guest, helper);
        let running = guest.run(&format!("grep -l inotify /proc/{pid}/fdinfo/*"));
        running.out().contains("fdinfo").then_some(())
    });
}

fn is_reported(guest: &Guest, words: &str) {
    wait::until("secretsd to hear of it", || {
        let journal = guest.run("journalctl --no-pager -o cat -u secretsd").out();
        journal.contains(words).then_some(())
    });
}

#[test]
fn a_signal_goes_to_the_main_process_once_for_a_burst() {
    let guest = guest();
    guest.ok("printf more | deploy secret set other --file -; deploy secret grant web other");
    guest.write(
        "/etc/deploy/web.yaml",
        "service: web\nsecrets: [db, other]\non_change: {signal: USR1}\n",
    );
    guest.write("/usr/local/bin/traps", TRAPS);
    guest.write(
        "/etc/systemd/system/web.service",
        "[Service]\nUser=daemon\nStandardOutput=append:/var/said-%n\nExecStart=/bin/sh /usr/local/bin/traps main\n",
    );
    guest.ok("systemctl daemon-reload");
    enable(&guest, "web", "web");
    guest.ok("systemctl start web");
    let helper = "deploy-on-change@web.service.service";
    somebody_acts(&guest, helper);
    for value in ["a", "b", "c"] {
        set(&guest, value);
    }
    says(&guest, "web.service", "main usr1 c");
    set(&guest, "d");
    says(&guest, "web.service", "main usr1 d");
    assert_eq!(said(&guest, "web.service"), ["main usr1 c", "main usr1 d"]);
    // While it cannot be read nothing is done, and afterwards what was left to do.
    guest.ok("deploy secret revoke web other");
    set(&guest, "e");
    wait::until("words of what was not done", || {
        let journal = guest.run(&format!("journalctl --no-pager -o cat -u {helper}"));
        journal.out().contains("skipped").then_some(())
    });
    assert_eq!(said(&guest, "web.service").len(), 2);
    guest.ok("deploy secret grant web other");
    set(&guest, "f");
    says(&guest, "web.service", "main usr1 f");
    // Whoever dies is followed by the next one.
    for unit in [helper, "secretsd", "deploy-inject"] {
        let pid = running_pid(&guest, unit);
        guest.ok(&format!("kill -KILL {pid}"));
        wait::until("the next one", || {
            let next = main_pid(&guest, unit);
            (next != pid && next != "0").then_some(())
        });
        somebody_acts(&guest, helper);
        let value = format!("after-{unit}").replace('@', "-");
        set(&guest, &value);
        says(&guest, "web.service", &format!("main usr1 {value}"));
    }
    is_reported(&guest, "of web: on_change, signal: done");
    is_reported(&guest, "of web: on_change, signal: skipped: /secret/other");
    guest.ok("systemctl stop web");
    wait::until("its end", || {
        (guest.run(&format!("systemctl is-active {helper}")).out() == "inactive\n").then_some(())
    });
    nothing_left(&guest);
}

#[test]
fn a_restart_is_systemds_and_a_command_runs_as_the_user() {
    let guest = guest();
    manifest(&guest, "web", "on_change: restart\n");
    let told =
        "on_change: {command: [sh, -c, 'echo \"$(id -un) $(cat /secret/db)\" >>/var/told']}\n";
    manifest(&guest, "lacks", told);
    guest.ok("deploy secret grant lacks db; touch /var/told; chown daemon /var/told");
    for (name, service) in [("web", "web"), ("other", "lacks")] {
        unit(
            &guest,
            &format!("{name}.service"),
            "User=daemon\nProtectSystem=full",
        );
        enable(&guest, name, service);
        guest.ok(&format!("systemctl start {name}"));
        says(&guest, &format!("{name}.service"), "hunter2");
        let helper = format!("deploy-on-change@{name}.service.service");
        somebody_acts(&guest, &helper);
    }
    let before = instances(&guest)["web.service"];
    let pid = main_pid(&guest, "web");
    set(&guest, "second");
    wait::until("a restart", || {
        (main_pid(&guest, "web") != pid && instances(&guest).get("web.service") != Some(&before))
            .then_some(())
    });
    // The last life may have said it too, before it was ended.
    wait::until("words of the instance that there is", || {
        let line = says(&guest, "web.service", "second");
        (instances(&guest).get("web.service") == Some(&instance_in(&line))).then_some(())
    });
    wait::until("the command", || {
        (guest.run("cat /var/told").out() == "daemon second\n").then_some(())
    });
    // The next life has one that acts, too.
    let helper = "deploy-on-change@web.service.service";
    somebody_acts(&guest, helper);
    let pid = main_pid(&guest, "web");
    set(&guest, "third");
    wait::until("another restart", || {
        (main_pid(&guest, "web") != pid).then_some(())
    });
    says(&guest, "web.service", "third");
    guest.ok("systemctl stop web other");
    nothing_left(&guest);
}

#[test]
fn a_manifest_that_gets_an_on_change_later_says_that_nobody_acts() {
    let guest = guest();
    unit(&guest, "web.service", "");
    enable(&guest, "web", "web");
    manifest(&guest, "web", "on_change: restart\n");
    guest.ok("systemctl start web");
    says(&guest, "web.service", "hunter2");
    let status = guest.ok("systemctl status --no-pager --full web");
    assert!(status.contains("nothing is done on_change"), "{status}");
    enable(&guest, "web", "web");
    guest.ok("systemctl restart web");
    let pid = main_pid(&guest, "deploy-on-change@web.service.service");
    assert_ne!(pid, "0");
}
