"""System calls that Python has no names for: namespaces, mounts, capabilities, seccomp."""

import base64
import ctypes
import os
import resource
import signal

_libc = ctypes.CDLL(None, use_errno=True)

_CLONE_VM = 0x00000100
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC = 2, 4, 8, 4096, 16384
_MNT_DETACH = 2
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY = 1
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 4, 22, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_LAST_CAPABILITY = 63

# What a program could change or learn about the whole machine through /proc.
_PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")
_PROC_HIDDEN = ("kcore", "keys", "timer_list", "latency_stats", "kmsg")


def _check(result, doing):
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")
    return result


def unshare(flags):
    _check(_libc.unshare(flags), "unshare")


def setns(fd, kind):
    _check(_libc.setns(fd, kind), "setns")


# One for all first processes: each puts there what the one before has put there, and waits.
_STACK = ctypes.create_string_buffer(16384)


def first_process():
    """The number of a process that does nothing, the first of a new process namespace.

    It shares the caller's memory: copying even a small interpreter's takes longer than anything
    else here. The caller must have no handlers of signals, which it would have as well."""
    pause = ctypes.cast(_libc.pause, ctypes.c_void_p)
    top = (ctypes.addressof(_STACK) + len(_STACK)) & ~15
    flags = _CLONE_VM | CLONE_NEWPID | signal.SIGCHLD
    return _check(_libc.clone(pause, ctypes.c_void_p(top), flags, None), "clone")


def become_subreaper():
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(subreaper)")


def _mount(source, target, kind, flags, data=None):
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {target}")


def open_tree(path):
    """A mount of what is at `path`, which is nowhere yet."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    return _check(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), f"open {path}")


def move_mount(tree, path):
    result = _libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, f"mount {path}")


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _read_only(path, recursive=False):
    attr = _MountAttr(set=_MOUNT_ATTR_RDONLY)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        os.fsencode(path),
        _AT_RECURSIVE if recursive else 0,
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )
    _check(result, f"make {path} read-only")


def _fresh(folders, run):
    """Empty folders in memory, with these modes, except that what the run needs of the old ones stays.

    One file system for all of them: another for each costs more than all else that is mounted."""
    inside = tuple(f"{folder}/" for folder in folders)
    kept = [(keep, os.open(keep, os.O_PATH)) for keep in run["keep"] if keep.startswith(inside)]
    first = next(iter(folders))
    _mount("tmpfs", first, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={run['tmp_bytes']},mode=755")
    for name, mode in enumerate(folders.values()):
        os.mkdir(f"{first}/{name}")
        os.chmod(f"{first}/{name}", mode)
    # The first hides where the others come from, so it comes last.
    for name, folder in reversed(list(enumerate(folders))):
        _mount(f"{first}/{name}", folder, None, _MS_BIND)
    for place, fd in kept:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.makedirs(place)
        else:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(f"/proc/self/fd/{fd}", place, None, _MS_BIND | _MS_REC)
        os.close(fd)


def enter_namespaces():
    """Gives the calling process mounts of its own and a `/proc` that shows its own namespace."""
    unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for name in _PROC_READ_ONLY:
        path = f"/proc/{name}"
        if os.path.exists(path):
            _mount(path, path, None, _MS_BIND | _MS_REC)
            _read_only(path, recursive=True)
    for name in _PROC_HIDDEN:
        path = f"/proc/{name}"
        if os.path.exists(path):
            _mount("/dev/null", path, None, _MS_BIND)


def enter_run(run):
    """After `enter_namespaces`: from here on only this run's files can change."""
    _mount(f"{run['scratch']}/{run['name']}", run["local_dir"], None, _MS_BIND)
    _check(_libc.umount2(os.fsencode(run["scratch"]), _MNT_DETACH), "hide other runs' files")
    for path in run["private_mounts"]:
        if run["private"]:
            # Over the folders of all runs, so that only what is in this one is left to see.
            _mount(f"{path}/{run['private']}", path, None, _MS_BIND)
        else:
            _check(_libc.umount2(os.fsencode(path), _MNT_DETACH), f"hide {path}")
    _fresh({"/tmp": 0o1777, "/var/tmp": 0o1777, "/run": 0o1777, "/dev/shm": 0o1777, run["home"]: 0o700}, run)
    # The root itself is shared with the runs that fork from the same parent.
    _read_only("/")


def give_up_privileges(run):
    """No way back: no capabilities, none to gain by exec, a system call filter, limits."""
    for limit, value in run["rlimits"].items():
        kind = getattr(resource, f"RLIMIT_{limit}")
        most = resource.getrlimit(kind)[1]
        wanted = value if isinstance(value, list) else [value, value]
        resource.setrlimit(kind, [one if most == resource.RLIM_INFINITY else min(one, most) for one in wanted])
    if run["sandbox"]:
        _drop_capabilities()
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(no_new_privs)")
    if run.get("seccomp"):
        _filter_system_calls(base64.b64decode(run["seccomp"]))


def drop_bounding_set():
    """No program that this process or a child of it executes gains a capability."""
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == -1:
            break  # Beyond the last one that this kernel knows.


def _drop_capabilities():
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _check(_libc.capset(version_3, (ctypes.c_uint32 * 6)()), "capset")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _filter_system_calls(bpf):
    program = _Program(len(bpf) // 8, bpf)
    result = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    _check(result, "prctl(seccomp)")
