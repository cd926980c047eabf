"""The walls of a run: what its process does to itself before the program begins.

Every step is a system call that the parent has prepared, once for all its runs of a kind. A child
that only makes calls is quicker than one that puts them together, and copies less of the memory
that it has in common with its parent.
"""

import base64
import ctypes
import os
import resource

from .confine import CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWUTS, check, libc

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC = 2, 4, 8, 4096, 16384
_BIND_ALL = ctypes.c_ulong(_MS_BIND | _MS_REC)
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY = 1
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522

# What a program could change or learn about the whole machine through /proc.
_PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")
_PROC_HIDDEN = ("kcore", "keys", "timer_list", "latency_stats", "kmsg")


class Walls:
    """`run`: a request to prepare a child, see `Wish` in seat.rs."""

    def __init__(self, run):
        self._privileges = [_limit(name, value) for name, value in run["rlimits"].items()]
        if run["sandbox"]:
            self._scratch = run["scratch"]
            self._local_dir = run["local_dir"]
            self._private_mounts = run["private_mounts"]
            self._namespaces = _namespaces()
            folders = {"/tmp": 0o1777, "/var/tmp": 0o1777, "/run": 0o1777, "/dev/shm": 0o1777, run["home"]: 0o700}
            self._fresh = _fresh(folders, run["tmp_bytes"])
            self._kept = [_Kept(path, folder) for path in run["keep"] for folder in folders if path.startswith(f"{folder}/")]
            # The root itself is shared with the runs that fork from the same parent.
            self._root = [_read_only("/", recursive=False)]
            self._privileges += _no_capabilities()
        self._privileges.append(("prctl(no_new_privs)", libc.prctl, (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
        if run.get("seccomp"):
            self._privileges.append(_filter(base64.b64decode(run["seccomp"])))

    def enter_namespaces(self):
        """Gives the calling process mounts of its own and a `/proc` that shows its own namespace."""
        _make(self._namespaces)

    def enter_run(self, folder, private):
        """After `enter_namespaces`: from here on only this run's files can change. `folder` is the name of
        its own in the scratch folder, `private` that of its folders in private mounts, if it is known."""
        own = [_bind(f"{self._scratch}/{folder}", self._local_dir), _hide(self._scratch)]
        for path in self._private_mounts:
            # Over the folders of all runs, so that only what is in this one is left to see.
            own.append(_bind(f"{path}/{private}", path) if private else _hide(path))
        _make(own)
        for kept in self._kept:
            kept.open()
        _make(self._fresh)
        for kept in self._kept:
            kept.mount()
        _make(self._root)

    def give_up_privileges(self):
        """No way back: no capabilities, none to gain by exec, a system call filter, limits."""
        _make(self._privileges)


def _make(calls):
    for doing, function, arguments in calls:
        check(function(*arguments), doing)


def _mount(source, target, kind, flags, data=None):
    arguments = (
        os.fsencode(source),
        os.fsencode(target),
        kind and kind.encode(),
        ctypes.c_ulong(flags),
        data and data.encode(),
    )
    return f"mount {target}", libc.mount, arguments


def _bind(source, target, flags=0):
    return _mount(source, target, None, _MS_BIND | flags)


def _hide(path):
    return f"hide {path}", libc.umount2, (os.fsencode(path), _MNT_DETACH)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _read_only(path, recursive):
    attr = _MountAttr(set=_MOUNT_ATTR_RDONLY)
    flags = _AT_RECURSIVE if recursive else 0
    arguments = (_SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), flags, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)))
    return f"make {path} read-only", libc.syscall, arguments


def _namespaces():
    calls = [
        ("unshare", libc.unshare, (CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS,)),
        _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC),
    ]
    for path in (f"/proc/{name}" for name in _PROC_READ_ONLY):
        if os.path.exists(path):
            calls += [_bind(path, path, _MS_REC), _read_only(path, recursive=True)]
    return calls + [_bind("/dev/null", f"/proc/{name}") for name in _PROC_HIDDEN if os.path.exists(f"/proc/{name}")]


def _fresh(folders, size):
    """Empty folders in memory, with these modes.

    One file system for all of them: another for each costs more than all else that is mounted."""
    first = next(iter(folders))
    calls = [_mount("tmpfs", first, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size},mode=755")]
    for name, (folder, mode) in enumerate(folders.items()):
        path = os.fsencode(f"{first}/{name}")
        calls += [(f"make {folder}", libc.mkdir, (path, mode)), (f"open {folder}", libc.chmod, (path, mode))]
    # The first hides where the others come from, so it comes last.
    return calls + [_bind(f"{first}/{name}", folder) for name, folder in reversed(list(enumerate(folders)))]


class _Kept:
    """What the run needs of a folder that gets empty: a file or folder at its old place."""

    def __init__(self, path, folder):
        self._path = os.fsencode(path)
        self._doing = f"keep {path}"
        self._is_folder = os.path.isdir(path)
        # From the empty folder down to it; some may be there for another one.
        steps = path[len(folder) + 1 :].split("/")
        self._way = [os.fsencode("/".join([folder, *steps[:count]])) for count in range(1, len(steps))]

    def open(self):
        self._fd = os.open(self._path, os.O_PATH)

    def mount(self):
        for folder in self._way:
            libc.mkdir(folder, 0o755)
        if self._is_folder:
            libc.mkdir(self._path, 0o755)
        else:
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o644))
        check(libc.mount(b"/proc/self/fd/%d" % self._fd, self._path, None, _BIND_ALL, None), self._doing)
        os.close(self._fd)


def _limit(name, value):
    kind = getattr(resource, f"RLIMIT_{name}")
    most = resource.getrlimit(kind)[1]
    wanted = value if isinstance(value, list) else [value, value]
    if most != resource.RLIM_INFINITY:
        wanted = [min(one, most) for one in wanted]
    return f"limit {name}", resource.setrlimit, (kind, tuple(wanted))


def _no_capabilities():
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    return [
        ("prctl(ambient)", libc.prctl, (_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)),
        ("capset", libc.capset, (header, none)),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _filter(bpf):
    program = _Program(len(bpf) // 8, bpf)
    return "prctl(seccomp)", libc.prctl, (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
