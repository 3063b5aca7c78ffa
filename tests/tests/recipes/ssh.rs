//! sshd with a host key of the view, and ssh with a key of its own.

use std::time::Duration;

use rustix::process::Signal;
use tests::traces::signal;
use tests::{Host, Pair, process, wait};

use super::{revoke, rotate, says};

pub const TITLES: [&str; 2] = ["sshd", "ssh"];

#[test]
fn sshd_and_ssh() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    let server_recipe = host.sets_up(TITLES[0]);
    let client_recipe = host.sets_up(TITLES[1]);
    let sshd = host.starts("sshd");
    says(&sshd, "Server listening");
    assert_eq!(host.deploys("pull").ok().out(), "app\n");

    let many = "while read -r line; do ssh -F /etc/deploy/pull.conf source \"$line\" 2>&1 </dev/null | tail -n 1; done";
    let mut clients = host.starts_with("pull", &["/bin/sh", "-c", many]);
    let mut held = host.starts_with(
        "pull",
        &["ssh", "-F", "/etc/deploy/pull.conf", "source", "exec cat"],
    );
    held.write("held");
    assert_eq!(held.line(), "held");
    let mut client = |words: &str| {
        clients.write(words);
        clients.line()
    };
    assert_eq!(client("id -un"), "app");
    let said = client("cat /secret/ssh_host_key");
    assert!(said.contains("Permission denied"), "{said}");

    rotate(&host, &client_recipe);
    assert_eq!(
        client("id -un"),
        "app",
        "with the new key, the old one has gone"
    );

    rotate(&host, &server_recipe);
    // Until sshd has the new key, it is not the one of known_hosts.
    wait::until("the new host key", || {
        (client("id -un") == "app").then_some(())
    });

    revoke(&host, &client_recipe);
    let said = client("id -un");
    assert!(said.contains("Permission denied (publickey"), "{said}");
    host.deploys("pull").code(3).says(&["pull_key"]);
    host.types("deploy secret grant pull pull_key").ok();
    host.deploys("pull").ok();

    revoke(&host, &server_recipe);
    host.deploys("pull").code(255).says(&["Connection"]);
    held.write("held on");
    assert_eq!(held.line(), "held on", "what is connected stays so");
    drop((held, clients));
    let pid = sshd.instance().pid;
    assert!(process::runs(pid));
    signal(pid, Signal::HUP, Duration::ZERO);
    assert_ne!(sshd.wait().code, 0, "it has no key");
    host.deploys("sshd").code(3).says(&["ssh_host_key"]);
    drop(host);
    pair.leaves_nothing();
}

#[test]
fn ssh_takes_no_key_that_its_group_may_read_and_no_user_without_a_name() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    host.sets_up(TITLES[0]);
    host.sets_up(TITLES[1]);
    let sshd = host.starts("sshd");
    says(&sshd, "Server listening");
    host.types("cp /etc/deploy/pull.yaml kept.yaml").ok();
    host.types("echo 'file_mode: \"0440\"' >>/etc/deploy/pull.yaml")
        .ok();
    host.deploys("pull")
        .code(255)
        .says(&["UNPROTECTED PRIVATE KEY FILE"]);
    host.types("sed 's/user: backup/user: 61000/' kept.yaml >/etc/deploy/pull.yaml")
        .ok();
    host.deploys("pull")
        .code(255)
        .says(&["No user exists for uid 61000"]);
    host.types("cp kept.yaml /etc/deploy/pull.yaml").ok();
    host.deploys("pull").ok();
    drop((sshd, host));
    pair.leaves_nothing();
}
