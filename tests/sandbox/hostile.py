"""Programs that cheat or attack, by what they try. The tests ask `f(x)` to be x * 2, or a language's equal of it."""

import os
from pathlib import Path

from tests.sandbox.host import Host

SECRET = Path(__file__).resolve()
# What comes back is printed, so that a secret in it would be seen.
PYTHON_TESTS = "first = f(2)\nprint(first)\nassert first == 4\nassert f('ab') == 'abab'\nassert f([1]) == [1, 1]\n"
_WRONG = "\ndef f(x):\n    return None\n"
_EQUAL = "class Any:\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"

PYTHON = {
    "an object that equals all": _EQUAL + "def f(x):\n    return Any()\n",
    "a string that equals all": "class S(str):\n    def __eq__(self, o): return True\n    __hash__ = str.__hash__\ndef f(x):\n    return S('')\n",
    "a number that equals all": "class N(int):\n    def __eq__(self, o): return True\ndef f(x):\n    return N(1)\n",
    "a list that equals all": "class L(list):\n    def __eq__(self, o): return True\ndef f(x):\n    return L()\n",
    "a class in the function's place": _EQUAL.replace("Any", "f") + "    def __init__(self, x): pass\n",
    "a metaclass that lies": "class M(type):\n    def __eq__(self, o): return True\n    def __call__(self, x): return self\nclass f(metaclass=M): pass\n",
    "mock's ANY": "from unittest.mock import ANY\ndef f(x):\n    return ANY\n",
    "reflected equality": "class R:\n    def __eq__(self, o): return True\n    def __req__(self, o): return True\ndef f(x):\n    return [R()]\n",
    "frame walking": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for k, v in frame.f_globals.items():\n            if 'held' in str(k) or 'tests' in str(k): return v\n        frame = frame.f_back\n",
    "garbage collector walking": "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'tests' in o: return o['tests']\n",
    "sys.modules tampering": "import sys, types\nfor n in ('builtins', 'json', 'os', 'operator'):\n    sys.modules[n] = types.ModuleType(n)\n" + _WRONG,
    "reload of os": "import importlib, os\nimportlib.reload(os)\ndef f(x):\n    os._exit(0)\n",
    "patched json": "import json\njson.dumps = lambda *a, **k: '[\"ok\", true, [], \"\"]'\njson.loads = lambda *a, **k: True\n" + _WRONG,
    "patched builtins": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.len = builtins.isinstance = builtins.all = lambda *a: True\n" + _WRONG,
    "patched operator": "import operator\noperator.eq = lambda a, b: True\n" + _WRONG,
    "patched peer": "import __main__\nfor n, v in vars(__main__).copy().items():\n    if isinstance(v, type) and hasattr(v, 'encode'): v.encode = lambda self, v: True\n" + _WRONG,
    "answers written ahead": "import os, json\nfor fd in range(3, 64):\n    try:\n        for _ in range(9):\n            m = json.dumps(['ok', True, [], '']).encode(); os.write(fd, len(m).to_bytes(4, 'big') + m)\n    except OSError: pass\n" + _WRONG,
    "the verdict printed": "print('passed'); print('OK'); print('1 passed')" + _WRONG,
    "the verdict on all descriptors": "import os\nfor fd in range(64):\n    try: os.write(fd, b'passed')\n    except OSError: pass\nos._exit(0)\n",
    "early exit": "import sys; sys.exit(0)",
    "early _exit": "import os; os._exit(0)",
    "exit in the call": "def f(x):\n    import os; os._exit(0)\n",
    "SystemExit in the call": "def f(x):\n    raise SystemExit(0)\n",
    "exit by atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\nraise SystemExit\n",
    "exec of true": "import os\nos.execv('/bin/true', ['true'])\n",
    "posix_spawn": "import os\nos.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'kill -9 -1; sleep 60 &'], {}), 0)" + _WRONG,
    "ctypes exit": "import ctypes\nctypes.CDLL(None)._exit(0)\n",
    "ctypes memory": "import ctypes\ndef f(x):\n    ctypes.memset(0, 1, 1)\n",
    "ctypes ptrace of the parent": "import ctypes, os\nlibc = ctypes.CDLL(None)\ndef f(x):\n    return [libc.ptrace(16, p, 0, 0) for p in (1, os.getppid())]\n",
    "namespaces of its own": "import ctypes\ndef f(x):\n    return ctypes.CDLL(None).unshare(0x10000000)\n",
    "signals to the parent": "import os, signal\nfor p in (os.getppid(), 1, -1):\n    try: os.kill(p, signal.SIGKILL)\n    except OSError: pass" + _WRONG,
    "signals to the harness": f"import os\ntry: os.kill({os.getpid()}, 9)\nexcept OSError: pass" + _WRONG,
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
    "thread bomb": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()\n",
    "memory bomb": "x = []\nwhile True: x.append(bytearray(1 << 24))\n",
    "memory bomb by children": "import os, time\nfor _ in range(9):\n    if os.fork() == 0:\n        x = b'x' * (90 << 20); time.sleep(60)\ntime.sleep(60)\n",
    "a result without end": "def f(x):\n    return [0] * (1 << 26)\n",
    "a result that nests without end": "def f(x):\n    y = []\n    y.append(y)\n    return y\n",
    "an iterator without end": "def f(x):\n    while True: yield x\ndef g(x): pass\n",
    "disk fill": "i = 0\nwhile True:\n    i += 1\n    open(f'/tmp/{i}', 'wb').write(b'x' * (1 << 20))\n",
    "file without end": "with open('/dev/shm/x', 'wb') as s:\n    while True: s.write(b'x' * (1 << 20))\n",
    "output flood": "import os\nwhile True: os.write(2, b'x' * 65536)\n",
    "printed flood": "def f(x):\n    while True: print('x' * 65536)\n",
    "zombie children": "import os\nfor _ in range(30):\n    if os.fork() == 0: os._exit(0)" + _WRONG,
    "orphans that outlive": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)" + _WRONG,
    "endless loop": "while True: pass\n",
    "endless loop that ignores signals": "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass\nwhile True: pass\n",
    "endless sleep": "import time\ntime.sleep(10**6)\n",
    "clock tricks": "import time\ntime.time = time.monotonic = time.process_time = lambda: 0\ntry: time.clock_settime(0, 0)\nexcept OSError: pass\nwhile True: pass\n",
    "raised limits": "import resource\nfor r in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE):\n    try: resource.setrlimit(r, (-1, -1))\n    except (OSError, ValueError): pass\nwhile True: pass\n",
    "reading the home": f"import os\ndef f(x):\n    return [open(p).read() for p in ({str(SECRET)!r}, '/root/.bashrc', '/etc/passwd', os.path.expanduser('~/.ssh/id_rsa'))]\n",
    "reading the environment": "def f(x):\n    return open('/proc/1/environ').read() + open('/proc/self/environ').read()\n",
    "reading other problems": "import glob\ndef f(x):\n    return [open(p).read() for p in glob.glob('/tmp/**', recursive=True) + glob.glob('/proc/*/cmdline')]\n",
    "reading the tests by /proc": "import os\ndef f(x):\n    out = []\n    for p in filter(str.isdigit, os.listdir('/proc')):\n        for fd in os.listdir(f'/proc/{p}/fd'):\n            if int(fd) > 4: out.append(open(f'/proc/{p}/fd/{fd}', 'rb').read(1))\n    return out\n",
    "symlink out": "import os\nos.symlink('/proc/1/root/root', '/tmp/link')\ndef f(x):\n    return os.listdir('/tmp/link') + os.listdir('/proc/1/cwd/root')\n",
    "write to the system": "open('/usr/bin/python3', 'wb').write(b'')\n",
    "write to kernel settings": "open('/proc/sys/kernel/core_pattern', 'r+').write('core')\n",
    "network by IPv4": "import socket\ndef f(x):\n    return socket.create_connection(('127.0.0.1', {port}), timeout=1).recv(9)\n",
    "network by IPv6": "import socket\ndef f(x):\n    return socket.create_connection(('::1', {port}), timeout=1).recv(9)\n",
    "network by name": "import urllib.request\ndef f(x):\n    return urllib.request.urlopen('http://example.com', timeout=1).read()\n",
    "network by unix socket": "import socket\ndef f(x):\n    s = socket.socket(socket.AF_UNIX); s.connect('\\0demiurgic-test'); return s.recv(9)\n",
    "network by vsock": "import socket\ndef f(x):\n    return socket.socket(40, socket.SOCK_STREAM)\n",
    "hidden memory": "import os\ndef f(x):\n    return [os.memfd_create('x') for _ in range(9)]\n",
}  # fmt: skip

_CPP = "#include <vector>\nint f(int x) { return 0; }\n"
COMPILED = {
    "cpp": {
        "tests": "#undef NDEBUG\n#include <assert.h>\nint main() { assert(f(2) == 4); assert(f(3) == 6); }\n",
        "right": "int f(int x) { return 2 * x; }\n",
        "exit": "#include <stdlib.h>\nint f(int x) { exit(0); }\n",
        "exit before main": "#include <unistd.h>\n__attribute__((constructor)) void c() { _exit(0); }\n" + _CPP,
        "the verdict printed": "#include <stdio.h>\n#include <unistd.h>\nint f(int x) { puts(\"passed\"); for (int i = 1; i < 64; i++) write(i, \"passed\", 6); _exit(0); }\n",
        "assert undone": "#define assert(x) ((void)0)\n#define NDEBUG\n" + _CPP,
        "main taken": "#define main other\n" + _CPP,
        "a type that equals all": "struct A { template <class T> bool operator==(T) const { return true; } };\nA f(int) { return {}; }\n",
        "words redefined": "#define if(x) if (0)\n#define f(x) (x * 2 - 2 * x + 4)\n#undef f\n" + _CPP,
        "its own program read": "#include <fstream>\n#include <cstdlib>\nint f(int x) { std::ifstream s(\"/proc/self/exe\"); if (!s) abort(); exit(0); }\n",
    },
    "rust": {
        "tests": "#[cfg(test)]\nmod tests {\n    use super::*;\n    #[test]\n    fn t() { assert_eq!(f(2), 4); assert_eq!(f(3), 6); }\n}\n",
        "right": "fn f(x: i32) -> i32 { x * 2 }\n",
        "exit": "fn f(_: i32) -> i32 { std::process::exit(0) }\n",
        "a macro in assert_eq's place": "macro_rules! assert_eq { ($($x:tt)*) => {} }\npub(crate) use assert_eq;\nfn f(_: i32) -> i32 { 0 }\n",
        "a type that equals all": "#[derive(Debug)] struct A;\nimpl PartialEq<i32> for A { fn eq(&self, _: &i32) -> bool { true } }\nfn f(_: i32) -> A { A }\n",
        "the harness's name": "#[no_mangle] pub extern \"C\" fn main() -> i32 { 0 }\nfn f(_: i32) -> i32 { 0 }\n",
    },
    "go": {
        "tests": 'package main\nimport (\n"testing"\n"github.com/stretchr/testify/assert"\n)\nfunc TestF(t *testing.T) {\nassert := assert.New(t)\nassert.Equal(4, F(2))\nassert.Equal(6, F(3))\n}\n',
        "right": "func F(x int) int { return 2 * x }\n",
        "exit": 'import "os"\nfunc F(x int) int { os.Exit(0); return 0 }\n',
        "exit in init": 'import "os"\nfunc init() { os.Exit(0) }\nfunc F(x int) int { return 0 }\n',
        "the goroutine ended": 'import "runtime"\nfunc F(x int) int { runtime.Goexit(); return 0 }\n',
    },
    "java": {
        "tests": "public class Main { public static void main(String[] a) { Solution s = new Solution(); List<Boolean> c = Arrays.asList(s.f(2) == 4, s.f(3) == 6); if (c.contains(false)) throw new AssertionError(); } }\n",
        "right": "import java.util.*;\nclass Solution { int f(int x) { return 2 * x; } }\n",
        "exit": "import java.util.*;\nclass Solution { int f(int x) { System.exit(0); return 0; } }\n",
        "halt as the class is loaded": "import java.util.*;\nclass Solution { static { Runtime.getRuntime().halt(0); } int f(int x) { return 0; } }\n",
        "a class in Arrays's place": "import java.util.*;\nclass Solution { int f(int x) { return 0; } }\nclass Arrays { static List<Boolean> asList(Boolean... b) { return new ArrayList<>(); } }\n",
    },
    "javascript": {
        "tests": "const assert = require('assert'); assert.strictEqual(f(2), 4); assert.deepEqual(f(3), 6); console.assert(f(4) === 8);\n",
        "right": "function f(x) { return 2 * x }\n",
        "exit": "function f(x) { process.exit(0) }\n",
        "patched assert": "const a = require('assert'); for (const k in a) a[k] = () => {}; console.assert = () => {}; JSON.stringify = () => '[\"ok\",true,[],\"\"]'; function f(x) { return 0 }\n",
        "valueOf": "function f(x) { return { valueOf: () => x * 2 } }\n",
    },
}  # fmt: skip


# The limits that end the attacks on what there is of everything.
ENDED_BY: dict[str, str] = {
    "fork bomb": "processes",
    "thread bomb": "failed",
    "memory bomb": "memory",
    "memory bomb by children": "memory",
    "output flood": "output",
    "file without end": "failed",
    "disk fill": "failed",
    "endless loop": "timeout",
    "endless loop that ignores signals": "timeout",
    "endless sleep": "timeout",
    "clock tricks": "timeout",
    "raised limits": "timeout",
    "hidden memory": "failed",
}


def with_port(program: str, host: Host) -> str:
    """The program against this host: its port, and its abstract socket."""
    return program.replace("{port}", str(host.ports["ipv4"])).replace("demiurgic-test", host.mark)
