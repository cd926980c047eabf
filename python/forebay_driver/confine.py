"""System calls that Python has no names for."""

import ctypes
import os
import signal
import threading

libc = ctypes.CDLL(None, use_errno=True)
# The same, for what must not let another thread run.
_python = ctypes.PyDLL(None, use_errno=True)

_CLONE_VM = 0x00000100
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 24, 36
_LAST_CAPABILITY = 63


def check(result, doing):
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")
    return result


def setns(fd, kind):
    check(libc.setns(fd, kind), "setns")


def fork():
    """As `os.fork`, but without what Python does afterwards for programs with other threads, which is
    dearer than the fork itself. The caller has one thread, and nothing loaded that knows of forks but
    the standard library; its generators of random numbers must be seeded before they are used."""
    pid = check(_python.fork(), "fork")
    if pid == 0:
        threading.main_thread()._native_id = threading.get_native_id()
    return pid


# One for all first processes: each puts there what the one before has put there, and waits.
_STACK = ctypes.create_string_buffer(16384)


def first_process():
    """The number of a process that does nothing, the first of a new process namespace.

    It shares the caller's memory: copying even a small interpreter's takes longer than anything
    else here. The caller must have no handlers of signals, which it would have as well."""
    pause = ctypes.cast(libc.pause, ctypes.c_void_p)
    top = (ctypes.addressof(_STACK) + len(_STACK)) & ~15
    flags = _CLONE_VM | CLONE_NEWPID | signal.SIGCHLD
    return check(libc.clone(pause, ctypes.c_void_p(top), flags, None), "clone")


def become_subreaper():
    check(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(subreaper)")


def open_tree(path):
    """A mount of what is at `path`, which is nowhere yet."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    return check(libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), f"open {path}")


def move_mount(tree, path):
    result = libc.syscall(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), _MOVE_MOUNT_F_EMPTY_PATH)
    check(result, f"mount {path}")


def drop_bounding_set():
    """No program that this process or a child of it executes gains a capability."""
    for capability in range(_LAST_CAPABILITY + 1):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == -1:
            break  # Beyond the last one that this kernel knows.
