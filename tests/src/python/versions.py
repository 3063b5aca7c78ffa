# Reads a secret over its rotations: what /usr/bin/python3 runs as the service. Each line of input is
# VERSION SIZE of what the name leads to now; the answer is "right", or what is wrong. With a seed
# and a path as arguments.
import mmap, os, random, resource, sys

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
seed, path = int(sys.argv[1]), sys.argv[2]
chance = random.Random(seed)

def content(version, size):
    lines = (f"{seed % 65536:04x}{version:06}{line:05};" for line in range(size // 16 + 1))
    return "".join(lines).encode()[:size]

# By several read(2) calls of a size of its own.
def rest_of(fd, size):
    parts, at_once = [], chance.randrange(1000, 300_000)
    while part := os.read(fd, min(at_once, size)):
        parts.append(part)
    return b"".join(parts)

# Another process reads on and on, and meets rotations in between; it ends with the first mistake.
def read_for_ever(tell):
    while True:
        fd = os.open(path, os.O_RDONLY)
        size = os.fstat(fd).st_size
        got = rest_of(fd, 1 << 20)
        os.close(fd)
        if got != content(int(got[4:10]), size):
            os.write(tell, f"{len(got)} bytes from version {got[4:10]}, of no one version\n".encode())
            os._exit(1)

told, tell = os.pipe()
os.set_blocking(told, False)
child = os.fork()
if child == 0:
    try:
        read_for_ever(tell)
    except BaseException as e:
        os.write(tell, f"{e!r}\n".encode())
    os._exit(1)

class Held:
    def __init__(self, version, size):
        self.version, self.right = version, content(version, size)
        self.fd = os.open(path, os.O_RDONLY)
        self.start = os.read(self.fd, chance.randrange(1, size))
        self.area = mmap.mmap(self.fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)

    # The rest of it is read long after its start.
    def mistakes(self, last):
        if os.pread(self.fd, 1 << 21, 0) != self.right or os.fstat(self.fd).st_size != len(self.right):
            return f"a descriptor of version {self.version} changed"
        if self.area[:] != self.right:
            return f"a mapping of version {self.version} changed"
        if last:
            if self.start + rest_of(self.fd, 1 << 20) != self.right:
                return f"version {self.version} is not whole over two reads"
            self.area.close()
            os.close(self.fd)

held = []
print("ready", flush=True)
for line in sys.stdin:
    version, size = map(int, line.split())
    held.append(Held(version, size))
    fd = os.open(path, os.O_RDONLY)
    wrong = [] if rest_of(fd, 1 << 20) == held[-1].right else [f"the name does not lead to version {version}"]
    os.close(fd)
    last = held.pop(0) if len(held) > 12 else None
    wrong += filter(None, [one.mistakes(False) for one in held] + [last and last.mistakes(True)])
    try:
        wrong.append(os.read(told, 4096).decode())
    except BlockingIOError:
        pass
    print("; ".join(wrong) or "right", flush=True)
os.kill(child, 9)
os.waitpid(child, 0)
