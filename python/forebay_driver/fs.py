"""`dbutils.fs` on the folders that the sandbox has at `/dbfs`, `/Volumes` and `/Workspace`."""

import os
import shutil
from collections import namedtuple

FileInfo = namedtuple("FileInfo", ["path", "name", "size", "modificationTime"])
FileInfo.isDir = lambda self: self.name.endswith("/")
FileInfo.isFile = lambda self: not self.name.endswith("/")
MountInfo = namedtuple("MountInfo", ["mountPoint", "source", "encryptionType"])

_DIRECT = ("/Volumes", "/Workspace")


class FileSystem:
    """Methods as in the public documentation of `dbutils.fs`. A path without a scheme, or with
    `dbfs:`, is below `/dbfs` (or is a volume or workspace path); `file:/` is the machine's own."""

    def __init__(self, channel):
        self._channel = channel

    def ls(self, path):
        place = self._existing(path)
        if not os.path.isdir(place):
            return [_info(path, place, os.path.basename(place), itself=True)]
        return [_info(path, os.path.join(place, name), name) for name in sorted(os.listdir(place))]

    def head(self, path, maxBytes=65536):
        with open(self._existing(path), "rb") as file:
            return file.read(maxBytes).decode("utf-8", "replace")

    def put(self, path, contents, overwrite=False):
        place = _place(path)
        if os.path.exists(place) and not overwrite:
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        data = contents.encode()
        with open(place, "wb") as file:
            file.write(data)
        print(f"Wrote {len(data)} bytes.")
        return True

    def mkdirs(self, path):
        os.makedirs(_place(path), exist_ok=True)
        return True

    def rm(self, path, recurse=False):
        place = _place(path)
        if not os.path.lexists(place):
            return False
        if os.path.isdir(place) and not os.path.islink(place):
            if recurse:
                shutil.rmtree(place)
            elif os.listdir(place):
                raise OSError(f"{path} is a directory that is not empty; pass recurse=True")
            else:
                os.rmdir(place)
        else:
            os.remove(place)
        return True

    def cp(self, from_, to, recurse=False):
        source, target = self._existing(from_), _place(to)
        if os.path.isdir(source):
            if not recurse:
                raise IsADirectoryError(f"{from_} is a directory; pass recurse=True to copy it")
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, _into(source, target, to))
        return True

    def mv(self, from_, to, recurse=False):
        source, target = self._existing(from_), _place(to)
        if os.path.isdir(source) and not recurse:
            raise IsADirectoryError(f"{from_} is a directory; pass recurse=True to move it")
        shutil.move(source, _into(source, target, to))
        return True

    def mounts(self):
        found = self._channel.call("fs.mounts")["mounts"]
        return [MountInfo(mount["mount_point"], mount["source"], "") for mount in found]

    def refreshMounts(self):
        return True

    def mount(self, *_, **__):
        raise NotImplementedError("mounts are part of this server's configuration; ask its operator to add one")

    unmount = updateMount = mount

    def help(self, name=None):
        print(self.__doc__)
        for method in ("ls", "head", "put", "mkdirs", "rm", "cp", "mv", "mounts"):
            print(f"  fs.{method}")

    def _command(self, name, args, recurse):
        """One line of a `%fs` cell."""
        if name not in ("ls", "head", "put", "mkdirs", "rm", "cp", "mv", "mounts"):
            raise ValueError(f"%fs has no command {name!r}")
        options = {"recurse": True} if recurse and name in ("rm", "cp", "mv") else {}
        return getattr(self, name)(*args, **options)

    @staticmethod
    def _existing(path):
        place = _place(path)
        if not os.path.lexists(place):
            raise FileNotFoundError(f"No such file or directory: {_shown(path)}")
        return place


def _place(path):
    """Where a path of `dbutils.fs` is on this machine."""
    path = os.fspath(path)
    scheme, colon, rest = path.partition(":")
    if not colon or "/" in scheme:
        scheme, rest = "dbfs", path
    rest = os.path.normpath("/" + rest.lstrip("/"))
    if scheme == "file":
        return rest
    if scheme != "dbfs":
        raise ValueError(f"{path}: this cluster has no file system for {scheme}:")
    if any(rest == root or rest.startswith(root + "/") for root in _DIRECT):
        return rest
    return os.path.normpath("/dbfs" + rest)


def _into(source, target, to):
    if os.path.isdir(target):
        return os.path.join(target, os.path.basename(source))
    if to.endswith("/"):
        os.makedirs(target, exist_ok=True)
        return os.path.join(target, os.path.basename(source))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    return target


def _shown(path):
    path = os.fspath(path)
    return path if ":" in path.split("/")[0] else "dbfs:/" + path.lstrip("/")


def _info(parent, place, name, itself=False):
    shown = _shown(parent).rstrip("/")
    if not itself:
        shown = f"{shown}/{name}"
    stat = os.stat(place) if os.path.exists(place) else os.lstat(place)
    if os.path.isdir(place):
        return FileInfo(shown + "/", name + "/", 0, int(stat.st_mtime * 1000))
    return FileInfo(shown, name, stat.st_size, int(stat.st_mtime * 1000))
