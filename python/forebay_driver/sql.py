"""SQL: cells of notebooks, and files of statements. Parameters are `:name`, or `${name}` as text."""

import re

_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_TOKENS = re.compile(
    rf"""
    (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<quoted>'(?:\\.|''|[^'\\])*'?|"(?:\\.|""|[^"\\])*"?|`(?:``|[^`])*`?)
    | (?P<end>;)
    | (?P<marker>(?<![:\w]):(?P<name>{_WORD}))
    """,
    re.VERBOSE | re.DOTALL,
)
_TEXT = re.compile(rf"\$\{{({_WORD}(?:\.{_WORD})*)\}}")
_WIDGET = re.compile(
    rf"create\s+widget\s+(?P<kind>text|dropdown|combobox|multiselect)\s+(?P<name>{_WORD})\s+default\s+(?P<default>'(?:''|[^'])*'|\"[^\"]*\")"
    r"(?P<choices>\s+choices\b.*)?\Z",
    re.IGNORECASE | re.DOTALL,
)
_REMOVE = re.compile(rf"remove\s+widget\s+(?P<name>{_WORD})\Z", re.IGNORECASE)

_QUERY = re.compile(r"[\s(]*(?P<first>select|with|from|values|table|map|reduce|show|describe|desc|explain|list)\b", re.IGNORECASE)
# What may come after a WITH or FROM and makes it none.
_CHANGE = re.compile(r"\b(insert\s+(into|overwrite)|merge\s+into|delete\s+from|update\s[\w.\s]*\bset)\b", re.IGNORECASE)
_IMMEDIATE = re.compile(r"\s*execute\s+immediate\b(?P<rest>.*)", re.IGNORECASE | re.DOTALL)


class SqlError(Exception):
    pass


def statements(text):
    """The statements of a text, without those that are only comments; with the line each begins at."""
    found, start, bare = [], 0, []
    for token in _TOKENS.finditer(text + "\n;"):
        kind = token.lastgroup if token.lastgroup != "name" else "marker"
        if kind == "comment":
            bare.append(token.span())
        elif kind == "end":
            end = token.start()
            code = _without(text, start, end, bare)
            if code.strip():
                first = next(at for at in range(len(code)) if not code[at].isspace())
                found.append((text[start:end].strip(), text.count("\n", 0, start + first) + 1))
            start, bare = token.end(), []
    return found


def _without(text, start, end, spans):
    """The text with blanks for the spans."""
    out = list(text[start:end])
    for first, last in spans:
        for at in range(first, min(last, end)):
            if out[at - start] != "\n":
                out[at - start] = " "
    return "".join(out)


def is_query(statement):
    """Whether what it gives is a result, and not the engine's word that something was done: sail answers a CREATE with a table."""
    spans = {"comment": [], "quoted": []}
    for token in _TOKENS.finditer(statement):
        if token.lastgroup in spans:
            spans[token.lastgroup].append(token.span())
    bare = _without(statement, 0, len(statement), spans["comment"] + spans["quoted"])
    if immediate := _IMMEDIATE.match(bare):
        if re.search(r"\binto\b", immediate["rest"], re.IGNORECASE):
            return False
        # Of a variable nobody knows what it says.
        text = next(iter(spans["quoted"]), None)
        return text is None or bool(bare[immediate.start("rest") : text[0]].strip()) or is_query(statement[text[0] + 1 : text[1] - 1])
    found = _QUERY.match(bare)
    return bool(found) and not (found["first"].lower() in ("with", "from") and _CHANGE.search(bare))


def markers(statement):
    """The names of the parameter markers in it."""
    return [token["name"] for token in _TOKENS.finditer(statement) if token["name"]]


class Runner:
    """Executes statements in a session of Spark; `parameters` gives the value of a name or raises."""

    def __init__(self, session, widgets):
        self._session = session
        self._widgets = widgets

    def run(self, text, take):
        """Executes the statements in order and hands over the data frame of each, and whether it was a query."""
        for statement, line in statements(text):
            try:
                if not self._widget(statement):
                    filled = self._filled(statement)
                    take(self._one(filled), is_query(filled))
            except Exception as error:
                error.add_note(f"in the statement at line {line}")
                raise

    def _filled(self, statement):
        known = self._widgets.getAll()
        return _TEXT.sub(lambda found: self._value(found[1], known), statement)

    def _one(self, statement):
        known = self._widgets.getAll()
        args = {name: self._value(name, known) for name in markers(statement)}
        return self._session().sql(statement, args) if args else self._session().sql(statement)

    def _value(self, name, known):
        if name not in known:
            raise SqlError(f"the parameter {name} has no value: give the run one, or make a widget of that name")
        return known[name]

    def _widget(self, statement):
        if found := _WIDGET.match(statement):
            self._widgets.text(found["name"], found["default"][1:-1].replace("''", "'"))
        elif found := _REMOVE.match(statement):
            self._widgets.remove(found["name"])
        else:
            return False
        return True
