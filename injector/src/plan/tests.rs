#![allow(clippy::unwrap_used)]
use super::*;

const PRIVATE: &str = "\
27 1 254:0 / / rw - ext4 /dev/vda rw
22 27 0:21 / /proc rw - proc proc rw
";

fn survey(mounts: &str, secret: Found, config: Found) -> Survey {
    let target = |tree, path: &str, found| Target {
        tree,
        path: path.into(),
        found,
    };
    Survey {
        host_namespace: false,
        mounts: Mounts::parse(mounts),
        targets: vec![
            target(Tree::Secret, "/run/app/secret", secret),
            target(Tree::Config, "/run/app/config", config),
        ],
    }
}

fn absent(deepest: &str) -> Found {
    Found::Absent {
        deepest: deepest.into(),
    }
}

fn words(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::to_string).collect()
}

#[test]
fn folders_that_are_there_are_used() {
    let steps = plan(&survey(PRIVATE, Found::Folder, Found::Folder)).unwrap();
    assert_eq!(
        words(&steps),
        [
            "attach a view at /run/app/secret",
            "attach a view at /run/app/config"
        ]
    );
}

#[test]
fn missing_folders_are_made_once_outermost_first() {
    let steps = plan(&survey(PRIVATE, absent("/run"), absent("/run"))).unwrap();
    assert_eq!(
        words(&steps),
        [
            "make the folder /run/app",
            "make the folder /run/app/secret",
            "attach a view at /run/app/secret",
            "make the folder /run/app/config",
            "attach a view at /run/app/config",
        ]
    );
}

#[test]
fn copies_of_masters_and_dead_views_are_taken_out_and_foreign_mounts_are_not() {
    let mounts = format!(
        "{PRIVATE}\
31 27 0:41 / /run/d/views/secret rw - fuse deploy-secrets:secret rw
32 27 0:42 / /run/d/secrets rw - fuse deploy-secrets:operator rw
33 27 0:41 /5 /run/app/secret ro - fuse deploy-secrets:secret rw
34 27 0:41 /6 /container/secret ro - fuse deploy-secrets:secret rw
35 27 0:43 / /mnt/sshfs rw - fuse.sshfs host: rw
"
    );
    let steps = plan(&survey(&mounts, Found::Folder, Found::Folder)).unwrap();
    assert_eq!(
        words(&steps)[..3],
        [
            "detach /run/app/secret",
            "detach /run/d/secrets",
            "detach /run/d/views/secret"
        ]
    );
    assert_eq!(steps.len(), 5);
}

#[test]
fn the_hosts_namespace_is_refused() {
    let mut survey = survey(PRIVATE, Found::Folder, Found::Folder);
    survey.host_namespace = true;
    assert_eq!(plan(&survey), Err(PlanError::HostNamespace));
}

#[test]
fn a_tmpfs_over_proc_is_refused() {
    let mounts = format!("{PRIVATE}40 22 0:60 / /proc rw - tmpfs x rw\n");
    let error = plan(&survey(&mounts, Found::Folder, Found::Folder)).unwrap_err();
    assert!(error.to_string().starts_with("a tmpfs lies over /proc"));
}

#[test]
fn a_symlink_on_the_way_is_named_and_refused() {
    let blocked = Found::Blocked {
        at: "/run/app".into(),
        what: "a symlink",
    };
    let error = plan(&survey(PRIVATE, Found::Folder, blocked)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/run/app/config: /run/app is a symlink; name a target without it in `targets`"
    );
}

#[test]
fn a_shared_mount_below_the_target_is_refused_with_the_command_that_mends_it() {
    let mounts = format!("{PRIVATE}30 27 0:40 / /run rw shared:7 - tmpfs tmpfs rw\n");
    let error = plan(&survey(&mounts, Found::Folder, Found::Folder)).unwrap_err();
    assert!(error.to_string().ends_with("mount --make-private /run"));
}
