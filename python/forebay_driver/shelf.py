"""Folders of installed packages: each is made once, under the name of what is in it, for all runs that see the same folders."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time

from .confine import check, libc

# What an installation that was killed has left is removed after this many seconds.
_DRAFT_AGE_MAX = 24 * 3600
_LOCK_TRIES = 50
_LOCK_SECONDS = 0.02


class Shelf:
    def __init__(self, folder, note):
        """`note`: a file of the run, which says to a fresh interpreter what the one before it has taken."""
        self._folder = folder
        self._note = note
        self._held = None

    def place(self, *facts):
        """Where the packages that these facts determine are, or will be."""
        return os.path.join(self._folder, hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24])

    def take(self, place, install):
        """From now on the run has what is at `place`; `install` puts it into an empty folder if it is not there yet."""
        while not self._hold(place):
            os.makedirs(self._folder, exist_ok=True)
            self._sweep()
            self._make(place, install)
        with open(self._note, "w") as file:
            file.write(place)

    def taken(self):
        try:
            with open(self._note) as file:
                place = file.read()
        except FileNotFoundError:
            return []
        if self._held is None:
            # The interpreter before this one had it.
            self._hold(place)
        return [place]

    def _hold(self, place):
        """Notes the use of what is there, and keeps it from being swept (`packages.rs`) while this process lives."""
        try:
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        _share(fd)
        os.utime(fd)
        if not _is_at(fd, place):
            # It was swept in between.
            os.close(fd)
            return False
        self._held = fd
        return True

    def _make(self, place, install):
        draft = tempfile.mkdtemp(prefix=".draft-", dir=self._folder)
        os.chmod(draft, 0o755)
        try:
            install(draft)
            _flush(draft)
            os.rename(draft, place)
        except OSError:
            # Another run may have been first.
            if not os.path.isdir(place):
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _sweep(self):
        for entry in os.scandir(self._folder):
            if entry.name.startswith(".draft-") and time.time() - entry.stat().st_mtime > _DRAFT_AGE_MAX:
                shutil.rmtree(entry.path, ignore_errors=True)


def _share(fd):
    """The sweeper has the lock for a moment. A program that keeps it must not keep other runs from starting; with
    its use noted, the set stays for longer than a run takes."""
    for _ in range(_LOCK_TRIES):
        try:
            return fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_SECONDS)
    return None


def _is_at(fd, place):
    try:
        return os.path.samestat(os.fstat(fd), os.stat(place))
    except FileNotFoundError:
        return False


def _flush(folder):
    """A name that survives a loss of power must not stand for files that did not."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        check(libc.syncfs(fd), "write the packages to disk")
    finally:
        os.close(fd)
