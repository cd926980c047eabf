"""JARs by Maven coordinates, resolved by Ivy, which Spark brings with it and uses for the same.

What a set of coordinates came to is kept in the workspace's package cache, so the next run with this set needs no network.
"""

import glob
import hashlib
import json
import os
import re
import subprocess
import tempfile
import xml.sax.saxutils as xml
from xml.etree import ElementTree

from . import jvm

_SETTINGS = "/etc/maven/settings.xml"
_LOG_LINES_MAX = 30
_SECONDS_MAX = 1800
# Ivy, and what its command line needs.
_RESOLVER = ("ivy", "commons-cli", "oro")
# Of every library set: what the engine has already, in its own version.
_OF_ENGINE = ("spark-", "scala-library-", "scala-reflect-", "scala-compiler-")


class MavenError(Exception):
    """What could not be resolved, with the words of the resolver."""


def jars(libraries, job):
    """The JARs of the libraries and of what they need, in an order that stays the same.

    `libraries`: `{"coordinates": "group:artifact:version", "repo": None, "exclusions": ["group:artifact"]}`."""
    default = _mirror()
    wanted = [[library["coordinates"], library["repo"] or default, sorted(library["exclusions"])] for library in libraries]
    name = hashlib.sha256(json.dumps([jvm.version(), wanted]).encode()).hexdigest()[:24]
    cache = os.path.join(job["env"]["UV_CACHE_DIR"], "maven")
    folder = os.path.join(cache, name)
    if not os.path.isdir(folder):
        os.makedirs(cache, exist_ok=True)
        _resolve(wanted, folder)
    return sorted(glob.glob(os.path.join(glob.escape(folder), "*.jar")))


def _resolve(wanted, folder):
    home = jvm.spark_home()
    with tempfile.TemporaryDirectory(prefix="maven-", dir=os.path.dirname(folder)) as draft:
        for file, text in {"settings.xml": _settings(wanted, draft), "ivy.xml": _module(wanted, home)}.items():
            with open(os.path.join(draft, file), "w") as out:
                out.write(text)
        path = [jar for name in _RESOLVER for jar in glob.glob(f"{glob.escape(home)}/jars/{name}-[0-9]*.jar")]
        words = [jvm.find_java(), *_proxies(), "-cp", os.pathsep.join(path), "org.apache.ivy.Main", "-confs", "default"]
        words += ["-settings", f"{draft}/settings.xml", "-ivy", f"{draft}/ivy.xml", "-types", "jar", "bundle", "eclipse-plugin"]
        words += ["-retrieve", f"{draft}/found/[organisation]_[artifact]-[revision](-[classifier]).[ext]"]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS_MAX)
        if done.returncode or not os.path.isdir(f"{draft}/found"):
            what = ", ".join(f"{coordinates} from {repo or 'Maven Central'}" for coordinates, repo, _ in wanted)
            raise MavenError(f"cannot resolve {what}:\n{_told(done.stdout + done.stderr)}")
        try:
            os.rename(f"{draft}/found", folder)
        except OSError:
            # Somebody else was faster.
            if not os.path.isdir(folder):
                raise


def _settings(wanted, draft):
    """Each library's repository, in their order. Ivy's own default is Maven Central."""
    roots = list(dict.fromkeys(repo for _, repo, _ in wanted))
    resolvers = "".join(
        f'<ibiblio name="repository-{number}" m2compatible="true"{f" root={xml.quoteattr(root)}" if root else ""}/>'
        for number, root in enumerate(roots, 1)
    )
    return (
        f'<ivysettings><settings defaultResolver="all"/><caches defaultCacheDir={xml.quoteattr(draft + "/cache")}/>'
        f'<resolvers><chain name="all" returnFirst="true">{resolvers}</chain></resolvers></ivysettings>'
    )


def _module(wanted, home):
    excluded = "".join(_exclude(*each) for each in _engine_modules(home))
    dependencies = ""
    for coordinates, _, exclusions in wanted:
        group, artifact, version = map(xml.quoteattr, coordinates.split(":"))
        without = "".join(_exclude(*each.split(":")) for each in exclusions)
        dependencies += f'<dependency org={group} name={artifact} rev={version} conf="default->default">{without}</dependency>'
    return (
        '<ivy-module version="2.0"><info organisation="run" module="run"/><configurations><conf name="default"/></configurations>'
        f"<dependencies>{dependencies}{excluded}</dependencies></ivy-module>"
    )


def _exclude(group, artifact):
    return f'<exclude org={xml.quoteattr(group)} module={xml.quoteattr(artifact)} matcher="glob"/>'


def _engine_modules(home):
    for name in sorted(os.listdir(os.path.join(home, "jars"))):
        if name.startswith(_OF_ENGINE):
            artifact = name.removesuffix(".jar").rpartition("-")[0]
            yield ("org.apache.spark" if artifact.startswith("spark-") else "org.scala-lang"), artifact


def _mirror():
    """What the machine's Maven takes in place of Maven Central, if anything."""
    try:
        root = ElementTree.parse(_SETTINGS).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    for mirror in root.findall("{*}mirrors/{*}mirror"):
        if mirror.findtext("{*}mirrorOf", "").strip() in ("*", "central", "external:*"):
            return mirror.findtext("{*}url", "").strip() or None
    return None


def _proxies():
    """Java does not read the variables that say where a proxy is."""
    from urllib.parse import urlsplit

    for kind in ("http", "https"):
        address = os.environ.get(f"{kind}_proxy") or os.environ.get(f"{kind.upper()}_PROXY")
        place = urlsplit(address) if address else None
        if place and place.hostname:
            yield from (f"-D{kind}.proxyHost={place.hostname}", f"-D{kind}.proxyPort={place.port or 80}")


def _told(log):
    """What the resolver says is wrong, without its ornaments; else the end of what it said."""
    _, _, problems = log.partition(":: problems summary ::")
    lines = [re.sub("//[^/@ ]*@", "//", line.strip()) for line in (problems or log).splitlines()]
    said = [line for line in lines if re.search("[a-z]", line) and not line.startswith(":: USE VERBOSE")]
    return "\n".join(said[:_LOG_LINES_MAX] if problems else said[-_LOG_LINES_MAX:])
