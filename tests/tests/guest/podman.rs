//! Containers of Debian's podman with crun, on unified cgroups, by the hook that the package has.

use tests::{Finished, Guest, wait};

use crate::with_secret;

/// A guest with podman, and an image with a shell: `localhost/small`.
fn guest() -> Guest {
    let guest = with_secret("hunter2");
    guest.install("podman");
    // The guest's own root is an overlay already.
    let storage = "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\n\
                   graphroot = \"/var/lib/containers/storage\"\n";
    guest.write("/etc/containers/storage.conf", storage);
    let busybox = guest.copy(std::path::Path::new("/bin/busybox"));
    guest.ok(&format!(
        "mkdir -p /root/small/bin /root/small/etc /root/small/run && cp {busybox} /root/small/bin/busybox \
         && for name in sh cat ls sleep id; do ln -s busybox /root/small/bin/$name; done \
         && tar -C /root/small -cf /root/small.tar . && podman import -q /root/small.tar small"
    ));
    guest.write("/etc/deploy/web.yaml", "service: web\nsecrets: [db]\n");
    guest
}

/// In a cgroup of its own. This host lets no crun load a filter of devices (RLIMIT_MEMLOCK), and
/// gives a guest no controller of pids.
const OWN: &str = "--privileged --pids-limit=-1";
/// In that of podman, with all that keeps a container in.
const KEPT: &str = "--cgroups=disabled";

fn podman(guest: &Guest, words: &str) -> Finished {
    guest.run(&format!(
        "podman run --network none --annotation io.deploy.service=web {words}"
    ))
}

/// crun itself shows no word of a hook.
#[track_caller]
fn journal_says(guest: &Guest, words: &str) {
    let journal = guest.ok("journalctl --no-pager -o cat -t deploy-inject");
    let mut lines = journal
        .lines()
        .filter(|line| line.starts_with("container "));
    assert!(lines.any(|line| line.contains(words)), "{journal}");
}

#[track_caller]
fn no_instance(guest: &Guest) {
    wait::until("the end of the instance", || {
        let left = guest.run("ls /run/deploy/instances | grep '^[0-9]'").out();
        left.is_empty().then_some(())
    });
}

#[test]
fn a_container_has_its_view_live_and_nothing_stays_however_it_dies() {
    let guest = guest();
    let runtime =
        guest.ok("podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.CgroupsVersion}}'");
    assert_eq!(runtime, "crun v2");
    let refused = podman(&guest, &format!("--rm {OWN} small cat /run/secrets/db"));
    assert_ne!(refused.code, 0);
    assert_eq!(refused.out(), "");
    journal_says(&guest, "deploy secret grant web db");
    no_instance(&guest);
    guest.ok("deploy secret grant web db");
    let read = "cat /run/secrets/db";
    for words in [OWN, KEPT] {
        for more in ["", "--read-only --read-only-tmpfs=false", "--user 33:33"] {
            let said = podman(&guest, &format!("--rm {words} {more} small {read}"));
            assert_eq!(said.out(), "hunter2", "{said}");
            no_instance(&guest);
        }
    }
    // Without the annotation it is none of ours.
    let other = guest.run(&format!(
        "podman run --rm --network none {KEPT} small {read}"
    ));
    assert_ne!(other.code, 0);

    let words = format!("--detach --name web {OWN} small sleep 1000");
    podman(&guest, &words).ok();
    let pid = guest.ok("podman inspect --format '{{.State.Pid}}' web");
    let cgroup = guest.ok(&format!("grep ^0:: /proc/{pid}/cgroup"));
    assert!(cgroup.contains("libpod-"), "{cgroup}");
    let inside = || guest.run(&format!("podman exec web {read}"));
    assert_eq!(inside().out(), "hunter2");
    guest.ok("printf second | deploy secret set db --file -");
    assert_eq!(inside().out(), "second");
    let id = guest.ok("podman inspect --format '{{.Id}}' web");
    let audit = guest.ok("deploy audit query --service web --json");
    assert!(audit.contains(&id), "no {id} in {audit}");
    guest.ok("deploy secret revoke web db");
    assert_eq!(inside().out(), "");
    guest.ok("deploy secret grant web db");
    assert_eq!(inside().out(), "second");
    guest.ok(&format!("kill -KILL {pid}"));
    no_instance(&guest);
}

#[test]
fn a_pin_to_an_image_and_a_user_who_is_not_root() {
    let guest = guest();
    guest.ok(
        "podman tag small other && printf x >/root/small/etc/x && tar -C /root/small -cf /root/b.tar . \
         && podman import -q /root/b.tar changed",
    );
    let id = guest.ok("podman image inspect --format '{{.Id}}' small");
    guest.ok(&format!("deploy secret grant web db --image sha256:{id}"));
    // The same image by two names, and another image.
    for image in ["small", "other"] {
        let said = podman(&guest, &format!("--rm {OWN} {image} cat /run/secrets/db"));
        assert_eq!(said.out(), "hunter2", "{said}");
    }
    let refused = podman(&guest, &format!("--rm {OWN} changed cat /run/secrets/db"));
    assert_ne!(refused.code, 0);
    journal_says(&guest, "pinned to image");
    no_instance(&guest);

    guest.ok("deploy secret revoke web db; deploy secret grant web db");
    guest.ok("useradd --create-home member; rm -f /etc/subuid /etc/subgid; cp -r /root/small /home/member/small; chown -R member /home/member");
    let rootless = guest.run(
        "cd /home/member; runuser -u member -- env XDG_RUNTIME_DIR=/home/member HOME=/home/member \
         podman run --rm --network none --cgroups=disabled --annotation io.deploy.service=web \
         --rootfs /home/member/small cat /run/secrets/db",
    );
    assert_ne!(rootless.code, 0);
    assert_eq!(rootless.out(), "");
    // The hook asks the injector, whose socket is root's alone.
    rootless.says(&["error executing hook `/usr/sbin/deploy-inject`"]);
    journal_says(&guest, "secrets are given to root's containers alone");
    no_instance(&guest);
}
