//! A cold boot, without a network (a guest has none), with the store open or sealed.

use tests::wait;

use crate::{installed, reads_go_on, start_readers, with_secret};

#[test]
fn services_have_their_secrets_after_a_cold_boot() {
    let mut guest = with_secret("hunter2");
    start_readers(&guest, "hunter2");
    guest.ok("systemctl enable deploy@reader");
    // With no word of secretsd: the socket is what it waits on.
    guest.write(
        "/etc/systemd/system/plain.service",
        "[Service]\nExecStart=/usr/bin/deploy run /etc/deploy/plain.yaml\n[Install]\nWantedBy=basic.target\n",
    );
    guest.write(
        "/etc/deploy/plain.yaml",
        "service: plain\ncommand: [sh, -c, 'cp /secret/db /root/plain; exec sleep infinity']\nsecrets: [db]\n",
    );
    guest.ok(
        "deploy secret grant plain db; systemctl enable plain; rm -f /tmp/reads* /tmp/failed; sync",
    );
    guest.boot_again();
    reads_go_on(&guest);
    assert_eq!(guest.run("cat /tmp/failed").out(), "");
    assert_eq!(guest.ok("cat /root/plain"), "hunter2");
    assert_eq!(guest.ok("systemctl --failed --no-legend | wc -l"), "0");
}

#[test]
fn a_sealed_store_says_so_and_units_wait_or_fail_as_they_say_themselves() {
    let mut guest = installed();
    guest.write("/root/passphrase", "correct horse");
    guest.ok("deploy init --passphrase-file /root/passphrase");
    guest.ok("deploy unseal --passphrase-file /root/passphrase");
    guest.ok("printf hunter2 | deploy secret set db --file -");
    for service in ["fails", "waits"] {
        let manifest = format!(
            "service: {service}\ncommand: [sh, -c, 'cp /secret/db /root/{service}; exec sleep infinity']\nsecrets: [db]\n"
        );
        guest.write(&format!("/etc/deploy/{service}.yaml"), manifest);
        guest.ok(&format!(
            "deploy secret grant {service} db; systemctl enable deploy@{service}"
        ));
    }
    // As docs/systemd.md has it.
    guest.write(
        "/etc/systemd/system/deploy@waits.service.d/wait.conf",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartPreventExitStatus=\nRestartPreventExitStatus=2 3\n",
    );
    guest.ok("sync");
    guest.boot_again();
    wait::until("the words of systemctl status", || {
        let status = guest.run("systemctl status --no-pager secretsd").out();
        (status.contains("active (running)") && status.contains("SEALED")).then_some(())
    });
    wait::until("a unit that fails", || {
        let status = guest.run("systemctl status --no-pager deploy@fails").out();
        (status.contains("failed") && status.contains("status=5")).then_some(())
    });
    assert_ne!(
        guest.run("systemctl is-active deploy@waits").out(),
        "failed\n"
    );
    guest.ok("deploy unseal --passphrase-file /root/passphrase");
    wait::until("the unit that waits", || {
        (guest.run("cat /root/waits").out() == "hunter2").then_some(())
    });
    assert_eq!(
        guest.run("systemctl is-active deploy@fails").out(),
        "failed\n"
    );
}
