"""What requirements say by themselves, before an index is asked."""

import hashlib
import os
import re
import sysconfig

# A package with its version: `name==1.2`, `name[extra]==1.2`.
_EXACT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[A-Za-z0-9._, -]+\])?\s*==\s*(?P<version>[A-Za-z0-9.+!]+)\s*(;[^-]*)?(\s+--hash=\S+)*$")
_INCLUDED = re.compile(r"(?:-r|-c|--requirements?|--constraints?)[\s=]*(?P<path>.+)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_MORE_INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", *_MORE_INDEXES)


def facts(library):
    """What determines which files are installed, and the pins of it; `None` if more than that does."""
    kind = library["type"]
    if kind == "pypi":
        return [kind, library["package"], library["repo"]], pins([library["package"]])
    if kind == "egg":
        return [kind, library["path"]], None
    path = library["path"]
    contents = [_content(path)] if kind == "whl" else _with_included(path)
    fact = [kind, os.path.basename(path), *(hashlib.sha256(content).hexdigest() for content in contents)]
    return fact, set() if kind == "whl" else pins([line for line in _lines(contents[0]) if line])


def _with_included(path):
    """The contents of a requirements file and of those that it takes in."""
    contents, left = {path: _content(path)}, [path]
    while left:
        one = left.pop()
        names = (found["path"] for found in map(_INCLUDED.match, _lines(contents[one])) if found)
        for other in (os.path.join(os.path.dirname(one), name) for name in names):
            # What cannot be read, the installer complains of.
            if other not in contents and os.path.isfile(other):
                contents[other] = _content(other)
                left.append(other)
    return list(contents.values())


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def _lines(content):
    lines = content.decode("utf-8", "replace").replace("\\\n", " ").splitlines()
    return [line.split("#")[0].strip() for line in lines]


def pins(texts):
    """`name==version` of each; `None` if one of them leaves its version open."""
    found = [_EXACT.match(text) for text in texts]
    return {f"{_normal(one['name'])}=={one['version']}" for one in found} if all(found) else None


def planned(text):
    """The requirements that a dry run of the installer would install."""
    for line in text.splitlines():
        if line.startswith(" + "):
            name, _, origin = line[3:].partition(" (from ")
            package = name.split("==")[0]
            yield f"{package} @ {origin[:-1]}" if origin else name


def are_given(plan, pinned):
    """Whether a plan has nothing but pins and files, so that no index could make another one of it."""
    return all(one in pinned or " @ file://" in one for one in plan)


def from_cache(command):
    """The command for an installer that must do without an index; `None` where it could take for the answer of
    one index what is in the cache of another one."""
    words, indexes, others = iter(command), set(), []
    for word in words:
        if word == "--index":
            indexes.add(next(words, ""))
        else:
            others.append(word)
    if len(indexes) > 1 or any(os.environ.get(name) for name in _MORE_INDEXES):
        return None
    # Asked together, this index comes before the default one. What it alone has is what both give.
    return [*others, *(f"--default-index={index}" for index in indexes), "--offline"]


def overrides(plan):
    """What has an installer that reads the requirements of a plan install the plan: in place of each requirement
    stands what was planned for it, and nothing where the environment has it already."""
    new = {_normal(_NAME.match(one)[0]) for one in plan}
    never = (f"{name} ; python_version < '0'" for name in sorted(_present() - new))
    return "".join(f"{line}\n" for line in (*plan, *never))


def _present():
    """Names of what the environment has. The installer knows too, but is one more process to ask."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    parts = (entry.rpartition(".") for folder in folders for entry in os.listdir(folder))
    return {_normal(stem.split("-")[0]) for stem, _, kind in parts if kind in ("dist-info", "egg-info")}


def indexes():
    """Where packages come from if nothing else says so."""
    return [os.environ.get(name) for name in _INDEXES]


def of_egg(path):
    """Without those of extras, which follow in sections of their own."""
    try:
        with open(path) as file:
            lines = file.read().split("\n[", 1)[0].splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith(("[", "#"))]


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()
