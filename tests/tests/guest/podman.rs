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

fn podman(guest: &Guest, words: &str) -> Finished {
    guest.run(&format!(
        "podman run --network none --annotation io.deploy.service=web {words}"
    ))
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
    let refused = podman(&guest, "--rm small cat /run/secrets/db");
    assert_ne!(refused.code, 0);
    assert_eq!(refused.out(), "");
    refused.says(&["deploy secret grant web db"]);
    no_instance(&guest);
    guest.ok("deploy secret grant web db");
    let read = "cat /run/secrets/db";
    for words in [
        "--rm small",
        "--rm --read-only small",
        "--rm --user 33:33 small",
        "--rm --read-only --read-only-tmpfs=false small",
    ] {
        let said = podman(&guest, &format!("{words} {read}")).ok();
        assert_eq!(said.out(), "hunter2", "{words}");
        no_instance(&guest);
    }
    // Without the annotation it is none of ours.
    let other = guest.run(&format!("podman run --rm --network none small {read}"));
    assert_ne!(other.code, 0);

    podman(&guest, "--detach --name web small sleep 1000").ok();
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
    let pid = guest.ok("podman inspect --format '{{.State.Pid}}' web");
    guest.ok(&format!("kill -KILL {pid}"));
    no_instance(&guest);
    assert_eq!(
        guest
            .run("grep -c deploy-secrets: /proc/1/mountinfo")
            .out()
            .trim(),
        "2"
    );
}

#[test]
fn users_of_its_own_and_a_pin_to_an_image() {
    let guest = guest();
    guest.ok("echo containers:100000:1000000 | tee /etc/subuid >/etc/subgid");
    guest.ok("podman tag small other && printf x >/root/small/etc/x && tar -C /root/small -cf /root/b.tar . && podman import -q /root/b.tar changed");
    let id = guest.ok("podman image inspect --format '{{.Id}}' small");
    guest.ok(&format!("deploy secret grant web db --image sha256:{id}"));
    let said = podman(&guest, "--rm --userns=auto small cat /run/secrets/db").ok();
    assert_eq!(said.out(), "hunter2");
    // The same image by another name, and another image.
    assert_eq!(
        podman(&guest, "--rm other cat /run/secrets/db").out(),
        "hunter2"
    );
    let refused = podman(&guest, "--rm changed cat /run/secrets/db");
    assert_ne!(refused.code, 0);
    refused.says(&["image"]);
    no_instance(&guest);
}

#[test]
fn explore() {
    let guest = guest();
    guest.ok(
        "deploy secret grant web db; echo containers:100000:1000000 | tee /etc/subuid >/etc/subgid",
    );
    for words in [
        "--privileged",
        "--cgroups=disabled",
        "--cgroups=disabled --userns=auto",
        "--privileged --userns=auto",
        "--cgroups=disabled --userns=auto --security-opt unmask=ALL",
        "--cgroups=disabled --userns=auto -v /sys:/sys:ro",
        "--cgroups=disabled --uidmap 0:100000:65536",
        "--cgroups=disabled --read-only --read-only-tmpfs=false",
        "--cgroups=disabled --user 33:33",
    ] {
        let said = podman(
            &guest,
            &format!("--rm {words} small sh -c 'cat /run/secrets/db; cat /proc/self/cgroup'"),
        );
        eprintln!("EXPLORE {said}");
    }
    let r = guest.run("useradd -m member; chmod 755 /root; cd /tmp; runuser -u member -- env XDG_RUNTIME_DIR=/tmp podman run --rm --network none --cgroups=disabled --annotation io.deploy.service=web --rootfs /root/small cat /run/secrets/db");
    eprintln!("EXPLORE {r}");
    panic!("seen");
}
