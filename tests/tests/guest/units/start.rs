//! What a start finds, and what is there afterwards.

use tests::wait;

use super::{
    enable, fails, guest, instance_in, instances, manifest, nothing_left, said, says, unit,
};

#[test]
fn a_missing_grant_fails_the_unit_before_its_first_exec_and_its_status_says_how_to_mend_it() {
    let guest = guest();
    let lines = "ExecStartPre=/bin/touch /var/ran";
    unit(&guest, "lacks.service", lines);
    enable(&guest, "lacks.service", "lacks");
    let status = fails(&guest, "lacks");
    let mend = "deploy secret grant lacks db";
    assert!(status.contains("db: ") && status.contains(mend), "{status}");
    assert_eq!(guest.run("ls /var/ran").out(), "");
    nothing_left(&guest);
    // As it is said there.
    guest.ok(mend);
    guest.ok("systemctl start lacks && ls /var/ran");
    says(&guest, "lacks.service", "hunter2");
}

/// Without the last words of the life before, which a restart ends.
fn this_life(guest: &tests::Guest) -> Vec<String> {
    let mut all = said(guest, "web.service");
    all.retain(|line| !line.starts_with("stop"));
    all
}

#[test]
fn every_exec_of_a_unit_sees_the_same_instance_and_a_restart_makes_a_new_one() {
    let guest = guest();
    let tell = |what: &str, word: &str| format!("{what}=/bin/sh /usr/local/bin/tell {word}");
    let lines = [
        tell("ExecStartPre", "pre"),
        tell("ExecStartPre", "pre"),
        tell("ExecStartPost", "post"),
        tell("ExecReload", "reload"),
        tell("ExecStop", "stop"),
        "User=daemon\n".to_owned(),
    ];
    unit(&guest, "web.service", &lines.join("\n"));
    enable(&guest, "web.service", "web");
    // Nothing is done to a unit that runs, or that does not.
    assert_eq!(guest.run("systemctl is-active web").out(), "inactive\n");
    nothing_left(&guest);
    let mut before = 0;
    for _ in 1..=2 {
        guest.ok("rm -f /var/said-web.service; systemctl restart web");
        wait::until("the main process", || {
            let all = this_life(&guest);
            all.iter()
                .any(|line| line.starts_with("main"))
                .then_some(())
        });
        guest.ok("systemctl reload web");
        let all = this_life(&guest);
        let number = instance_in(&all[0]);
        assert_ne!(number, before, "a start has an instance of its own");
        for line in &all {
            assert_eq!(instance_in(line), number, "{all:?}");
            assert!(line.ends_with(" 1 hunter2"), "{all:?}");
        }
        for (word, times) in [("pre", 2), ("post", 1), ("reload", 1), ("main", 1)] {
            let found = all.iter().filter(|line| line.starts_with(word)).count();
            assert_eq!(found, times, "{all:?}");
        }
        wait::until("one instance, the new one", || {
            let now = instances(&guest);
            (now.len() == 1 && now["web.service"] == number).then_some(())
        });
        let shown = guest.ok("deploy unit status web");
        assert!(
            shown.contains(&format!("{number} (web.service)")),
            "{shown}"
        );
        before = number;
    }
    guest.ok("systemctl stop web");
    let all = said(&guest, "web.service");
    let stop = all.iter().rfind(|line| line.starts_with("stop")).unwrap();
    assert_eq!(instance_in(stop), before, "{all:?}");
    nothing_left(&guest);
    let readers = guest.ok("deploy audit query --service web --json | grep -c open");
    assert_ne!(readers, "0");
}

#[test]
fn a_sealed_store_fails_a_unit_with_the_reason_and_one_that_waits_starts_when_it_is_unsealed() {
    let guest = guest();
    guest.write("/root/passphrase", "correct horse");
    guest.ok("deploy key slot add --passphrase-file /root/passphrase");
    manifest(&guest, "waits", "wait: 50s\n");
    guest.ok("deploy secret grant waits db");
    for service in ["web", "waits"] {
        let name = format!("{service}.service");
        unit(&guest, &name, "");
        enable(&guest, &name, service);
    }
    guest.ok("deploy seal");
    let status = fails(&guest, "web");
    assert!(
        status.contains("sealed") && status.contains("deploy unseal"),
        "{status}"
    );
    guest.ok("systemctl start --no-block waits");
    // Long enough for some attempts.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(said(&guest, "waits.service").is_empty());
    assert_ne!(guest.run("systemctl is-failed waits").out(), "failed\n");
    guest.ok("deploy unseal --passphrase-file /root/passphrase");
    says(&guest, "waits.service", "hunter2");
    // Ten attempts are one refusal.
    guest.ok("systemctl stop waits web");
    nothing_left(&guest);
}
