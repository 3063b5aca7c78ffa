# The busy readers of one instance: what /usr/bin/python3 runs as the service. One line of JSON
# asks, one answers. Python, as mmap, fork and signals of a process of its own need no `unsafe`.
#
# {"begin": ROUND, "secrets": {NAME: SIZE}, "kinds": [...]}: opens, maps, forks; answers once each
#     reader has read each secret, with the round's value in it.
# {"stop": [BEFORE, AFTER], "gone": [NAME]}: times around a revoke, of CLOCK_MONOTONIC. Answers once
#     each reader has tried again after it, and the watcher has heard DELETE.
# {"lock": FILE}: has a child hold the lock of /secret; answers when it does. {"unlock": 0}: ends it.
import ctypes, errno, json, mmap, os, resource, signal, socket, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
FOLDER = "/secret"
IN_DELETE = 0x200
# Each (kind, secret) has these six numbers in memory that the forked share; LAST is written last.
GOOD, GOODS, WRONG, FIRST_BAD, ERRNO, LAST = range(6)
LIMIT = 50

def content(name, round, size):
    unit = f"{name}:{round};".encode()
    return (unit * (size // len(unit) + 1))[:size]

def all_of(fd):
    parts, at = [], 0
    while part := os.pread(fd, 65536, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)

def by_name(path, folder=None):
    fd = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        return all_of(fd)
    finally:
        os.close(fd)

def uncached(fd):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return all_of(fd)

# Each kind of its process: given the secrets' names, how to read one.
def own(names):
    os.chdir(FOLDER)
    folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    held = {n: os.open(n, os.O_RDONLY) for n in names}
    return {
        "open": lambda n: by_name(f"{FOLDER}/{n}"),
        "held": lambda n: all_of(held[n]),
        "cwd": by_name,
        "folder": lambda n: by_name(n, folder),
        "root": lambda n: by_name(f"/proc/{os.getppid()}/root{FOLDER}/{n}"),
        "again": lambda n: by_name(f"/proc/self/fd/{held[n]}"),
        "flight": lambda n: uncached(held[n]),
    }
OWN = ["open", "held", "cwd", "folder", "root", "again", "flight"]

class Slots:
    def __init__(self, kinds, names):
        self.at = {key: i * 6 for i, key in enumerate((k, n) for k in kinds for n in names)}
        # Numbers are written whole, each by itself.
        self.memory = memoryview(mmap.mmap(-1, 48 * len(self.at))).cast("Q")

    def get(self, key):
        return list(self.memory[self.at[key]:self.at[key] + 6])

    def put(self, key, numbers):
        for at, number in enumerate(numbers, self.at[key]):
            self.memory[at] = number

def read_for_ever(slots, ways, expected):
    while True:
        for kind, way in ways.items():
            for name, right in expected.items():
                now = slots.get((kind, name))
                start = time.monotonic_ns()
                try:
                    got = way(name)
                    now[GOOD], now[ERRNO] = start, 0
                    now[GOODS] += 1
                    now[WRONG] += got != right
                except OSError as e:
                    now[FIRST_BAD] = now[FIRST_BAD] or time.monotonic_ns()
                    now[ERRNO] = e.errno
                now[LAST] = start
                slots.put((kind, name), now)

class Round:
    def __init__(self, ask):
        names = list(ask["secrets"])
        expected = {n: content(n, ask["begin"], size) for n, size in ask["secrets"].items()}
        kinds = ask["kinds"]
        self.slots = Slots([k for kind in kinds for k in (OWN if kind == "open" else [kind])], names)
        self.children, self.mapped = [], {}
        # Before anything is open, so that it has only what it is sent.
        if "passed" in kinds:
            ours, theirs = socket.socketpair()
            def receive():
                _, fds, _, _ = socket.recv_fds(theirs, 1, len(names))
                return {"passed": lambda n: all_of(fds[names.index(n)])}
            self.fork(receive, expected)
        fds = {n: os.open(f"{FOLDER}/{n}", os.O_RDONLY) for n in names}
        if "passed" in kinds:
            socket.send_fds(ours, [b"x"], list(fds.values()))
            ours.close()
            theirs.close()
        if "inherited" in kinds:
            self.fork(lambda: {"inherited": lambda n: all_of(fds[n])}, expected)
        if "mapped" in kinds:
            for name in names:
                # SIGBUS ends it.
                self.mapped[name] = self.fork(lambda: self.map(name, fds), {name: expected[name]})
        for fd in fds.values():
            os.close(fd)
        if "open" in kinds:
            self.fork(lambda: own(names), expected)
        self.wait(lambda now: now[GOODS] + now[FIRST_BAD] > 0, "a first read")

    def map(self, name, fds):
        area = mmap.mmap(fds[name], 0, mmap.MAP_SHARED, mmap.PROT_READ)
        return {"mapped": lambda n: area[:]}

    def fork(self, ways, expected):
        child = os.fork()
        if child == 0:
            try:
                read_for_ever(self.slots, ways(), expected)
            except BaseException as e:
                print(f"a reader ended by {e!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(1)
        self.children.append(child)
        return child

    # A mapping that gave SIGBUS tries no more.
    def ended(self, key):
        kind, name = key
        if kind != "mapped":
            return None
        if not isinstance(self.mapped[name], str):
            child, status = os.waitpid(self.mapped[name], os.WNOHANG)
            if child == 0:
                return None
            self.children.remove(child)
            self.mapped[name] = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "exit"
        return self.mapped[name]

    def wait(self, ready, what):
        end = time.monotonic() + LIMIT
        for key in self.slots.at:
            while not ready(self.slots.get(key)) and not self.ended(key):
                if time.monotonic() > end:
                    raise SystemExit(f"waited {LIMIT} s for {what} by {key}")
                time.sleep(0.0005)

    def stop(self, before, after):
        self.wait(lambda now: now[LAST] > after, "another try")
        told = {}
        for key in self.slots.at:
            end = self.ended(key)
            now = self.slots.get(key)
            told["/".join(key)] = {
                "goods": now[GOODS], "wrong": now[WRONG], "good_after": now[GOOD] > after,
                "bad_before": 0 < now[FIRST_BAD] < before, "bad": end or errno.errorcode.get(now[ERRNO], ""),
            }
        self.end()
        return told

    def end(self):
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        for child in self.children:
            os.waitpid(child, 0)
        self.children = []

class Watch:
    def __init__(self):
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.fd, FOLDER.encode(), IN_DELETE) > 0

    def hears(self, names):
        left, end = set(names), time.monotonic() + 5
        while left and time.monotonic() < end:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                time.sleep(0.001)
                continue
            while data:
                length = struct.unpack("iIII", data[:16])[3]
                left.discard(data[16:16 + length].rstrip(b"\0").decode())
                data = data[16 + length:]
        return sorted(left)

# A file whose pages never come: the root of a FUSE file system that answers no READ. getdents(2)
# into memory that is mapped from it waits for a page while it holds the folder's lock.
def stalled(path, tell):
    dev = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={dev},rootmode=100444,user_id=0,group_id=0".encode()
    if libc.mount(b"stalled", path.encode(), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), path)
    INIT, GETATTR, OPEN, READ = 26, 3, 14, 15
    child = os.fork()
    if child != 0:
        # The connection ends with the child: nobody else has it open.
        os.close(dev)
        return child
    while True:
        request = os.read(dev, 1 << 20)
        _, opcode, unique = struct.unpack_from("IIQ", request)
        status, out = 0, b""
        if opcode == INIT:
            out = struct.pack("IIIIHHIIHHII24x", 7, 31, 0, 0, 0, 0, 4096, 1, 1, 0, 0, 0)
        elif opcode == GETATTR:
            out = struct.pack("QII6Q10I", 9, 0, 0, 1, 4096, 8, 0, 0, 0, 0, 0, 0, 0o100444, 1, 0, 0, 0, 4096, 0)
        elif opcode == OPEN:
            out = bytes(16)
        elif opcode == READ:
            os.write(tell, b"x")
            continue
        else:
            status = -errno.ENOSYS
        os.write(dev, struct.pack("IiQ", 16 + len(out), status, unique) + out)

class Lock:
    def __init__(self, path):
        told, tell = os.pipe()
        self.server = stalled(path, tell)
        self.path = path
        self.holder = os.fork()
        if self.holder == 0:
            area = mmap.mmap(os.open(path, os.O_RDONLY), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
            folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY)
            buffer = ctypes.addressof(ctypes.c_char.from_buffer(area))
            SYS_getdents64 = {"x86_64": 217}.get(os.uname().machine, 61)
            libc.syscall(SYS_getdents64, folder, ctypes.c_void_p(buffer), 4096)
            os._exit(0)
        assert os.read(told, 1) == b"x"

    def end(self):
        # The server first: what waits for its page waits on, killed or not.
        for child in (self.server, self.holder):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

# SIGBUS is expected, and no reason to write one.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
watch, round, lock = Watch(), None, None
print(json.dumps("watching"), flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    if "begin" in ask:
        round = Round(ask)
        answer = "begun"
    elif "stop" in ask:
        answer = {"readers": round.stop(*ask["stop"]), "unheard": watch.hears(ask["gone"])}
    elif "lock" in ask:
        lock = Lock(ask["lock"])
        answer = "held"
    elif "unlock" in ask:
        lock.end()
        answer = "free"
    print(json.dumps(answer), flush=True)
