//! What POSIX has a read-only file system say, call by call and place by place: what a real one says.
//!
//! pjdfstest 0.2.2 itself does not run here: before each case it makes a folder in the file system
//! under test, and its EROFS cases remount that for reading alone and back. So the cases that need
//! no change to succeed are written again. Of its 398 on Linux these have a counterpart here:
//! `erofs_*`, `enoent_*` (but for symlinks), `enotdir_component*::regular`,
//! `eisdir*::{regular,dir}`, `eexist_*::{regular,dir}`, `enametoolong_*`, `efault_*`, `einval_*`,
//! `ebusy`, `exdev_target`, and `*unchanged_ctime*`, `no_update_ctime_fail`, `exists_no_update` for
//! regular files and folders. Left out, and why:
//! - those that show what comes of a change (`change_perm`, `remove_*`, `update_ctime*`,
//!   `preserve_metadata*`, `changes_timestamps`, ...): nobody may change anything;
//! - those for symlinks, fifos, sockets and devices (`eloop_*`, `open_nofollow`, `*::fifo`, ...),
//!   `link_count_max` and other hard links: a view has regular files and folders alone;
//! - `etxtbsy`: the mount is noexec; `interact_2gb`: a value has at most 1 MiB;
//! - `chflags`, NFSv4 ACLs: not on Linux.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Finished, Pair};

const SCRIPT: &str = include_str!("../src/python/posix.py");

/// What was said of each call and place.
fn said(finished: Finished) -> BTreeMap<String, String> {
    let all: BTreeMap<String, String> = (finished.ok().out().lines())
        .map(|line| line.split_once(": ").unwrap())
        .map(|(what, said)| (what.to_owned(), said.to_owned()))
        .collect();
    assert!(all.len() > 450, "{}", all.len());
    all
}

/// A tmpfs with the same files, owners and permissions, mounted as a view is, in a mount namespace
/// that goes with the command.
fn twin(pair: &Pair, uid: u32, folder: &str, elsewhere: &str) -> Finished {
    let tree = pair.folder().join("twin");
    std::fs::create_dir_all(&tree).unwrap();
    let make = "set -e; tree=$1 uid=$2; shift 2\n\
        mount -t tmpfs twin $tree; mkdir $tree/tls\n\
        printf %s value >$tree/key; printf %s cert >$tree/tls/cert; printf %s key >$tree/tls/key\n\
        chmod 0400 $tree/key $tree/tls/*; chmod 0500 $tree/tls $tree; chown -R $uid:$uid $tree\n\
        mount -o remount,bind,ro,nosuid,nodev,noexec,nosymfollow $tree\n\
        exec setpriv --reuid $uid --regid $uid --clear-groups -- \"$@\"";
    let tree = tree.to_str().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--", "/bin/sh", "-c", make, "sh", tree])
        .arg(uid.to_string())
        .args(["/usr/bin/python3", "-c", SCRIPT, tree])
        .args([
            &format!("{tree}/key"),
            &folder.replacen("/secret", tree, 1),
            elsewhere,
        ]);
    run(command, b"")
}

#[test]
fn a_view_says_of_each_call_what_a_read_only_tmpfs_says() {
    let pair = Pair::start();
    pair.set("key", "value");
    pair.set_fields("tls", r#"{"cert":"cert","key":"key"}"#, &[])
        .ok();
    pair.grant("web", &["key", "tls"]);
    let user = ClaimedUser::claim();
    let beside = pair.folder().join("beside");
    std::fs::create_dir(&beside).unwrap();
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o777)).unwrap();
    let elsewhere = pair.file("beside/file", "");
    let elsewhere = elsewhere.to_str().unwrap();
    let trees = [
        ("/secret", "/secret/key", "/secret/tls"),
        ("/config", "/config/level", ""),
    ];
    for ((tree, file, folder), uid) in trees
        .into_iter()
        .flat_map(|one| [(one, 0), (one, user.uid())])
    {
        let words = [
            "/usr/bin/python3",
            "-c",
            SCRIPT,
            tree,
            file,
            folder,
            elsewhere,
        ];
        let asked = Asked::service("web")
            .user(uid)
            .secrets(&["key", "tls"])
            .config(&[("level", "debug")])
            .command(&words);
        let of_view = said(pair.run_to_end(&asked));
        let of_tmpfs = said(twin(&pair, uid, folder, elsewhere));
        let differ: Vec<String> = of_tmpfs
            .iter()
            .filter(|(what, right)| of_view.get(*what) != Some(right))
            .map(|(what, right)| format!("{what}: {:?}, a tmpfs: {right}", of_view.get(what)))
            .collect();
        assert_eq!(differ, [""; 0], "{tree}, by uid {uid}");
    }
}
