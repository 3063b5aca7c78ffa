# An instance of the reference test: what /usr/bin/python3 runs as the service. Each line of input is
# a JSON list, a verb and its words; the answer is a JSON value: {"bytes": ...}, {"errno": ...},
# {"signal": ...}, {"names": ...} or null.
import ctypes, errno, json, mmap, os, resource, signal, struct, sys, time

FOLDER = "/secret"
libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
things = {}
heard = []
watch = None

def number():
    return max(things, default=0) + 1

# Does it in a child, which a signal may end.
def forked(call):
    out, to = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(to, json.dumps(answer_of(call)).encode())
        finally:
            os._exit(0)
    os.close(to)
    told = b"".join(iter(lambda: os.read(out, 65536), b""))
    os.close(out)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return {"signal": signal.Signals(os.WTERMSIG(status)).name}
    return json.loads(told)

def answer_of(call):
    try:
        return {"bytes": call().decode()}
    except OSError as e:
        return {"errno": errno.errorcode[e.errno]}

def whole(path):
    with open(path, "rb") as file:
        return file.read()

def hear():
    try:
        data = os.read(watch, 65536)
    except BlockingIOError:
        return
    while data:
        _, mask, _, n = struct.unpack("iIII", data[:16])
        name = data[16:16 + n].rstrip(b"\0").decode()
        data = data[16 + n:]
        heard.extend([name, what] for bit, what in [(8, "written"), (0x200, "deleted")] if mask & bit)

def act(verb, *words):
    global watch
    if verb == "read":
        return answer_of(lambda: whole(f"{FOLDER}/{words[0]}"))
    if verb == "open":
        things[number()] = os.open(f"{FOLDER}/{words[0]}", os.O_RDONLY)
    elif verb == "map":
        fd = os.open(f"{FOLDER}/{words[0]}", os.O_RDONLY)
        things[number()] = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        os.close(fd)
    elif verb == "look":
        thing = things[words[0]]
        if isinstance(thing, int):
            return answer_of(lambda: os.pread(thing, 65536, 0))
        return forked(lambda: thing[:])
    elif verb == "fork":
        thing = things[words[0]]
        return forked(lambda: os.pread(thing, 65536, 0) if isinstance(thing, int) else thing[:])
    elif verb == "close":
        thing = things.pop(words[0])
        os.close(thing) if isinstance(thing, int) else thing.close()
    elif verb == "list":
        return {"names": sorted(os.listdir(FOLDER))}
    elif verb == "watch":
        if watch is not None:
            os.close(watch)
        watch = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if libc.inotify_add_watch(watch, FOLDER.encode(), 8 | 0x200) < 0:
            raise OSError(ctypes.get_errno(), FOLDER)
        heard.clear()
    elif verb == "hear":
        event, end = list(words), time.monotonic() + 5
        while event not in heard and time.monotonic() < end:
            hear()
            time.sleep(0.0005)
        result = event in heard
        heard.clear()
        return result
    return None

for line in sys.stdin:
    try:
        answer = act(*json.loads(line))
    except OSError as e:
        answer = {"errno": errno.errorcode[e.errno]}
    print(json.dumps(answer), flush=True)
