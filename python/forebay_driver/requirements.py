"""What requirements say by themselves, before an index is asked."""

import hashlib
import os
import re

# A package with its version: `name==1.2`, `name[extra]==1.2`.
_EXACT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[A-Za-z0-9._, -]+\])?\s*==\s*(?P<version>[A-Za-z0-9.+!]+)\s*(;[^-]*)?(\s+--hash=\S+)*$")
_MORE_INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


def facts(library):
    """What determines which files are installed, and the pins of it; `None` if more than that does."""
    kind = library["type"]
    if kind == "pypi":
        return [kind, library["package"], library["repo"]], pins([library["package"]])
    if kind == "egg":
        return [kind, library["path"]], None
    with open(library["path"], "rb") as file:
        content = file.read()
    fact = [kind, os.path.basename(library["path"]), hashlib.sha256(content).hexdigest()]
    if kind == "whl":
        return fact, set()
    lines = content.decode("utf-8", "replace").replace("\\\n", " ").splitlines()
    return fact, pins([line for line in (line.split("#")[0].strip() for line in lines) if line])


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


def options(args):
    """The index options among the arguments of an installer."""
    words = iter(args)
    for word in words:
        name = word.split("=")[0]
        if name in ("--index", "--index-url", "-i", "--extra-index-url", "-f", "--find-links"):
            yield word
            if "=" not in word:
                yield next(words, "")
        elif name == "--no-index":
            yield word


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
