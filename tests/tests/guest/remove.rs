//! Removal keeps the store; a purge asks, and then leaves nothing.

use tests::{Guest, wait};

use crate::{main_pid, package, start_readers, with_secret};

/// The kernel makes two for a user, at the first use, and keeps them.
const KEYRINGS: u32 = 2;

/// All that has our names, belongs to our users, or is mounted or runs.
const TRACES: &str = "find / -xdev \\( -name '*deploy*' -o -name '*secretsd*' -o -nouser -o -nogroup \\) \
    ! -path '/root/*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/var/log/*' ! -path '/tmp/*' \
    ! -path '/var/lib/systemd/*' ! -path '/usr/share/bash-completion/*' ! -path '/var/cache/*'; \
    find /run -name '*deploy*' ! -path '/run/systemd/*'; \
    grep -E '^(deploy|deploy-secrets):' /etc/passwd /etc/group /etc/shadow /etc/gshadow; \
    grep deploy /proc/1/mountinfo | grep -v lowerdir; \
    pgrep -a -x 'secretsd|deploy-inject'; \
    systemctl list-unit-files --no-legend '*deploy*' '*secretsd*'; true";

fn traces(guest: &Guest) -> String {
    guest.ok(TRACES)
}

#[test]
fn removal_keeps_the_store_and_a_new_installation_finds_it() {
    let guest = with_secret("hunter2");
    start_readers(&guest, "hunter2");
    let store = guest.ok("deploy --json status | grep -o '\"store\":\"[0-9a-f]*\"'");
    let keys = || {
        let count =
            "awk -v user=$(id -u deploy-secrets): '$1 == user { print $3 }' /proc/key-users";
        let count = guest.ok(count);
        count.split('/').next().unwrap().parse::<u32>().unwrap()
    };
    assert!(keys() > KEYRINGS, "no root key in the kernel");
    let said = guest.run("dpkg --remove deploy-secrets").ok();
    assert!(
        said.err().contains("1 services lose their secrets"),
        "{said}"
    );
    assert_eq!(
        guest.run("grep -c deploy-secrets: /proc/1/mountinfo").out(),
        "0\n"
    );
    assert_eq!(guest.run("pgrep -x 'secretsd|deploy-inject'").out(), "");
    // The root key is not in the kernel any more, where nobody could remove it.
    wait::until("no key in the kernel", || {
        (keys() == KEYRINGS).then_some(())
    });
    guest.ok("test -e /var/lib/deploy-secrets/STORE && getent passwd deploy-secrets");

    let package = guest.copy(&package());
    guest.ok(&format!("dpkg --install {package}"));
    assert_eq!(
        guest.ok("deploy --json status | grep -o '\"store\":\"[0-9a-f]*\"'"),
        store
    );
    assert_eq!(
        guest.ok("deploy secret get db --force 2>/dev/null || deploy secret get db"),
        "hunter2"
    );
    assert_ne!(main_pid(&guest, "secretsd"), "0");
}

#[test]
fn a_purge_without_an_answer_keeps_the_store_and_says_so() {
    let guest = with_secret("hunter2");
    let said = guest
        .run("DEBIAN_FRONTEND=noninteractive dpkg --purge deploy-secrets")
        .ok();
    assert!(
        said.err().contains("kept") && said.err().contains("/var/lib/deploy-secrets"),
        "{said}"
    );
    guest.ok("test -e /var/lib/deploy-secrets/STORE && getent passwd deploy-secrets");
    guest.ok("test ! -e /run/deploy");
    let package = guest.copy(&package());
    guest.ok(&format!("dpkg --install {package}"));
    assert_eq!(guest.ok("deploy secret get db"), "hunter2");
}

#[test]
fn a_purge_that_was_agreed_to_leaves_nothing() {
    let guest = Guest::boot();
    let before = traces(&guest);
    let package = guest.copy(&package());
    guest.ok(&format!("dpkg --install {package}; deploy init"));
    guest.ok("printf hunter2 | deploy secret set db --file -; deploy secret grant reader db");
    start_readers(&guest, "hunter2");
    // What a restore moves aside is a store too.
    guest.ok("cp -a /var/lib/deploy-secrets /var/lib/deploy-secrets.replaced-2026");
    assert_ne!(traces(&guest), before);
    let answer =
        "echo 'deploy-secrets deploy-secrets/purge-store boolean true' | debconf-set-selections";
    guest.ok(&format!(
        "systemctl stop deploy@reader; rm /etc/deploy/reader.yaml; {answer}"
    ));
    guest
        .run("DEBIAN_FRONTEND=noninteractive dpkg --purge deploy-secrets")
        .ok();
    assert_eq!(traces(&guest), before);
}

#[test]
fn a_group_that_was_there_before_stays() {
    let guest = Guest::boot();
    guest.ok("groupadd deploy");
    let package = guest.copy(&package());
    let said = guest.run(&format!("dpkg --install {package}")).ok();
    assert!(
        said.err().contains("its members may manage secrets now"),
        "{said}"
    );
    guest
        .run("DEBIAN_FRONTEND=noninteractive dpkg --purge deploy-secrets")
        .ok();
    guest.ok("getent group deploy");
    assert_ne!(guest.run("getent passwd deploy-secrets").code, 0);
}
