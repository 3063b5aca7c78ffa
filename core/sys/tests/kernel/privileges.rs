//! What a started program may do.

use std::os::unix::fs::PermissionsExt;

use sys::process::Spawn;

use crate::common::{field, output, shell};
use crate::helper;

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn status_of<'a>() -> Spawn<'a> {
    Spawn::new("/bin/cat").arg("/proc/self/status")
}

#[test]
fn all_five_capability_sets_are_empty_for_root_too() {
    let full = output(status_of());
    assert_ne!(
        field(&full, "CapEff"),
        "0".repeat(16),
        "the test needs root"
    );
    for spawn in [status_of(), status_of().user(54321, 54322, &[])] {
        let text = output(spawn.drop_capabilities().no_new_privileges());
        for set in SETS {
            assert_eq!(field(&text, set), "0".repeat(16), "{set}");
        }
        assert_eq!(field(&text, "NoNewPrivs"), "1");
    }
    assert_eq!(field(&full, "NoNewPrivs"), "0");
    helper::run(helper::spawn("no-capabilities").drop_capabilities());
    assert!(sys::sandbox::has_capabilities().unwrap());
}

#[test]
fn root_keeps_the_named_capabilities_and_no_other_user_any() {
    use rustix::thread::CapabilitySet;
    let kept = CapabilitySet::KILL | CapabilitySet::SYS_CHROOT;
    let number = format!("{:016x}", kept.bits());
    let none = "0".repeat(16);
    let all = |spawn: Spawn<'_>| {
        let text = output(spawn.keep_capabilities(kept).no_new_privileges());
        SETS.map(|set| field(&text, set).to_owned())
    };
    let [none, number] = [&*none, &*number];
    assert_eq!(all(status_of()), [none, number, number, number, none]);
    let user = status_of().user(54321, 54322, &[]);
    assert_eq!(all(user), [none, none, none, number, none]);
}

#[test]
fn capabilities_that_the_starter_would_hand_on_are_dropped_too() {
    use rustix::thread::{CapabilitySet, configure_capability_in_ambient_set as raise};
    // Of this thread alone. Inheritable ones come to root past an empty bounding set.
    let thread = std::thread::spawn(|| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.inheritable = CapabilitySet::NET_RAW;
        rustix::thread::set_capabilities(None, sets).unwrap();
        raise(CapabilitySet::NET_RAW, true).unwrap();
        (output(status_of()), output(status_of().drop_capabilities()))
    });
    let (handed_on, dropped) = thread.join().unwrap();
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(&handed_on, set), "0000000000002000", "{set}");
    }
    for set in SETS {
        assert_eq!(field(&dropped, set), "0".repeat(16), "{set}");
    }
}

#[test]
fn the_user_and_groups_are_exactly_those_and_no_way_leads_back() {
    let text = output(status_of().user(54321, 54322, &[7, 54323]));
    assert_eq!(field(&text, "Uid"), "54321\t54321\t54321\t54321");
    assert_eq!(field(&text, "Gid"), "54322\t54322\t54322\t54322");
    assert_eq!(field(&text, "Groups"), "7 54323");
    assert_eq!(field(&text, "CapPrm"), "0".repeat(16));
    let text = output(status_of().user(54321, 54322, &[]));
    assert_eq!(field(&text, "Groups"), "");
}

#[test]
fn the_working_folder_is_entered_as_the_user() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let refused = shell("pwd")
        .user(54321, 54321, &[])
        .cwd(dir.path())
        .start()
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn a_new_network_namespace_holds_lo_and_nothing_else() {
    let spawn = Spawn::new("/bin/cat")
        .arg("/proc/self/net/dev")
        .new_net_namespace();
    let text = output(spawn.user(54321, 54321, &[]).drop_capabilities());
    let devices: Vec<&str> = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(str::trim)
        .collect();
    assert_eq!(devices, ["lo"]);
}
