"""Programs that attack the host they are told of (see host.Host.told), and say GOT where they got through.

Each is run in the sandbox, where nothing may come of it, and, where that does no harm, outside of it, where it must
get through: an attack that never could would prove nothing.
"""

import platform

_PRELUDE = """
import ctypes, glob, json, os, re, signal, socket, struct, subprocess, sys, time
host = json.loads(sys.stdin.read())
libc = ctypes.CDLL(None, use_errno=True)
pid, mark, folders, secrets = host["pid"], host["mark"], host["folders"], host["secrets"]
X86 = os.uname().machine == "x86_64"
def call(numbers, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(numbers[0 if X86 else 1]), *map(ctypes.c_long, arguments))
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def address(buffer): return ctypes.addressof(buffer)
def attempt(action):
    try: return action()
    except (OSError, ValueError, AttributeError) as error: print("refused:", error)
"""


def python_attack(body: str) -> str:
    """A whole program: it says DONE where it was carried out to its end."""
    lines = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
    return (
        f"{_PRELUDE}try:\n{lines}except (OSError, ValueError) as error:\n    print('refused:', error)\nprint('DONE')\n"
    )


# With these anybody who is not in a sandbox gets through. Every one is harmless there.
READING = {
    "files by their path": "for path in secrets: print(open(path).read())",
    "the folder of a file": "for path in secrets:\n    for each in os.scandir(os.path.dirname(path)):\n        if each.name.startswith(mark) or each.name == 'secret': print(open(each.path).read())",
    "a link made to a file": "os.symlink(secrets[0], 'link')\nprint(open('link').read())",
    "a link made by another process": "subprocess.run(['/bin/ln', '-s', secrets[0], 'link2'])\nprint(subprocess.run(['/bin/cat', 'link2'], capture_output=True, text=True).stdout)",
    "the root of its own /proc": "for n in (1, os.getppid(), 'self', 'thread-self'): attempt(lambda: print(open(f'/proc/{n}/root{secrets[0]}').read()))",
    "another process's root and folder": "attempt(lambda: print(open(f'/proc/{pid}/root{secrets[0]}').read()))\nprint(open(f'/proc/{pid}/cwd/secret').read())",
    "another process's descriptor": "print(open(f'/proc/{pid}/fd/{host[\"descriptor\"]}').read())",
    "another process's environment": "print(open(f'/proc/{pid}/environ').read())",
    "everybody's environment": "for path in glob.glob('/proc/[0-9]*/environ'):\n    attempt(lambda: print(re.findall('DEMIURGIC_TEST_KEY=[^\\0]*', open(path, errors='replace').read())))",
    "everybody's command line": "for path in glob.glob('/proc/[0-9]*/cmdline'):\n    attempt(lambda: print(re.findall('canary-[^\\0]*', open(path, errors='replace').read())))",
    "another process's memory": "for line in open(f'/proc/{pid}/maps'):\n    if not re.search('heap|stack', line): continue\n    begin, end = (int(each, 16) for each in line.split()[0].split('-'))\n    file = open(f'/proc/{pid}/mem', 'rb'); file.seek(begin)\n    print(re.findall(b'canary-[0-9a-f]+', file.read(end - begin)))",
    "another process's memory by process_vm_readv": "line = [each for each in open(f'/proc/{pid}/maps') if 'stack' in each][0] if os.path.exists(f'/proc/{pid}/maps') else '0-1000'\nbegin, end = (int(each, 16) for each in line.split()[0].split('-'))\nbuffer = ctypes.create_string_buffer(end - begin)\nhere, there = (ctypes.create_string_buffer(struct.pack('QQ', each, end - begin)) for each in (address(buffer), begin))\ncall((310, 270), pid, address(here), 1, address(there), 1, 0)\nprint(re.findall(b'canary-[0-9a-f]+', buffer.raw))",
    "a descriptor taken by pidfd_getfd": "taken = call((438, 438), os.pidfd_open(pid), host['descriptor'], 0)\nprint(os.pread(taken, 99, 0))",
    "the passwords' file": "print('GOT', open('/etc/passwd').read())",
    "the machine's name": "if socket.gethostname() != 'sandbox': print('GOT', socket.gethostname())",
    "the machine's devices and buses": "print('GOT', os.listdir('/sys'))",
    "a sandbox that is not locked": "status = open('/proc/self/status').read()\nif 'NoNewPrivs:\\t0' in status or 'Seccomp:\\t0' in status: print('GOT')",
    "other users' processes": "print('GOT') if os.path.exists(f'/proc/{pid}') else print('refused')",
}  # fmt: skip
REACHING = {
    "a connection by IPv4": "print(socket.create_connection(('127.0.0.1', host['ports']['ipv4']), 2).recv(99))",
    "a connection by IPv6": "if 'ipv6' in host['ports']: print(socket.create_connection(('::1', host['ports']['ipv6']), 2).recv(99))",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', host['ports']['udp']))\ntime.sleep(0.3)",
    "a connection from another process": "subprocess.run([sys.executable, '-c', f'import socket; print(socket.create_connection((\"127.0.0.1\", {host[\"ports\"][\"ipv4\"]}), 2).recv(99))'])",
    "a unix socket by path": "s = socket.socket(socket.AF_UNIX); s.connect(host['socket']); print(s.recv(99))",
    "a unix socket past the root": "s = socket.socket(socket.AF_UNIX); s.connect(f'/proc/{pid}/cwd/socket'); print(s.recv(99))",
    "an abstract unix socket": "s = socket.socket(socket.AF_UNIX); s.connect('\\0' + mark); print(s.recv(99))",
    "files left everywhere": "for folder in folders: attempt(lambda: open(os.path.join(folder, mark), 'w').write('x'))",
    "files left through another's root": "for folder in folders: attempt(lambda: open(f'/proc/{pid}/root/{folder}/{mark}', 'w').write('x'))",
    "a file changed": "for path in secrets: attempt(lambda: open(path, 'a').write('x'))",
    "a file taken away": "for path in secrets: attempt(lambda: os.unlink(path))",
    "a signal to a process": "os.kill(pid, signal.SIGURG); print('GOT')",
    "a signal by pidfd": "signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGURG); print('GOT')",
    "a seized process": "call((101, 117), 0x4206, pid, 0, 0); print('GOT')",
    "another's limits": "import resource; print('GOT', resource.prlimit(pid, resource.RLIMIT_NOFILE))",
    "memory files": "print('GOT', call((319, 279), address(ctypes.create_string_buffer(b'x')), 0))",
    "memory that outlives": "segment = call((29, 194), 0, 4096, 0o1600); call((31, 195), segment, 0, 0); print('GOT')",
    "a new user namespace": "call((272, 97), 0x10000000); print('GOT')",
    "a new namespace by clone": "child = call((56, 220), 0x10000000 | 17, 0, 0, 0, 0)\nif child == 0: os._exit(0)\nos.waitpid(child, 0); print('GOT')",
}  # fmt: skip
# As above for root; others are stopped by what the system allows them.
AS_ROOT = {
    "another's namespaces": "call((308, 268), os.open(f'/proc/{pid}/ns/net', os.O_RDONLY), 0); print('GOT')",
    "another root folder": "os.chroot('/usr'); print('GOT')",
    "root's rights": "os.setuid(0); print('GOT')",
    "capabilities": "if not re.search('CapEff:\\t0+\\n[^\\0]*CapBnd:\\t0+\\n', open('/proc/self/status').read()): print('GOT')",
    "a device of the disk": "os.mknod(mark, 0o60600, os.makedev(8, 0)); os.unlink(mark); print('GOT')",
    "raw packets": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print('GOT')",
    "the kernel's settings": "path = '/proc/sys/kernel/core_pattern'; text = open(path).read(); open(path, 'w').write(text); print('GOT')",
    "the kernel's messages": "print('GOT', call((103, 116), 10, 0, 0))",
    "the system's programs": "open('/usr/bin/env', 'r+b'); print('GOT')",
    "real-time priority": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); print('GOT')",
    "more priority": "os.nice(-5); print('GOT')",
    "the clock": "time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME)); print('GOT')",
    "watching all files": "call((300, 262), 0, 0); print('GOT')",
}  # fmt: skip
# Never run outside: with root's rights they would do what they say, or this kernel lacks them.
CONTAINED_ONLY = {
    "the kernel's emergency key": "open('/proc/sysrq-trigger', 'w'); print('GOT')",
    "signals to everybody": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nfor each in (-1, 1, os.getppid()): attempt(lambda: os.kill(each, signal.SIGTERM))",
    "a mounted file system": "call((165, 40), 0, address(ctypes.create_string_buffer(b'/tmp')), address(ctypes.create_string_buffer(b'tmpfs')), 0, 0); print('GOT')",
    "mounts by the newer calls": "for numbers in ((428, 428), (429, 429), (430, 430), (432, 432), (442, 442)): attempt(lambda: print('GOT', call(numbers, 0, 0, 0, 0, 0)))",
    "the root turned": "call((155, 41), address(ctypes.create_string_buffer(b'/tmp')), address(ctypes.create_string_buffer(b'/tmp'))); print('GOT')",
    "an unmounted file system": "call((166, 39), address(ctypes.create_string_buffer(b'/proc')), 2); print('GOT')",
    "the key ring": "call((248, 217), *map(address, map(ctypes.create_string_buffer, (b'user', b'x', b'y'))), 1, -4); print('GOT')",
    "keys of others": "call((250, 219), 0, -4, 1); print('GOT')",
    "programs for the kernel": "call((321, 280), 0, address(ctypes.create_string_buffer(struct.pack('IIII', 2, 4, 4, 1) + bytes(112))), 128); print('GOT')",
    "performance counters": "call((298, 241), address(ctypes.create_string_buffer(struct.pack('II', 1, 112) + bytes(104))), 0, -1, -1, 0); print('GOT')",
    "faults handled here": "call((323, 282), 1); print('GOT')",
    "rings of system calls": "call((425, 425), 1, address(ctypes.create_string_buffer(120))); print('GOT')",
    "secret memory": "call((447, 447), 0); print('GOT')",
    "a file by its handle": "call((304, 265), -100, address(ctypes.create_string_buffer(struct.pack('Ii', 8, 1) + bytes(8))), 0); print('GOT')",
    "a kernel module": "call((313, 273), 0, address(ctypes.create_string_buffer(b'')), 0); print('GOT')",
    "a new kernel": "call((246, 104), 0, 0, 0, 0); print('GOT')",
    "a restart": "call((169, 142), 0xfee1dead, 672274793, 0x89abcdef, 0); print('GOT')",
    "swapping": "call((167, 224), address(ctypes.create_string_buffer(b'/tmp/x')), 0); print('GOT')",
    "a new namespace by clone3": "call((435, 435), address(ctypes.create_string_buffer(struct.pack('Q', 0x10000000) + bytes(80))), 88); print('GOT')",
    "the machine's own host by vsock": "socket.socket(40, socket.SOCK_STREAM).connect((2, 1024)); print('GOT')",
    "the kernel's ciphers": "socket.socket(38, socket.SOCK_SEQPACKET); print('GOT')",
    "all packets": "socket.socket(17, socket.SOCK_RAW); print('GOT')",
    "real devices": "for name in os.listdir('/dev'):\n    kind = os.stat('/dev/' + name)\n    if kind.st_mode & 0o170000 == 0o60000 or name in ('mem', 'kvm', 'kmsg', 'fuse'): print('GOT', name)",
    "system calls of another architecture": "if X86: call((0x40000000 + 39, 0), 0); print('GOT')" if platform.machine() == "x86_64" else "pass",
    "a program that keeps running": "if os.fork() == 0:\n    os.setsid()\n    for n in range(1, 65): attempt(lambda: signal.signal(n, signal.SIG_IGN))\n    if os.fork() == 0:\n        for n in range(256): attempt(lambda: os.close(n))\n        while True: time.sleep(60)\n    os._exit(0)\nos.wait()",
    "a stopped process": "child = os.fork()\nif child == 0: os.kill(os.getpid(), signal.SIGSTOP)\nos.waitpid(child, os.WUNTRACED)",
    "zombies": "for _ in range(20):\n    if os.fork() == 0: os._exit(0)",
    "a report of its own": "for n in range(3, 256): attempt(lambda: os.write(n, b'passed'))",
}  # fmt: skip

# One program in each language: it is told the secret's path, a process, a port, a file to leave and a unix socket, a
# line each, and tries them all.
OTHER_LANGUAGES = {
    "javascript": """
const fs = require('fs'), net = require('net');
const [secret, pid, port, file, path] = fs.readFileSync(0, 'utf8').split('\\n');
for (const each of [secret, `/proc/${pid}/environ`]) try { console.log(fs.readFileSync(each, 'utf8')) } catch (e) { console.log('refused') }
try { fs.writeFileSync(file, 'x') } catch (e) { console.log('refused') }
let open = 2; const end = () => { if (--open == 0) console.log('DONE') };
for (const to of [{ port: +port, host: '127.0.0.1' }, { path }]) net.connect(to).on('data', d => console.log('' + d)).on('error', () => console.log('refused')).on('close', end);
""",
    "typescript": """
const fs = require('fs'), net = require('net');
const [secret, pid, port, file, path]: string[] = fs.readFileSync(0, 'utf8').split('\\n');
for (const each of [secret, `/proc/${pid}/environ`]) try { console.log(fs.readFileSync(each, 'utf8')) } catch (e) { console.log('refused') }
try { fs.writeFileSync(file, 'x') } catch (e) { console.log('refused') }
let open: number = 2; const end = () => { if (--open == 0) console.log('DONE') };
for (const to of [{ port: +port, host: '127.0.0.1' }, { path }]) net.connect(to).on('data', (d: any) => console.log('' + d)).on('error', () => console.log('refused')).on('close', end);
""",
    "go": """
package main
import ("bufio"; "fmt"; "io"; "net"; "os")
func main() {
    var given []string
    for s := bufio.NewScanner(os.Stdin); s.Scan(); { given = append(given, s.Text()) }
    for _, each := range []string{given[0], "/proc/" + given[1] + "/environ"} {
        if data, err := os.ReadFile(each); err == nil { fmt.Println(string(data)) } else { fmt.Println("refused") }
    }
    if os.WriteFile(given[3], []byte("x"), 0600) != nil { fmt.Println("refused") }
    for _, to := range [][2]string{{"tcp", "127.0.0.1:" + given[2]}, {"unix", given[4]}} {
        c, err := net.Dial(to[0], to[1])
        if err != nil { fmt.Println("refused"); continue }
        data, _ := io.ReadAll(c)
        fmt.Println(string(data))
    }
    fmt.Println("DONE")
}
""",
    "rust": """
use std::{fs, io::{self, Read}, net::TcpStream, os::unix::net::UnixStream};
fn tell(from: io::Result<impl Read>) {
    let mut text = String::new();
    match from { Ok(mut s) => { let _ = s.read_to_string(&mut text); println!("{text}") } Err(_) => println!("refused") }
}
fn main() {
    let given: Vec<String> = io::stdin().lines().map(|l| l.unwrap()).collect();
    tell(fs::File::open(&given[0]));
    tell(fs::File::open(format!("/proc/{}/environ", given[1])));
    if fs::write(&given[3], "x").is_err() { println!("refused") }
    tell(TcpStream::connect(format!("127.0.0.1:{}", given[2])));
    tell(UnixStream::connect(&given[4]));
    println!("DONE");
}
""",
    "java": """
import java.io.*; import java.net.*; import java.nio.channels.*; import java.nio.file.*; import java.util.*;
public class Main {
    interface From { InputStream get() throws IOException; }
    static void tell(From from) {
        try (InputStream in = from.get()) { System.out.println(new String(in.readAllBytes())); } catch (IOException e) { System.out.println("refused"); }
    }
    public static void main(String[] a) throws IOException {
        List<String> given = new BufferedReader(new InputStreamReader(System.in)).lines().toList();
        tell(() -> new FileInputStream(given.get(0)));
        tell(() -> new FileInputStream("/proc/" + given.get(1) + "/environ"));
        try { Files.writeString(Path.of(given.get(3)), "x"); } catch (IOException e) { System.out.println("refused"); }
        tell(() -> new Socket("127.0.0.1", Integer.parseInt(given.get(2))).getInputStream());
        tell(() -> Channels.newInputStream(SocketChannel.open(UnixDomainSocketAddress.of(given.get(4)))));
        System.out.println("DONE");
    }
}
""",
    "cpp": """
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
void read_from(int s) { char b[99]; ssize_t n = read(s, b, sizeof b); std::cout << (n > 0 ? std::string(b, n) : "refused") << std::endl; }
int main() {
    std::string secret, pid, port, file, path;
    std::cin >> secret >> pid >> port >> file >> path;
    for (auto each : {secret, "/proc/" + pid + "/environ"}) { std::ifstream f(each, std::ios::binary); std::stringstream s; s << f.rdbuf(); std::cout << (f ? s.str() : "refused") << std::endl; }
    if (!(std::ofstream(file) << "x")) std::cout << "refused" << std::endl;
    sockaddr_in to{}; to.sin_family = AF_INET; to.sin_port = htons(std::stoi(port)); inet_aton("127.0.0.1", &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0); connect(s, (sockaddr *)&to, sizeof to); read_from(s);
    sockaddr_un at{}; at.sun_family = AF_UNIX; strncpy(at.sun_path, path.c_str(), sizeof at.sun_path - 1);
    int u = socket(AF_UNIX, SOCK_STREAM, 0); connect(u, (sockaddr *)&at, sizeof at); read_from(u);
    std::cout << "DONE" << std::endl;
}
""",
}  # fmt: skip
