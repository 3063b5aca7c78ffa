//! A stop for good, and what a start gives back.

use tests::wait;

use crate::{failures, reads_go_on, start_readers, with_secret};

fn states(guest: &tests::Guest) -> String {
    let units = "secretsd.service deploy-inject.service secretsd.socket deploy-inject.socket \
                 secretsd-credentials.socket";
    guest
        .run(&format!("systemctl is-active {units}"))
        .out()
        .replace('\n', " ")
}

#[test]
fn a_stop_says_what_it_does_takes_secrets_away_and_a_start_gives_them_back() {
    let guest = with_secret("hunter2");
    start_readers(&guest, "hunter2");
    for stopped in ["secretsd", "deploy-inject"] {
        wait::until("the words of systemctl status", || {
            let status = guest.run("systemctl status --no-pager secretsd").out();
            let says = status.contains("1 service runs with secrets: a stop takes them");
            says.then_some(())
        });
        guest.ok(&format!("systemctl stop {stopped}"));
        wait::until("everything to be stopped", || {
            (states(&guest) == "inactive ".repeat(5)).then_some(())
        });
        let said = guest
            .run(&format!("journalctl --no-pager -o cat -u {stopped}"))
            .out();
        assert!(said.contains("a stop: 1 services"), "{said}");
        wait::until("reads that fail", || {
            (!failures(&guest).is_empty()).then_some(())
        });
        assert_eq!(
            guest.run("grep -c deploy-secrets: /proc/1/mountinfo").out(),
            "0\n"
        );
        assert_eq!(guest.ok("systemctl is-active deploy@reader"), "active");
        let asked = guest.run("timeout 5 deploy status").code(1);
        asked.says(&["systemctl start secretsd"]);

        guest.ok("systemctl start secretsd");
        wait::until("everything to be started", || {
            (states(&guest) == "active ".repeat(5)).then_some(())
        });
        // The old views are gone and the new ones are there: from here on nothing fails.
        wait::until("a time without a failure", || {
            guest.ok("rm -f /tmp/failed");
            reads_go_on(&guest);
            failures(&guest).is_empty().then_some(())
        });
    }
}

#[test]
fn what_a_service_holds_open_gives_errors_after_a_stop() {
    let guest = with_secret("hunter2");
    guest.write(
        "/usr/local/lib/holder.py",
        "import os, time\n\
         file = os.open('/secret/db', os.O_RDONLY)\n\
         while True:\n\
         \x20   try: got = os.pread(file, 100, 0).decode()\n\
         \x20   except OSError as error: got = 'errno %d' % error.errno\n\
         \x20   open('/tmp/holds', 'w').write(got)\n\
         \x20   time.sleep(0.02)\n",
    );
    guest.write(
        "/etc/deploy/reader.yaml",
        "service: reader\nuser: nobody\ncommand: [python3, /usr/local/lib/holder.py]\nsecrets: [db]\n",
    );
    guest.ok("systemctl start deploy@reader");
    wait::until("a read", || {
        (guest.run("cat /tmp/holds").out() == "hunter2").then_some(())
    });
    guest.ok("systemctl stop secretsd");
    wait::until("an error", || {
        guest
            .run("cat /tmp/holds")
            .out()
            .starts_with("errno")
            .then_some(())
    });
}
