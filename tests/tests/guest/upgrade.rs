//! An upgrade, restarts and kills, while services read.

use std::process::Command;

use tests::command::run;
use tests::wait;

use crate::{failures, main_pid, package, reads_go_on, running_pid, start_readers, with_secret};

const UNITS: [&str; 2] = ["secretsd.service", "deploy-inject.service"];

/// The same package with a later version, in a folder that the caller removes.
fn later(folder: &std::path::Path) -> std::path::PathBuf {
    let (tree, deb) = (folder.join("tree"), folder.join("later.deb"));
    let mut unpack = Command::new("dpkg-deb");
    run(
        {
            unpack.arg("--raw-extract").arg(package()).arg(&tree);
            unpack
        },
        b"",
    )
    .ok();
    let control = tree.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).unwrap();
    let text: String = text
        .lines()
        .map(|line| match line.strip_prefix("Version: ") {
            Some(version) => format!("Version: {version}+later1\n"),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&control, text).unwrap();
    let mut pack = Command::new("dpkg-deb");
    run(
        {
            pack.args(["--build", "-Znone"]).arg(&tree).arg(&deb);
            pack
        },
        b"",
    )
    .ok();
    deb
}

#[test]
fn an_upgrade_restarts_both_and_no_read_fails() {
    let guest = with_secret("hunter2");
    start_readers(&guest, "hunter2");
    let before = UNITS.map(|unit| main_pid(&guest, unit));
    let folder = tempfile::tempdir().unwrap();
    let deb = guest.copy(&later(folder.path()));
    for _ in 0..3 {
        guest.ok(&format!("dpkg --install {deb}"));
        reads_go_on(&guest);
    }
    assert_eq!(failures(&guest), "");
    for (unit, before) in UNITS.iter().zip(before) {
        let now = main_pid(&guest, unit);
        assert_ne!(now, before, "{unit} was not restarted");
        let program = guest.ok(&format!("readlink /proc/{now}/exe"));
        assert!(
            !program.contains("deleted"),
            "{unit} runs the old {program}"
        );
        assert_eq!(guest.ok(&format!("systemctl is-active {unit}")), "active");
    }
    // Whoever attaches is the new one: another service starts.
    guest.ok("systemctl restart deploy@reader");
    reads_go_on(&guest);
    assert_eq!(failures(&guest), "");
}

#[test]
fn no_read_fails_when_both_are_killed_restarted_or_asked_to_end() {
    let guest = with_secret("hunter2");
    start_readers(&guest, "hunter2");
    for round in 0..20 {
        for unit in UNITS {
            match round % 4 {
                0 => drop(guest.ok(&format!("systemctl restart {unit}"))),
                1 => drop(guest.ok(&format!("systemctl kill --kill-whom=main {unit}"))),
                _ => drop(guest.ok(&format!("systemctl kill --kill-whom=main -s KILL {unit}"))),
            }
        }
        reads_go_on(&guest);
    }
    assert_eq!(failures(&guest), "");
    wait::until("both units", || {
        let state = guest
            .run("systemctl is-active secretsd deploy-inject")
            .out();
        (state == "active\nactive\n").then_some(())
    });
    // More starts than systemd's own limit allows, one right after the other.
    for _ in 0..12 {
        for unit in UNITS {
            let before = running_pid(&guest, unit);
            guest.ok(&format!("kill -KILL {before}"));
            wait::until("another process", || {
                let now = main_pid(&guest, unit);
                (now != before && now != "0").then_some(())
            });
        }
    }
    reads_go_on(&guest);
    assert_eq!(failures(&guest), "");
}

#[test]
fn a_program_that_hangs_is_ended_by_the_watchdog_and_its_service_reads_on() {
    let guest = with_secret("hunter2");
    for unit in UNITS {
        guest.write(
            &format!("/etc/systemd/system/{unit}.d/soon.conf"),
            "[Service]\nWatchdogSec=2s\n",
        );
    }
    guest.ok("systemctl daemon-reload; systemctl restart deploy-inject secretsd");
    start_readers(&guest, "hunter2");
    for unit in UNITS {
        let before = running_pid(&guest, unit);
        guest.ok(&format!("kill -STOP {before}"));
        wait::until("another process", || {
            let now = main_pid(&guest, unit);
            (now != before && now != "0").then_some(())
        });
        reads_go_on(&guest);
    }
    assert_eq!(failures(&guest), "");
    // And who is well is left alone.
    let before = UNITS.map(|unit| main_pid(&guest, unit));
    guest.ok("sleep 5");
    assert_eq!(UNITS.map(|unit| main_pid(&guest, unit)), before);
}
