# A reader that holds what it is told to: what /usr/bin/python3 runs as the service. A line of JSON asks,
# [VERB, ARGUMENTS...], and one answers: what was read, or {"refused": NAME} of an errno or a signal.
# What is held has a number that the asker gives.
import ctypes, errno, json, mmap, os, resource, select, signal, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
LIMIT = 50
IN_MODIFY, IN_CLOSE_WRITE, IN_DELETE = 2, 8, 0x200

def all_of(fd):
    parts, at = [], 0
    # Of a size that no page has: several calls, and across pages.
    while part := os.pread(fd, 5000, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts).decode()

class Descriptor:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)

    def look(self):
        got = all_of(self.fd)
        size = os.fstat(self.fd).st_size
        return got if size == len(got) else f"{len(got)} bytes, with size {size}: {got[:40]}"

    def close(self):
        os.close(self.fd)

# A process that looks when it is asked. `prepare` gives how, once it has been forked.
class Child:
    def __init__(self, prepare):
        asked, self.ask = os.pipe()
        told, tell = os.pipe()
        self.end = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                look = prepare()
                while os.read(asked, 1):
                    answer = json.dumps(attempt(look)).encode() + b"\n"
                    while answer:
                        answer = answer[os.write(tell, answer):]
            finally:
                os._exit(1)
        os.close(asked)
        os.close(tell)
        self.told = os.fdopen(told)

    def look(self):
        if self.end is None:
            os.write(self.ask, b"x")
            if line := self.told.readline():
                return json.loads(line)
            _, status = os.waitpid(self.pid, 0)
            self.end = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "exit"
        return {"refused": self.end}

    def close(self):
        if self.end is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.ask)
        self.told.close()

def forked(of):
    return Child(lambda: lambda: all_of(of.fd))

def mapped(of):
    def prepare():
        area = mmap.mmap(of.fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        return lambda: area[:].decode()
    return Child(prepare)

# A file and its folder, each watched once.
class Watch:
    def __init__(self, path):
        self.name = os.path.basename(path)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self.file = self.add(path, IN_MODIFY | IN_CLOSE_WRITE)
        self.folder = self.add(os.path.dirname(path), IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE)

    def add(self, path, mask):
        wd = libc.inotify_add_watch(self.fd, path.encode(), mask)
        if wd < 0:
            raise OSError(ctypes.get_errno(), path)
        return wd

    def heard(self):
        try:
            data = os.read(self.fd, 1 << 20)
        except BlockingIOError:
            return
        while data:
            wd, mask, _, length = struct.unpack("iIII", data[:16])
            name = data[16:16 + length].rstrip(b"\0").decode()
            data = data[16 + length:]
            who = "file" if wd == self.file else "folder" if name == self.name else "another"
            for bit, what in [(IN_MODIFY, "modified"), (IN_CLOSE_WRITE, "written"), (IN_DELETE, "deleted")]:
                if mask & bit:
                    yield f"{who} {what}"

    # What of `wanted` does not come.
    def waits(self, wanted):
        left, end = set(wanted), time.monotonic() + LIMIT
        while left and time.monotonic() < end:
            select.select([self.fd], [], [], 1)
            left -= set(self.heard())
        return sorted(left)

    def close(self):
        os.close(self.fd)

held = {}

def keep(number, one):
    held[number] = one
    return None if isinstance(one, Watch) else one.look()

def names(folder):
    # Below a view that is gone is a folder, and an empty one.
    if not os.path.ismount("/secret"):
        return {"refused": "no view"}
    return sorted(os.listdir(folder))

VERBS = {
    "open": lambda number, path: keep(number, Descriptor(path)),
    "fork": lambda number, of: keep(number, forked(held[of])),
    "map": lambda number, of: keep(number, mapped(held[of])),
    "watch": lambda number, path: keep(number, Watch(path)),
    "look": lambda number: held[number].look(),
    "forgets": lambda number: list(held[number].heard()) and None,
    "waits": lambda number, wanted: held[number].waits(wanted),
    "close": lambda number: held.pop(number).close(),
    "names": names,
    "size": lambda path: os.stat(path).st_size,
}

def attempt(act, *arguments):
    try:
        return act(*arguments)
    except OSError as e:
        return {"refused": errno.errorcode[e.errno]}

# SIGBUS is expected, and no reason to write one.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for line in sys.stdin:
    verb, *arguments = json.loads(line)
    print(json.dumps(attempt(VERBS[verb], *arguments)), flush=True)
