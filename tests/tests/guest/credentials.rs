//! Units that have `LoadCredential=SECRET:/run/deploy/credentials.sock`, started by a real systemd.

use tests::{Guest, wait};

use crate::with_secret;

const SOCKET: &str = "/run/deploy/credentials.sock";

/// A oneshot unit that writes its credential to /run/NAME, as nobody.
fn unit(guest: &Guest, name: &str, credential: &str) {
    let text = format!(
        "[Service]\nType=oneshot\nDynamicUser=yes\nRuntimeDirectory={name}\n\
         RuntimeDirectoryPreserve=yes\nLoadCredential={credential}:{SOCKET}\n\
         ExecStart=sh -c 'cat \"$CREDENTIALS_DIRECTORY/{credential}\" >/run/{name}/got'\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    guest.write(&format!("/etc/systemd/system/{name}.service"), text);
    guest.ok("systemctl daemon-reload");
}

/// It fails before its first program, and secretsd says why.
#[track_caller]
fn is_refused(guest: &Guest, name: &str, words: &[&str]) {
    assert_ne!(guest.run(&format!("systemctl start {name}")).code, 0);
    let status = guest.ok(&format!("systemctl show -P ExecMainStatus {name}"));
    assert_eq!(status, "243", "243 is CREDENTIALS");
    assert_eq!(guest.run(&format!("cat /run/{name}/got")).out(), "");
    wait::until("secretsd's words", || {
        let log = guest.ok("journalctl --no-pager -o cat -u secretsd");
        let line = log.lines().rfind(|line| line.contains("refused"))?;
        words.iter().all(|word| line.contains(word)).then_some(())
    });
}

#[test]
fn a_unit_has_its_credential_if_it_is_granted_to_it_and_fails_if_not() {
    let mut guest = with_secret("hunter2");
    guest.ok("printf %s '{\"key.pem\":\"a key\"}' | deploy secret set tls --from-json -");
    assert_eq!(guest.ok(&format!("stat -c %a:%U {SOCKET}")), "600:root");
    unit(&guest, "asks", "db");
    unit(&guest, "field", "tls.key.pem");
    // Granted to a service of a view, and to another unit: that is not this one.
    guest.ok("deploy secret grant web db --unit other.service");
    let command = "deploy secret grant SERVICE db --unit asks.service";
    is_refused(&guest, "asks", &["db of asks.service", command]);

    guest.ok("deploy secret grant web db --unit asks.service");
    guest.ok("deploy secret grant web tls --unit field.service");
    guest.ok("systemctl start asks field");
    assert_eq!(guest.ok("cat /run/asks/got"), "hunter2");
    assert_eq!(guest.ok("cat /run/field/got"), "a key");
    let opens = guest.ok("deploy audit query --kind open --secret db --verdict allowed");
    for word in ["asks.service", "\"version\":1", "\"service\":\"web\""] {
        assert!(opens.contains(word), "{opens}");
    }

    // A rotation is in the next copy, and a start meets each secretsd, or waits for it.
    guest.ok("printf %s hunter3 | deploy secret rotate db --file -");
    guest.ok("systemctl restart secretsd; systemctl restart asks");
    assert_eq!(guest.ok("cat /run/asks/got"), "hunter3");
    guest.ok("systemctl kill --kill-who=main -s KILL secretsd; systemctl restart asks");
    assert_eq!(guest.ok("cat /run/asks/got"), "hunter3");

    // At a cold boot, with no ordering of its own.
    guest.ok("systemctl enable asks; rm -f /run/asks/got");
    guest.boot_again();
    wait::until("the unit of the boot", || {
        let got = guest.run("cat /run/asks/got").out();
        (got == "hunter3").then_some(())
    });

    guest.ok("deploy secret revoke web db; rm -f /run/asks/got");
    is_refused(&guest, "asks", &["db of asks.service", command]);
    guest.ok("deploy secret grant web db --unit asks.service; deploy seal");
    is_refused(&guest, "asks", &["sealed", "deploy unseal"]);
}
