//! Kinds of units.

use super::{enable, guest, instance_in, instances, nothing_left, said, says, unit};

#[test]
fn units_of_every_kind_have_their_view() {
    let guest = guest();
    guest.ok(
        "useradd --system plain; useradd --uid 4711 numbered; mkdir -p /srv/small/usr /srv/small/bin /srv/small/lib \
         /srv/small/lib64 /srv/small/proc /srv/small/dev /srv/small/sys /srv/small/tmp /srv/small/run",
    );
    let root = "RootDirectory=/srv/small\nMountAPIVFS=yes\nBindReadOnlyPaths=/usr /bin /lib /lib64";
    let all = [
        ("static", "User=plain"),
        ("number", "User=4711"),
        ("dynamic", "DynamicUser=yes"),
        ("named", "DynamicUser=yes\nUser=somebody"),
        ("private", "PrivateMounts=yes\nPrivateTmp=yes\nUser=plain"),
        (
            "strict",
            "ProtectSystem=strict\nProtectHome=yes\nUser=plain",
        ),
        ("rooted", root),
        (
            "hard",
            "DynamicUser=yes\nProtectProc=invisible\nPrivateUsers=yes\nPrivateDevices=yes\n\
                  NoNewPrivileges=yes\nRestrictNamespaces=yes\nSystemCallFilter=@system-service\n\
                  ProtectKernelTunables=yes\nCapabilityBoundingSet=\nPrivateNetwork=yes",
        ),
        ("web@", "User=plain"),
    ];
    for (name, lines) in all {
        let name = format!("{name}.service");
        unit(&guest, &name, lines);
        enable(&guest, &name, "web");
    }
    let names = [
        "static", "number", "dynamic", "named", "private", "strict", "rooted", "hard", "web@1",
        "web@2",
    ];
    for name in names {
        guest.ok(&format!("systemctl start {name}"));
    }
    for name in names {
        let unit = format!("{name}.service");
        let line = says(&guest, &unit, "hunter2");
        assert_eq!(instances(&guest)[&unit], instance_in(&line), "{unit}");
        assert_eq!(said(&guest, &unit).len(), 1, "{unit} had no view at first");
    }
    let numbers: std::collections::BTreeSet<_> = instances(&guest).into_values().collect();
    assert_eq!(numbers.len(), names.len());
    let shown = guest.ok("deploy unit status web@2");
    assert!(
        shown.contains("web@.service") && shown.contains("web@1.service"),
        "{shown}"
    );
    // One instance of a template ends, and the other stays.
    guest.ok("systemctl stop web@1");
    tests::wait::until("the end of web@1", || {
        (!instances(&guest).contains_key("web@1.service")).then_some(())
    });
    guest.ok("printf changed | deploy secret set db --file -");
    for name in names.iter().filter(|name| **name != "web@1") {
        says(&guest, &format!("{name}.service"), "changed");
    }
    guest.ok(&format!("systemctl stop {}", names.join(" ")));
    nothing_left(&guest);
}
