//! The cases of pjdfstest (github.com/pjd/pjdfstest) that a read-only tree can have, on a view: each
//! call with each errno that POSIX gives it, as the service's user and as root. All of its calls are
//! here but those below; its names are `CALL/NN.t`, a file for each errno.
//!
//! Left out, and why:
//! - what makes, changes or removes something and succeeds (permissions and times after a change,
//!   sticky and set-id bits, EEXIST, ENOTEMPTY, EMLINK, ENOSPC, ETXTBSY, EDQUOT; all of
//!   posix_fallocate and granular): nothing is made in a view, and each such call is EROFS here;
//! - ELOOP, and what follows a symbolic link: a view has none, and none can be made in it;
//! - EPERM of another user's file, and EACCES of a folder without search permission: reading.rs and
//!   matrix.rs have them;
//! - chflags, lchmod and other calls that Linux does not have; ENXIO and EOPNOTSUPP of fifos and
//!   sockets, of which a view has none; EXDEV of a link to another file system (EROFS comes first);
//! - EINVAL of a negative length: the call never reaches the file system.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use tests::Pair;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;

/// Prints `CALL CASE ERRNO` for each.
const SCRIPT: &str = r#"
import ctypes, stat
libc = ctypes.CDLL(None, use_errno=True)
there, folder = b'/secret/db_password', b'/secret'
CREAT = os.O_CREAT | os.O_WRONLY
RDONLY, WRONLY = os.O_RDONLY, os.O_WRONLY
AT, NOW = -100, None
# Each with one path; which is there for those that need one.
calls = {
    'open': lambda p: libc.open(p, RDONLY),
    'open-write': lambda p: libc.open(p, WRONLY),
    'open-truncate': lambda p: libc.open(p, WRONLY | os.O_TRUNC),
    'chmod': lambda p: libc.chmod(p, 0o600),
    'chown': lambda p: libc.chown(p, os.getuid(), os.getgid()),
    'lchown': lambda p: libc.lchown(p, os.getuid(), os.getgid()),
    'link-from': lambda p: libc.link(p, folder + b'/new'),
    'rename-from': lambda p: libc.rename(p, folder + b'/new'),
    'truncate': lambda p: libc.truncate(p, ctypes.c_long(0)),
    'unlink': lambda p: libc.unlink(p),
    'utimensat': lambda p: libc.utimensat(AT, p, None, 0),
}
makes = {
    'open-create': lambda p: libc.open(p, CREAT, 0o600),
    'link-to': lambda p: libc.link(there, p),
    'mkdir': lambda p: libc.mkdir(p, 0o700),
    'mkfifo': lambda p: libc.mkfifo(p, 0o600),
    'mknod': lambda p: libc.mknod(p, stat.S_IFREG | 0o600, ctypes.c_ulong(0)),
    'rename-to': lambda p: libc.rename(there, p),
    'symlink': lambda p: libc.symlink(b'target', p),
}
def say(name, case, call):
    ctypes.set_errno(0)
    result = call()
    code = errno.errorcode[ctypes.get_errno()] if result < 0 else 'ok'
    if result >= 0 and name.startswith('open'): os.close(result)
    print(name, case, code)
for name, call in (calls | makes).items():
    for case, path in {
        'not-a-folder': there + b'/x',
        'no-entry': folder + b'/nothing/x',
        'long-name': folder + b'/' + b'x' * 256,
        'very-long-name': folder + b'/' + b'x' * 2000,
        'long-path': folder + b'/' + b'x/' * 2100,
        'fault': ctypes.c_void_p(1),
    }.items():
        say(name, case, lambda: call(path))
for name, call in calls.items():
    say(name, 'there', lambda: call(there))
    say(name, 'absent', lambda: call(folder + b'/nothing'))
for name, call in makes.items():
    say(name, 'new', lambda: call(folder + b'/new'))
say('rmdir', 'a-file', lambda: libc.rmdir(there))
say('rmdir', 'absent', lambda: libc.rmdir(folder + b'/nothing'))
say('unlink', 'a-folder', lambda: libc.unlink(folder))
say('open-write', 'a-folder', lambda: libc.open(folder, WRONLY))
say('open', 'as-a-folder', lambda: libc.open(there, os.O_DIRECTORY))
say('open', 'no-follow', lambda: libc.open(there, os.O_NOFOLLOW))
fd = libc.open(there, RDONLY)
say('ftruncate', 'read-only', lambda: libc.ftruncate(fd, ctypes.c_long(0)))
say('fchmod', 'there', lambda: libc.fchmod(fd, 0o600))
say('fchown', 'there', lambda: libc.fchown(fd, os.getuid(), os.getgid()))
say('futimens', 'there', lambda: libc.futimens(fd, None))
"#;

/// What POSIX has for it on a read-only file system; several, where the order is the system's choice.
fn right(call: &str, case: &str, is_root: bool) -> &'static [&'static str] {
    let makes = [
        "open-create",
        "link-to",
        "mkdir",
        "mkfifo",
        "mknod",
        "rename-to",
        "symlink",
    ];
    match (call, case) {
        ("open", "there" | "no-follow") => &["ok"],
        ("open", "as-a-folder") => &["ENOTDIR"],
        ("open-write", "a-folder") => &["EISDIR"],
        ("unlink", "a-folder") => &["EISDIR", "EROFS", "EBUSY", "EACCES"],
        ("rmdir", "a-file") => &["ENOTDIR", "EROFS"],
        ("ftruncate", _) => &["EINVAL", "EBADF"],
        (_, "fault") => &["EFAULT"],
        (_, "not-a-folder") => &["ENOTDIR"],
        (_, "no-entry") => &["ENOENT"],
        // On any file system that is mounted so, the mount is asked before the name is looked up.
        ("unlink" | "rename-from" | "rename-to", "very-long-name" | "long-name") => {
            &["ENAMETOOLONG", "EROFS"]
        }
        (_, "long-path" | "very-long-name" | "long-name") => &["ENAMETOOLONG"],
        // Whether a name is there may be asked before the mount is.
        (_, "absent") => &["ENOENT", "EROFS"],
        ("open-write" | "open-truncate" | "truncate" | "open-create", _) if !is_root => {
            &["EACCES", "EROFS"]
        }
        (call, _) if makes.contains(&call) && !is_root => &["EACCES", "EROFS"],
        _ => &["EROFS"],
    }
}

#[test]
fn each_call_fails_as_posix_says_on_a_read_only_file_system() {
    let pair = Pair::start();
    pair.set("db_password", "value");
    pair.grant("web", &["db_password"]);
    let user = ClaimedUser::claim();
    let mut wrong = Vec::new();
    for uid in [user.uid(), 0] {
        let asked = Asked::service("web").python(SCRIPT).user(uid);
        let said = pair.run_to_end(&asked.secrets(&["db_password"])).ok();
        let out = said.out();
        assert_eq!(out.lines().count(), 18 * 6 + 11 * 2 + 7 + 10, "{said}");
        for line in out.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [call, case, errno] = words[..] else {
                panic!("{line}");
            };
            if !right(call, case, uid == 0).contains(&errno) {
                wrong.push(format!("as {uid}: {line}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}
