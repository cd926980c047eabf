"""R as a library of a warm parent: it starts once there, and the R of each run is a fork of it.

R starts in about 200 ms, and forks in a few. Everything of the run comes after the fork, which the
run's own worker makes behind its walls; so nothing of one run is in another's R.
"""

import ctypes
import os
import signal
import subprocess
import sys

from . import r

# What R handles in its own way; this interpreter gets its own ways back after R's start.
_SIGNALS = (signal.SIGINT, signal.SIGSEGV, signal.SIGILL, signal.SIGBUS, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE)
_SIGACTION_BYTES_MAX = 256
_SET_BY_SCRIPT = ("R_HOME", "R_SHARE_DIR", "R_INCLUDE_DIR", "R_DOC_DIR", "LD_LIBRARY_PATH")

_loaded = None


def load():
    """In a parent, before its first fork. Where it does not work, runs start an R of their own, which
    says what is wrong."""
    global _loaded
    try:
        _loaded = _R()
    except Exception as error:
        print(f"R is not loaded ahead: {error!r}", file=sys.stderr)


def is_loaded():
    return _loaded is not None


def fork(requests, frames, out, err, others):
    """A process that is R and nothing else; its number. `others` are descriptors that are not its."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for fd in others:
            os.close(fd)
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((null, 0), (out, 1), (err, 2)):
            os.dup2(fd, target)
            os.close(fd)
        _loaded.serve(requests, frames)
    finally:
        os._exit(1)


class _R:
    def __init__(self):
        self._variables = _variables()
        os.environ.update(self._variables)
        home = self._variables["R_HOME"]
        # Its own libraries before those of this interpreter that have the same names in them.
        self._library = ctypes.CDLL(os.path.join(home, "lib", "libR.so"), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
        for name in ("Rf_mkString", "R_ParseVector", "VECTOR_ELT", "Rf_protect", "R_tryEval"):
            getattr(self._library, name).restype = ctypes.c_void_p
        ours = [_action(number) for number in _SIGNALS]
        words = [b"R", *(option.encode() for option in r.OPTIONS), b"--args", r.DRIVER.encode()]
        # Not `Rf_initEmbeddedR`, whose R believes that somebody is there to be asked.
        self._library.Rf_initialize_R(len(words), (ctypes.c_char_p * len(words))(*words))
        self._library.setup_Rmainloop()
        self._actions = [_action(number) for number in _SIGNALS]
        for number, action in zip(_SIGNALS, ours, strict=True):
            _libc.sigaction(number, action, None)
        self._evaluate(f"source({r.literal(r.DRIVER + '/main.R')}, keep.source = FALSE)")

    def serve(self, requests, frames):
        """In the fork. Comes back only when something is wrong."""
        for name, value in self._variables.items():
            os.environ.setdefault(name, value)
        for number, action in zip(_SIGNALS, self._actions, strict=True):
            _libc.sigaction(number, action, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # The parent's folder is not there, or is everybody's.
        ctypes.c_void_p.in_dll(self._library, "R_TempDir").value = None
        self._library.R_reInitTempDir(0)
        self._evaluate(f'environment(get("display", "forebay"))$begin({requests}L, {frames}L)')

    def _evaluate(self, code):
        # Protected, because R's garbage collector does not see what only Python holds.
        def keep(value):
            return ctypes.c_void_p(self._library.Rf_protect(ctypes.c_void_p(value)))

        library, status, failed = self._library, ctypes.c_int(0), ctypes.c_int(0)
        text = keep(library.Rf_mkString(code.encode()))
        nothing = ctypes.c_void_p.in_dll(library, "R_NilValue")
        parsed = keep(library.R_ParseVector(text, -1, ctypes.byref(status), nothing))
        everything = ctypes.c_void_p.in_dll(library, "R_GlobalEnv")
        library.R_tryEval(ctypes.c_void_p(library.VECTOR_ELT(parsed, 0)), everything, ctypes.byref(failed))
        library.Rf_unprotect(2)
        if failed.value:
            raise RuntimeError(f"R could not evaluate {code}")


_libc = ctypes.CDLL(None, use_errno=True)


def _action(number):
    action = ctypes.create_string_buffer(_SIGACTION_BYTES_MAX)
    _libc.sigaction(number, None, action)
    return action


def _variables():
    """What the script that usually starts R puts into its environment; the rest R does itself."""
    shown = subprocess.run([r.program(), "CMD", "env"], capture_output=True, encoding="utf-8", check=True).stdout
    pairs = (line.partition("=") for line in shown.splitlines())
    return {name: value for name, _, value in pairs if name in _SET_BY_SCRIPT}
