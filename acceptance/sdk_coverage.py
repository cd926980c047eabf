"""Compares every call that the installed Python SDK can make with the endpoint table of the server.

    scripts/run-in acceptance python acceptance/sdk_coverage.py                 prints the counts
    scripts/run-in acceptance python acceptance/sdk_coverage.py --write docs/compat.md

The calls come from the SDK's own source, so that nothing is counted from memory. Each is *works* or *partial* as the server's table
says, and *refused* when it is not in the table: the server then answers with an error that names the call. There is no third state.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import databricks.sdk

from harness.server import binary

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
STATES = ("works", "partial", "refused")


def sdk_calls():
    """{(method, path): service} for each call in the SDK's source; a hole in a path is written `{}`."""
    root = Path(databricks.sdk.__file__).parent
    calls = {}
    for path in sorted(
        [*root.glob("service/*.py"), *root.glob("mixins/*.py"), root / "__init__.py", root / "dbutils.py", root / "oauth.py"]
    ):
        constants = {}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and (text := literal(node.value, {})):
                constants[node.targets[0].id] = text
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "do":
                call = method_and_path(node, constants)
                if call:
                    calls.setdefault(call, path.stem)
    return calls


def method_and_path(node, constants):
    words = {keyword.arg: keyword.value for keyword in node.keywords}
    method = literal(node.args[0] if node.args else words.get("method"), constants)
    path = literal(node.args[1] if len(node.args) > 1 else words.get("path"), constants)
    if method not in METHODS or not path or not path.startswith(("/", "{}/.well-known")):
        return None
    return method, path.removeprefix("{}").split("?")[0]


def literal(node, constants):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def call_list(calls):
    """One `METHOD path` per line, sorted. A path that is all hole names nothing, so it cannot be told from a typing error."""
    named = [f"{method} {path}\n" for method, path in calls if not re.match(r"/api/[\d.]+/\{\}", path)]
    return "".join(sorted(named))


def server_table():
    """The rows of `forebay endpoints`: method, path, status, note, test."""
    done = subprocess.run([binary(), "endpoints", "--output", "json"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"`forebay endpoints --output json` failed:\n{done.stderr}")
    return json.loads(done.stdout)


# A row that holds for some values of a parameter only; the others are refused although they match the path.
ONLY = {"{object_type}": ("jobs", "clusters", "directories", "notebooks", "files", "repos")}


def pattern(path):
    """A row's path as an expression; `{name}` is one segment, `{*name}` is everything below."""
    return re.compile("".join(map(part, re.split(r"(\{\*?[^}]*\})", path))) + r"\Z")


def part(word):
    if word in ONLY:
        # `x` stands for a value that the SDK leaves open.
        return f"(?:{'|'.join(('x', *ONLY[word]))})"
    if word.startswith("{*"):
        return ".+"
    return "[^/]+" if word.startswith("{") else re.escape(word)


def compare(calls, table):
    """[(service, method, path, row or None)], sorted."""
    # A row without parameters is more exact than one with them.
    rows = sorted(((row, pattern(row["path"])) for row in table), key=lambda pair: pair[0]["path"].count("{"))
    compared = []
    for (method, path), service in calls.items():
        sample = re.sub(r"(?<=[^/])\{\}", "/x", path).replace("{}", "x")
        row = next((row for row, expression in rows if row["method"] == method and expression.match(sample)), None)
        compared.append((service, method, path, row))
    return sorted(compared, key=lambda entry: entry[:3])


def state(row):
    return row["status"] if row else "refused"


def counts(compared):
    return Counter(state(row) for *_, row in compared)


def sdk_section(compared):
    """The counts, in all and for each module of the SDK that has a call we know."""
    total, version = counts(compared), metadata.version("databricks-sdk")
    lines = [
        f"The Python SDK {version} can make {len(compared)} different calls (method and path): "
        f"**{total['works']} work, {total['partial']} work in part, {total['refused']} are refused by name.** "
        f"Of the refused ones, {account_calls(compared)} belong to the account level, which a workspace server does not have.",
        "",
        "| SDK module | works | partial | refused |",
        "|---|---:|---:|---:|",
    ]
    modules = {module: counts([entry for entry in compared if entry[0] == module]) for module in sorted({entry[0] for entry in compared})}
    lines += [
        f"| {module} | {per['works']} | {per['partial']} | {per['refused']} |"
        for module, per in modules.items()
        if per["works"] or per["partial"]
    ]
    refused = [module for module, per in modules.items() if not per["works"] and not per["partial"]]
    return "\n".join([*lines, "", f"All calls of these modules are refused: {', '.join(refused)}."])


def server_section(table):
    """Every call of the server by resource; the versions of one call stand in one row."""
    lines = []
    for resource in dict.fromkeys(row["resource"] for row in table):
        lines += ["", f"### {resource}", "", "| Call | Versions | State | Remark | Test |", "|---|---|---|---|---|"]
        calls = {}
        for row in table:
            if row["resource"] == resource:
                version, path = re.fullmatch(r"(?:/api/(\d\.\d))?(/.*)", row["path"]).groups()
                calls.setdefault((row["method"], path, row["status"], row["note"], row["test"]), []).append(version)
        for (method, path, status, note, test), versions in calls.items():
            lines.append(f"| `{method} {path}` | {', '.join(filter(None, versions))} | {status} | {note} | {test} |")
    return "\n".join(lines).strip()


def sections(compared, table):
    """{name of the markers: text} of everything on the page that is generated."""
    return {"sdk-coverage": sdk_section(compared), "endpoints": server_section(table)}


def account_calls(compared):
    return sum(state(row) == "refused" and "/accounts/" in path for _, _, path, row in compared)


def generated(page, texts):
    """The page with each text between its markers."""
    for name, text in texts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin not in page or end not in page:
            sys.exit(f"the page has no {begin} and {end}")
        page = page.partition(begin)[0] + f"{begin}\n{text}\n{end}" + page.partition(end)[2]
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write-calls", type=Path, metavar="FILE", help="write the list of calls that the server refuses by name")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the generated parts of this page anew")
    parser.add_argument("--check", type=Path, metavar="FILE", help="fail when this page is out of date")
    parser.add_argument("--list", choices=STATES, help="print the calls in this state")
    options = parser.parse_args()
    if options.write_calls:
        options.write_calls.write_text(call_list(sdk_calls()))
        return
    table = server_table()
    compared = compare(sdk_calls(), table)
    total = counts(compared)
    print(
        f"{len(compared)} calls of databricks-sdk {metadata.version('databricks-sdk')}: "
        + ", ".join(f"{total[name]} {name}" for name in STATES)
        + f" ({account_calls(compared)} of them account level)"
    )
    for service, method, path, row in compared:
        if options.list == state(row):
            print(f"  {service:16} {method:6} {path}")
    texts = sections(compared, table)
    if options.write:
        options.write.write_text(generated(options.write.read_text(), texts))
    if options.check and generated(options.check.read_text(), texts) != options.check.read_text():
        sys.exit(f"{options.check} is out of date: run acceptance/sdk_coverage.py --write {options.check}")


if __name__ == "__main__":
    main()
