//! The drop-in itself, and what is wrong with it or with its manifest.

use super::{enable, fails, guest, manifest, nothing_left, says, unit};

const PLACE: &str = "/etc/systemd/system/web.service.d/50-deploy-secrets.conf";

#[test]
fn enable_shows_and_writes_one_file_and_disable_takes_it_away_whole() {
    let guest = guest();
    unit(&guest, "web.service", "");
    let files = "find /etc/systemd -newer /root/before | sort; systemctl cat web";
    let before = guest.ok("systemctl cat web");
    guest.ok("touch /root/before; sleep 0.02");
    // Without an answer nothing is written.
    let asked = guest.run("deploy unit enable web --manifest /etc/deploy/web.yaml </dev/null");
    assert_ne!(asked.code, 0);
    asked.says(&[
        "BindReadOnlyPaths=/run/deploy/views/secret/%n:/secret",
        PLACE,
    ]);
    assert_eq!(guest.ok(files), before);
    let done = guest.run("deploy unit enable web --manifest /etc/deploy/web.yaml --yes");
    done.says(&[
        "BindReadOnlyPaths=/run/deploy/views/secret/%n:/secret",
        PLACE,
    ]);
    assert_eq!(
        guest.ok("find /etc/systemd -newer /root/before -type f"),
        PLACE
    );
    assert!(guest.ok("systemctl cat web").contains("/views/secret/%n"));
    // Once more changes nothing.
    let text = guest.ok(&format!("stat -c %Y%i {PLACE}"));
    enable(&guest, "web", "web");
    assert_eq!(guest.ok(&format!("stat -c %Y%i {PLACE}")), text);
    guest.ok("systemctl start web");
    says(&guest, "web.service", "hunter2");
    // It keeps its view until it stops.
    guest.ok("deploy unit disable web");
    guest.ok("printf more | deploy secret set db --file -");
    says(&guest, "web.service", "more");
    assert_eq!(guest.run("ls /etc/systemd/system/web.service.d").out(), "");
    assert_eq!(guest.ok("systemctl cat web"), before);
    guest.ok("systemctl restart web");
    says(&guest, "web.service", "No such file or directory");
    nothing_left(&guest);
    assert_eq!(guest.run("deploy unit disable web").code, 4);

    // A drop-in of somebody else stays, and its folder too.
    enable(&guest, "web", "web");
    guest.write(
        "/etc/systemd/system/web.service.d/mine.conf",
        "[Service]\nNice=5\n",
    );
    guest.ok("deploy unit disable web");
    assert_eq!(
        guest.ok("ls /etc/systemd/system/web.service.d"),
        "mine.conf"
    );
    // What was for our view stays as systemd leaves it: empty.
    assert_eq!(
        guest
            .run("ls -A /secret /config")
            .out()
            .replace("/secret:", "")
            .replace("/config:", "")
            .trim(),
        ""
    );
}

#[test]
fn what_was_edited_by_hand_is_nobodys_to_write_over() {
    let guest = guest();
    unit(&guest, "web.service", "");
    enable(&guest, "web", "web");
    guest.ok(&format!("echo Nice=5 >>{PLACE}"));
    let before = guest.ok(&format!("cat {PLACE}"));
    for command in [
        "deploy unit enable web --manifest /etc/deploy/web.yaml --yes",
        "deploy unit disable web",
    ] {
        let refused = guest.run(command);
        assert_ne!(refused.code, 0, "{command}");
        refused.says(&[PLACE, "by hand"]);
        assert_eq!(guest.ok(&format!("cat {PLACE}")), before);
    }
    // Another file in its place, too.
    guest.write(PLACE, "[Service]\nNice=5\n");
    guest
        .run("deploy unit disable web")
        .says(&[PLACE, "by hand"]);
    guest.ok(&format!("ls {PLACE}"));
}

#[test]
fn what_is_wrong_is_said_by_enable_or_by_the_unit_that_does_not_start() {
    let guest = guest();
    let enable_it = |unit: &str, path: &str| {
        let said = guest.run(&format!(
            "deploy unit enable {unit} --manifest {path} --yes"
        ));
        assert_ne!(said.code, 0, "{said}");
        assert_eq!(guest.run("ls -d /etc/systemd/system/*.service.d").out(), "");
        said
    };
    enable_it("absent.service", "/etc/deploy/web.yaml").says(&["absent.service"]);
    enable_it("absent@.service", "/etc/deploy/web.yaml").says(&["absent@.service"]);
    unit(&guest, "web.service", "");
    enable_it("web", "/etc/deploy/absent.yaml").says(&["/etc/deploy/absent.yaml"]);
    guest.write("/etc/deploy/wrong.yaml", "service: web\nsecret: [db]\n");
    enable_it("web", "/etc/deploy/wrong.yaml").says(&["wrong.yaml:2", "secrets"]);
    guest.ok("chmod 666 /etc/deploy/web.yaml");
    enable_it("web", "/etc/deploy/web.yaml").says(&["/etc/deploy/web.yaml", "chmod go-w"]);
    guest.ok("chmod 644 /etc/deploy/web.yaml; chown nobody /etc/deploy/web.yaml");
    enable_it("web", "/etc/deploy/web.yaml").says(&["/etc/deploy/web.yaml", "chown root"]);
    guest.ok("chown root /etc/deploy/web.yaml");
    enable(&guest, "web", "web");

    let does_not_start = |words: &[&str]| {
        let status = fails(&guest, "web");
        for word in words {
            assert!(status.contains(word), "{word}: {status}");
        }
        nothing_left(&guest);
    };
    // It is read again at each start, and so is who may write it.
    guest.ok("chmod 666 /etc/deploy/web.yaml");
    does_not_start(&["/etc/deploy/web.yaml", "chmod go-w"]);
    assert!(guest.ok("deploy unit status").contains("chmod go-w"));
    guest.ok("chmod 644 /etc/deploy/web.yaml");
    manifest(
        &guest,
        "web",
        "targets: {secret: /run/elsewhere, config: /config}\n",
    );
    does_not_start(&[
        "other targets",
        "deploy unit enable web.service --manifest /etc/deploy/web.yaml",
    ]);
    guest.write("/etc/deploy/web.yaml", "service: web\nsecrets: [db\n");
    does_not_start(&["web.yaml:"]);
    guest.ok("rm /etc/deploy/web.yaml");
    does_not_start(&["/etc/deploy/web.yaml"]);
    manifest(&guest, "web", "user: stranger\n");
    does_not_start(&["stranger"]);
    manifest(&guest, "web", "");
    guest.ok("systemctl start web");
    says(&guest, "web.service", "hunter2");
}
