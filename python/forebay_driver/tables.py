"""Data frames as tables that a person reads."""

import html
import json

ROWS_MAX = 1000
# The same as data, for clients of a context and for tasks that read it; see `event.rs`.
_DATA = "application/vnd.forebay.table+json"
_CELL_CHARS_MAX = 2000


def of_text(frame):
    """The first rows of a data frame of Spark, as text."""
    return bundle(*head(frame))


def head(frame):
    """`(columns, rows, more)`: at most `ROWS_MAX` rows, and whether there are more."""
    columns = frame.columns
    rows = [tuple(row) for row in frame.limit(ROWS_MAX + 1).collect()]
    return columns, rows[:ROWS_MAX], len(rows) > ROWS_MAX


def bundle(columns, rows, more):
    cells = [[_text(value) for value in row] for row in rows]
    note = f"The first {ROWS_MAX} rows." if more else ""
    return {"text/html": _html(columns, cells, note), "text/plain": _plain(columns, cells, note)}


def of_spark(frame):
    """A data frame of Spark, as text and as data."""
    columns, rows, more = head(frame)
    types = [json.loads(field.dataType.json()) for field in frame.schema.fields]
    return {**bundle(columns, rows, more), _DATA: _data(columns, types, rows, more)}


def of_pandas(frame):
    """A data frame of pandas, as text and as data; an index that is more than a count is no column of it."""
    columns = [str(name) for name in frame.columns]
    some = frame.head(ROWS_MAX).astype(object)
    rows = list(some.where(some.notna(), None).itertuples(index=False, name=None))
    more = len(frame) > ROWS_MAX
    types = [_TYPES.get(kind.kind, "string") for kind in frame.dtypes]
    return {**bundle(columns, rows, more), _DATA: _data(columns, types, rows, more)}


def of_r(frame):
    """A data frame of R as data: `{"schema": ..., "columns": [...], "more": ...}`. Its row names are no column of it."""
    rows = [list(row) for row in zip(*frame["columns"], strict=True)]
    return {_DATA: {"schema": frame["schema"], "rows": rows, "more": frame["more"]}}


_TYPES = {"i": "long", "u": "long", "f": "double", "b": "boolean", "M": "timestamp"}


def _data(columns, types, rows, more):
    schema = [{"name": str(name), "type": kind} for name, kind in zip(columns, types, strict=True)]
    return {"schema": schema, "rows": [[_plain_value(value) for value in row] for row in rows], "more": more}


def _plain_value(value):
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, dict):
        return {str(key): _plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain_value(item) for item in value]
        # Those of a struct. Where two are alike, its place alone tells a field.
        names = getattr(value, "__fields__", ())
        return dict(zip(names, items, strict=True)) if len(set(names)) == len(items) > 0 else items
    return _text(value)


def _text(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (bytes, bytearray)):
        return value.hex().upper()
    is_nested = isinstance(value, (dict, list, tuple))
    text = json.dumps(_plain_value(value), ensure_ascii=False) if is_nested else str(value)
    return text if len(text) <= _CELL_CHARS_MAX else text[:_CELL_CHARS_MAX] + "…"


def _html(columns, cells, note):
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    foot = f"<p>{note}</p>" if note else ""
    return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}'


def _plain(columns, cells, note):
    widths = [max([len(str(name)), *(len(row[at]) for row in cells)]) for at, name in enumerate(columns)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [list(map(str, columns)), *cells]]
    return "\n".join(lines + ([note] if note else []))
