//! From nothing to the first secret that a unit has read.

use std::time::{Duration, Instant};

use tests::programs::workspace;
use tests::{Guest, wait};

use crate::{installed, package};

/// What the README's first page says, as a stranger pastes it.
fn readme() -> String {
    let text = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

#[test]
fn a_stranger_who_follows_the_readme_has_a_service_with_its_secret_within_a_minute() {
    let guest = Guest::boot();
    let package = guest.copy(&package());
    let script = readme();
    for word in [
        "apt install",
        "deploy init",
        "deploy secret set",
        "deploy@web",
    ] {
        assert!(script.contains(word), "the README lacks {word:?}");
    }
    let start = Instant::now();
    let said = guest.ok(&format!(
        "cd {}; set -e\n{script}",
        package.rsplit_once('/').unwrap().0
    ));
    // The last line of it asks who has read what.
    assert!(said.contains("web"), "{said}");
    wait::until("the service's words", || {
        let journal = guest
            .run("journalctl --no-pager -o cat -t sh -t deploy")
            .out();
        journal.contains("40 /secret/api_key").then_some(())
    });
    let readers = guest.ok("deploy secret readers api_key");
    assert!(readers.contains("web"), "{readers}");
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn without_a_store_nothing_is_made_and_who_asks_is_told_at_once() {
    let guest = installed();
    assert_eq!(guest.run("ls -A /var/lib/deploy-secrets").out(), "");
    let said = guest.run("timeout 5 deploy status").code(1);
    said.says(&["deploy init"]);
    let state = guest
        .run("systemctl is-active secretsd deploy-inject")
        .out();
    assert_eq!(state, "inactive\nactive\n");
    assert_eq!(
        guest
            .run("systemctl is-failed secretsd.service secretsd.socket")
            .out()
            .trim(),
        "inactive\ninactive"
    );
}

#[test]
fn members_of_the_group_manage_secrets_and_others_do_not() {
    let guest = installed();
    guest.ok("deploy init");
    guest.ok("useradd --groups deploy member; useradd stranger");
    guest.ok("runuser -u member -- deploy secret set a --generate 20");
    let refused = guest.run("runuser -u stranger -- deploy secret list");
    assert_ne!(refused.code, 0, "{refused}");
    assert!(!refused.out().contains('a'), "{refused}");
}
