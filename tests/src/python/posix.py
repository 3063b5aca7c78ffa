# What each path call says of each kind of place in a tree that nobody may change: a line of
# `CALL PLACE: ERRNO` each. Arguments: the tree; a regular file in it; a folder with a file in it, or
# nothing; a file elsewhere. Calls by libc itself, as Python refuses a bad pointer before the kernel can.
import ctypes, errno, os, sys

tree, file, folder, elsewhere = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH, O_TMPFILE = -100, 0x1000, 0o20200000
buffer = ctypes.create_string_buffer(4096)

def call(name, *arguments):
    fix = lambda one: ctypes.c_long(one) if isinstance(one, int) else one
    got = getattr(libc, name)(*map(fix, arguments))
    if name == "open" and got >= 0:
        os.close(got)
    # posix_fallocate(3) is the one that gives its errno back.
    number = ctypes.get_errno() if got == -1 else got if name == "posix_fallocate" else 0
    return errno.errorcode[number] if number else "ok"

def path(text):
    return ctypes.c_char_p(os.fsencode(text))

new = path(f"{tree}/new")
CALLS = {
    "access": lambda p: call("access", p, os.R_OK),
    "stat": lambda p: call("stat", p, buffer),
    "lstat": lambda p: call("lstat", p, buffer),
    "statfs": lambda p: call("statfs", p, buffer),
    "readlink": lambda p: call("readlink", p, buffer, 4096),
    "open": lambda p: call("open", p, os.O_RDONLY),
    "open-folder": lambda p: call("open", p, os.O_RDONLY | os.O_DIRECTORY),
    "open-nofollow": lambda p: call("open", p, os.O_RDONLY | os.O_NOFOLLOW),
    "open-path": lambda p: call("open", p, os.O_PATH),
    "open-write": lambda p: call("open", p, os.O_WRONLY),
    "open-both": lambda p: call("open", p, os.O_RDWR),
    "open-append": lambda p: call("open", p, os.O_WRONLY | os.O_APPEND),
    "open-truncate": lambda p: call("open", p, os.O_RDONLY | os.O_TRUNC),
    "open-create": lambda p: call("open", p, os.O_CREAT | os.O_WRONLY, 0o644),
    "open-create-read": lambda p: call("open", p, os.O_CREAT | os.O_RDONLY, 0o644),
    "open-create-new": lambda p: call("open", p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644),
    "open-temporary": lambda p: call("open", p, O_TMPFILE | os.O_RDWR, 0o644),
    "chmod": lambda p: call("chmod", p, 0o644),
    "chown": lambda p: call("chown", p, os.getuid(), os.getgid()),
    "lchown": lambda p: call("lchown", p, os.getuid(), os.getgid()),
    "utimensat": lambda p: call("utimensat", AT_FDCWD, p, None, 0),
    "truncate": lambda p: call("truncate", p, 0),
    "truncate-negative": lambda p: call("truncate", p, -1),
    "link": lambda p: call("link", p, new),
    "link-to": lambda p: call("link", path(file), p),
    "link-away": lambda p: call("link", p, path(elsewhere + ".new")),
    "link-from-elsewhere": lambda p: call("link", path(elsewhere), p),
    "symlink": lambda p: call("symlink", path("test"), p),
    "rename": lambda p: call("rename", p, new),
    "rename-to": lambda p: call("rename", path(file), p),
    "rename-away": lambda p: call("rename", p, path(elsewhere + ".new")),
    "rename-from-elsewhere": lambda p: call("rename", path(elsewhere), p),
    "rename-into-itself": lambda p: call("rename", path(tree), p),
    "mkdir": lambda p: call("mkdir", p, 0o755),
    "mkfifo": lambda p: call("mkfifo", p, 0o644),
    "mknod": lambda p: call("mknod", p, 0o100644, 0),
    "mknod-char": lambda p: call("mknod", p, 0o020644, os.makedev(1, 3)),
    "rmdir": lambda p: call("rmdir", p),
    "unlink": lambda p: call("unlink", p),
    "setxattr": lambda p: call("setxattr", p, path("user.x"), path("1"), 1, 0),
    "removexattr": lambda p: call("removexattr", p, path("user.x")),
}
PLACES = {
    "file": path(file),
    "file/": path(f"{file}/"),
    "below-file": path(f"{file}/x"),
    "tree": path(tree),
    "tree/.": path(f"{tree}/."),
    "new": new,
    "new/": path(f"{tree}/new/"),
    "below-new": path(f"{tree}/new/x"),
    "long-path": path(tree + "/." * 2048),
    "long-component": path(f"{tree}/{'x' * (os.pathconf(tree, 'PC_NAME_MAX') + 1)}"),
    "bad-pointer": ctypes.c_void_p(1),
    "empty": path(""),
}
if folder:
    PLACES |= {
        "folder": path(folder),
        "folder/": path(f"{folder}/"),
        "folder/.": path(f"{folder}/."),
        "folder/..": path(f"{folder}/.."),
        "below-folder": path(f"{folder}/x"),
    }
def times(name):
    look = os.stat(name)
    return (look.st_mode, look.st_uid, look.st_nlink, look.st_size, look.st_mtime_ns, look.st_ctime_ns)

before = [times(one) for one in (tree, file, folder or file)]
for name, said in CALLS.items():
    for place, where in PLACES.items():
        print(f"{name} {place}: {said(where)}")
after = [times(one) for one in (tree, file, folder or file)]
print(f"times after: {'as before' if before == after else (before, after)}")

held = os.open(file, os.O_RDONLY)
listed = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
for name, said in {
    "write": lambda: call("write", held, path("x"), 1),
    "ftruncate": lambda: call("ftruncate", held, 0),
    "ftruncate-negative": lambda: call("ftruncate", held, -1),
    "posix_fallocate": lambda: call("posix_fallocate", held, 0, 1),
    "fallocate": lambda: call("fallocate", held, 0, 0, 1),
    "fchmod": lambda: call("fchmod", held, 0o644),
    "fchown": lambda: call("fchown", held, os.getuid(), os.getgid()),
    "futimens": lambda: call("futimens", held, None),
    "fsetxattr": lambda: call("fsetxattr", held, path("user.x"), path("1"), 1, 0),
    "fsync": lambda: call("fsync", held),
    "linkat-descriptor": lambda: call("linkat", held, path(""), AT_FDCWD, new, AT_EMPTY_PATH),
    "unlinkat": lambda: call("unlinkat", listed, path(os.path.basename(file)), 0),
    "unlinkat-absent": lambda: call("unlinkat", listed, path("new"), 0),
    "mkdirat": lambda: call("mkdirat", listed, path("new"), 0o755),
    "mkdirat-not-folder": lambda: call("mkdirat", held, path("new"), 0o755),
    "renameat2-exchange": lambda: call("renameat2", AT_FDCWD, path(file), AT_FDCWD, path(folder or file), 2),
    "renameat2-no-replace": lambda: call("renameat2", AT_FDCWD, path(file), AT_FDCWD, path(file), 1),
    "read-folder": lambda: call("read", listed, buffer, 10),
    "lseek-negative": lambda: call("lseek", held, -1, os.SEEK_SET),
    "fchdir-file": lambda: call("fchdir", held),
}.items():
    print(f"{name} descriptor: {said()}")
