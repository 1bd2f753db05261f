"""Where a pod's processes run: one network namespace for the pod, own files for each container.

A container sees this machine's files through an overlay whose upper layer dies with it, so the
interpreter and Envoy are there without an image; its volumes, `resolv.conf` and `hosts` are
mounted where its specification says, and a read-only root is one. Its first process is the
first of a process namespace: killing it ends all that it started.
"""

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BRIDGE = "epp0"
GATEWAY = "10.244.0.1"
PREFIX = 16
# What a container must reach though its user is not root: the interpreter and this tree.
PROGRAMS = (ROOT, Path(sys.prefix), Path(sys.base_prefix))
WORKDIR = str(ROOT)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SandboxFailed(RuntimeError):
    """A namespace or mount could not be made."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of this machine and where the container sees it."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The security context of a container, as far as it is honoured here."""

    user: int | None = None
    group: int | None = None
    read_only_root: bool = False
    drop_capabilities: bool = False
    no_new_privileges: bool = False


@dataclass
class Network:
    """A pod's network namespace; it lives as long as the process that holds it."""

    address: str
    holder: asyncio.subprocess.Process

    @property
    def path(self) -> str:
        return f"/proc/{self.holder.pid}/ns/net"

    async def close(self) -> None:
        if self.holder.returncode is None:
            self.holder.kill()
        await self.holder.wait()

    async def cut(self, address: str) -> None:
        """Packets from this pod to an address go nowhere, as behind a broken link."""
        await shell(f"nsenter --net={self.path} ip route add blackhole {address}/32")

    async def mend(self, address: str) -> None:
        await shell(f"nsenter --net={self.path} ip route del blackhole {address}/32")


async def open_network(address: str, number: int) -> Network:
    """A namespace with this address on the bridge. Raises `SandboxFailed`."""
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "sh", "-c", "echo; exec sleep infinity"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    network = Network(address, holder)
    inside = f"nsenter --net={network.path}"
    await shell(
        f"ip link add veth{number} type veth peer name eth0 netns {holder.pid}",
        f"ip link set veth{number} master {BRIDGE} up",
        f"{inside} ip link set lo up",
        f"{inside} ip address add {address}/{PREFIX} dev eth0",
        f"{inside} ip link set eth0 up",
        f"{inside} ip route add default via {GATEWAY}",
    )
    return network


async def shell(*lines: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-ec", "\n".join(lines)), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise SandboxFailed(f"{said.decode().strip()}: {'; '.join(lines)}")


@dataclass
class Container:
    """A running container. `pid` is its first process as this machine numbers it."""

    process: asyncio.subprocess.Process
    env: Mapping[str, str]
    root: Path
    pid: int = 0

    def signal(self, number: int) -> None:
        """Send a signal to the first process, if there still is one."""
        if self.process.returncode is not None:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def command(self, argv: Sequence[str]) -> list[str]:
        """What runs `argv` inside, as `kubectl exec` would."""
        pid = f"/proc/{self.pid}"
        spaces = f"--net={pid}/ns/net", f"--mount={pid}/ns/mnt", f"--pid={pid}/ns/pid"
        return ["nsenter", *spaces, "chroot", str(self.root), "env", "-C", WORKDIR, *argv]


async def start_container(
    network: Network,
    folder: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    limits: Limits,
    log: Path,
    hostname: str,
    workdir: str = WORKDIR,
) -> Container:
    """Run `argv` in the pod's network and files of its own; what it prints goes to `log`."""
    root = folder / "root"
    script = "\n".join(
        [
            *root_lines(folder),
            *mount_lines(root, mounts),
            *program_lines(root, mounts),
            *last_lines(root, limits, hostname),
        ]
    )
    run = ["chroot", str(root), *privileges(limits), "env", "-C", workdir, *argv]
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net={network.path}"),
            *("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"),
            *("bash", "-ec", f"{script}\nexec {shlex.join(run)}"),
            env={"PATH": DEFAULT_PATH, "HOME": "/tmp", **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    container = Container(process, env, root)
    container.pid = await first_process(process)
    return container


async def first_process(process: asyncio.subprocess.Process) -> int:
    """The one child of `unshare`; its own number where it has died already."""
    for _ in range(200):
        if process.returncode is not None:
            break
        if children := children_of(process.pid):
            return children[0]
        await asyncio.sleep(0.005)
    return process.pid


def children_of(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def root_lines(folder: Path) -> list[str]:
    """This machine's files, writable for the container alone, with this machine's devices."""
    root = folder / "root"
    files = overlay_lines(folder) if root_is_real() else bound_lines(root)
    return [
        "mount --make-rprivate /",
        f"mkdir -p {folder / 'upper'} {folder / 'work'} {root}",
        *files,
        f"mount -t proc proc {root}/proc || mount --rbind /proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm",
        f"mount --rbind /sys {root}/sys",
        f"mount -t tmpfs -o mode=755 tmpfs {root}/run",
    ]


def overlay_lines(folder: Path) -> list[str]:
    """An overlay over all of this machine's root; folders above the programs can be passed."""
    root = folder / "root"
    layers = f"lowerdir=/,upperdir={folder / 'upper'},workdir={folder / 'work'}"
    above = {f"{root}{each}" for path in PROGRAMS for each in path.parents if on_root(each)}
    passable = " ".join(sorted(above - {f"{root}/"}))
    return [f"mount -t overlay overlay -o {layers} {root}", f"chmod o+x {passable} {root}"]


def bound_lines(root: Path) -> list[str]:
    """Each folder of this machine's root bound in, and a copy of /etc.

    In a user namespace nothing may lie over a root that has mounts of its own below it.
    """
    special = "proc|sys|dev|run|etc"
    return [
        f"mount -t tmpfs -o mode=755 tmpfs {root}",
        "for each in /*; do",
        f'  if [ -L "$each" ]; then cp -P "$each" {root}/; continue; fi',
        f'  [ -d "$each" ] || continue; mkdir {root}"$each"',
        f'  case "$each" in /{special.replace("|", "|/")}) ;;',
        f'  *) mount --rbind "$each" {root}"$each" ;; esac',
        "done",
        f"cp -a /etc/. {root}/etc 2>/dev/null || true",
    ]


def program_lines(root: Path, mounts: Sequence[Mount]) -> list[str]:
    """Programs bound in where they lie on another file system, or a volume would hide them."""
    hidden = [Path(mount.target) for mount in mounts]
    lines = []
    for program in dict.fromkeys(PROGRAMS):
        if on_root(program) and not any(program.is_relative_to(each) for each in hidden):
            continue
        lines += [f"mkdir -p {root}{program}", f"mount --rbind {program} {root}{program}"]
    return lines


def on_root(path: Path) -> bool:
    """Whether it lies on the file system of the root."""
    return path.stat().st_dev == Path("/").stat().st_dev


def mount_lines(root: Path, mounts: Sequence[Mount]) -> list[str]:
    lines = []
    for mount in sorted(mounts, key=lambda each: each.target.count("/")):
        target = shlex.quote(f"{root}{mount.target}")
        source = shlex.quote(str(mount.source))
        make = f"mkdir -p {target}"
        if mount.source.is_file():
            make = f"mkdir -p $(dirname {target}); [ -e {target} ] || touch {target}"
        lines += [make, f"mount --bind {source} {target}"]
        if mount.read_only:
            lines.append(f"mount -o remount,bind,ro {target}")
    return lines


def last_lines(root: Path, limits: Limits, hostname: str) -> list[str]:
    lines = [f"hostname {shlex.quote(hostname)}"]
    if limits.read_only_root:
        lines.append(f"mount -o remount,bind,ro {root}")
    return lines


def privileges(limits: Limits) -> list[str]:
    """`setpriv` and what it takes away; nothing where no user but root can be had."""
    words = []
    if limits.user is not None and root_is_real():
        words += [f"--reuid={limits.user}", "--clear-groups"]
        words += [f"--regid={limits.group if limits.group is not None else limits.user}"]
    if limits.drop_capabilities:
        words += ["--inh-caps=-all", "--bounding-set=-all"]
    if limits.no_new_privileges:
        words.append("--no-new-privs")
    return ["setpriv", *words] if words else []


def root_is_real() -> bool:
    """False in a user namespace, where root is the one user there is."""
    return Path("/proc/self/uid_map").read_text().split()[2] == "4294967295"
