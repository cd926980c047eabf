"""`dbutils`, as in its public documentation for Python."""

import base64
import json

from . import session as sessions

_EXIT_BYTES_MAX = 5 * 1024 * 1024
_TASK_VALUE_BYTES_MAX = 48 * 1024


class InputWidgetNotDefined(Exception):
    pass


class DbUtils:
    """The utilities of a notebook: credentials and data are not here; the rest is.

    dbutils.fs, dbutils.jobs, dbutils.library, dbutils.notebook, dbutils.secrets, dbutils.widgets
    """

    def __init__(self, session, fs, job):
        self.fs = fs
        self.widgets = Widgets(session)
        self.notebook = Notebook(session, job)
        self.secrets = Secrets(session.channel)
        self.jobs = Jobs(session.channel)
        self.library = Library()

    def help(self, name=None):
        _help(getattr(self, name) if name else self)

    def __repr__(self):
        return "dbutils: " + ", ".join(_public(self))


class _Utilities:
    def help(self, name=None):
        _help(getattr(self, name) if name else self)


def _public(thing):
    return [name for name in dir(thing) if not name.startswith("_")]


def _help(thing):
    import inspect

    print(inspect.getdoc(thing) or "")
    if not callable(thing):
        for name in _public(thing):
            member = getattr(thing, name)
            text = (inspect.getdoc(member) or "").split("\n")[0]
            signature = str(inspect.signature(member)) if inspect.ismethod(member) else ""
            print(f"  {name}{signature}: {text}" if text else f"  {name}{signature}")


class Widgets(_Utilities):
    """Named text inputs. A parameter of the run wins over the default."""

    def __init__(self, session):
        self._session = session
        # The session keeps them over a restart of the interpreter.
        self._defaults = session.widgets

    def text(self, name, defaultValue, label=None):
        """A free text."""
        self._defaults[name] = str(defaultValue)

    def dropdown(self, name, defaultValue, choices, label=None):
        """One of the choices."""
        self._choose(name, [defaultValue], choices)

    def combobox(self, name, defaultValue, choices, label=None):
        """One of the choices, or a free text."""
        self._defaults[name] = str(defaultValue)

    def multiselect(self, name, defaultValue, choices, label=None):
        """Some of the choices, joined by commas."""
        self._choose(name, str(defaultValue).split(","), choices)

    def _choose(self, name, values, choices):
        known = [str(choice) for choice in choices]
        for value in values:
            if str(value) not in known:
                raise ValueError(f"widget {name}: the default {value!r} is not among {known}")
        self._defaults[name] = ",".join(str(value) for value in values)

    def get(self, name):
        """The value of a widget."""
        parameters = self._session.parameters
        if name in parameters:
            return parameters[name]
        if name in self._defaults:
            return self._defaults[name]
        raise InputWidgetNotDefined(f"No input widget named {name} is defined")

    def getAll(self):
        """All values by name."""
        return {**self._defaults, **self._session.parameters}

    def getArgument(self, name, defaultValue=None):
        """The value of a widget, or the second argument when there is none."""
        try:
            return self.get(name)
        except InputWidgetNotDefined:
            if defaultValue is None:
                raise
            return str(defaultValue)

    def remove(self, name):
        """Forgets a widget."""
        self._defaults.pop(name, None)

    def removeAll(self):
        """Forgets all widgets."""
        self._defaults.clear()


class Notebook(_Utilities):
    """Running other notebooks, and ending this one."""

    def __init__(self, session, job):
        self._session = session
        self._context = Context(job)
        self.entry_point = _EntryPoint(self._context)

    def run(self, path, timeout_seconds=0, arguments=None, *_):
        """Runs a notebook as a run of its own and returns what it exited with."""
        arguments = {str(key): str(value) for key, value in (arguments or {}).items()}
        answer = self._session.channel.call(
            "notebook.run",
            **{"from": self._session.stack[-1]["path"]},
            path=path,
            timeout_seconds=int(timeout_seconds),
            arguments=arguments,
        )
        return answer.get("exit_value")

    def exit(self, value=""):
        """Ends the notebook well, with a value of at most 5 MB."""
        text = str(value)
        if len(text.encode("utf-8", "replace")) > _EXIT_BYTES_MAX:
            raise ValueError("dbutils.notebook.exit: the value is larger than 5 MB")
        raise sessions.Exit(text)

    def getContext(self):
        """The facts about this run."""
        return self._context


class Secrets(_Utilities):
    """Secrets by scope and key. Their values are hidden in all output."""

    def __init__(self, channel):
        self._channel = channel

    def get(self, scope, key):
        """The secret as text."""
        return self.getBytes(scope, key).decode("utf-8")

    def getBytes(self, scope, key):
        """The secret as bytes."""
        return base64.b64decode(self._channel.call("secrets.get", scope=scope, key=key)["value"])

    def list(self, scope):
        """The keys of a scope."""
        return [SecretMetadata(key) for key in self._channel.call("secrets.list", scope=scope)["keys"]]

    def listScopes(self):
        """The scopes that this run may read."""
        return [SecretScope(name) for name in self._channel.call("secrets.listScopes")["scopes"]]


class SecretMetadata:
    def __init__(self, key):
        self.key = key

    def __repr__(self):
        return f"SecretMetadata(key={self.key!r})"


class SecretScope:
    def __init__(self, name):
        self.name = name

    def getName(self):
        return self.name

    def __repr__(self):
        return f"SecretScope(name={self.name!r})"


class Jobs(_Utilities):
    """What tasks of one job tell one another."""

    def __init__(self, channel):
        self.taskValues = TaskValues(channel)


class TaskValues(_Utilities):
    """Small JSON values by key."""

    def __init__(self, channel):
        self._channel = channel

    def set(self, key, value):
        """Sets a value of this task, of at most 48 KiB as JSON."""
        if len(json.dumps(value)) > _TASK_VALUE_BYTES_MAX:
            raise ValueError(f"task value {key}: larger than 48 KiB")
        self._channel.call("jobs.taskValues.set", key=key, value=value)

    def get(self, taskKey, key, default=None, debugValue=None):
        """A value of an upstream task; without one, `default`."""
        return self._channel.call(
            "jobs.taskValues.get",
            task_key=taskKey,
            key=key,
            has_default=default is not None,
            default=default,
            debug_value=debugValue,
        )["value"]


class Library(_Utilities):
    """The notebook's own Python environment."""

    def restartPython(self):
        """A fresh interpreter for the cells that follow; installed libraries stay."""
        raise sessions.Restart()


class Context:
    """The facts about a run, by the accessors that scripts know from the JVM object."""

    def __init__(self, job):
        given = job["context"]
        self._path = job["program"].get("path", "")
        self._run_id = job["run_id"]
        self._url = given.get("api_url")
        self._token = given.get("api_token")
        tags = {
            "orgId": given.get("workspace_id"),
            "user": given.get("user"),
            "jobId": given.get("job_id"),
            "clusterId": given.get("cluster_id"),
            "runId": str(self._run_id),
            **given.get("tags", {}),
        }
        self._tags = {key: value for key, value in tags.items() if value is not None}

    def apiUrl(self):
        return _Option(self._url)

    def apiToken(self):
        return _Option(self._token)

    def notebookPath(self):
        return _Option(self._path)

    def workspaceId(self):
        return _Option(self._tags.get("orgId"))

    def userName(self):
        return _Option(self._tags.get("user"))

    def jobId(self):
        return _Option(self._tags.get("jobId"))

    def clusterId(self):
        return _Option(self._tags.get("clusterId"))

    def currentRunId(self):
        return _Option(_RunId(self._run_id))

    rootRunId = currentRunId

    def tags(self):
        return _ScalaMap(self._tags)

    def toJson(self):
        run_id = {"id": self._run_id}
        extra = {"notebook_path": self._path, "api_url": self._url, "api_token": self._token}
        return json.dumps(
            {
                "rootRunId": run_id,
                "currentRunId": run_id,
                "extraContext": extra,
                "tags": self._tags,
            }
        )

    safeToJson = toJson


class _RunId:
    def __init__(self, value):
        self._value = value

    def id(self):
        return self._value

    def toString(self):
        return f"RunId({self._value})"

    __repr__ = toString


class _Option:
    """Like Scala's, as far as notebooks use it."""

    def __init__(self, value):
        self._value = value

    def get(self):
        if self._value is None:
            raise LookupError("None.get: there is no value")
        return self._value

    def getOrElse(self, default):
        if self._value is not None:
            return self._value
        return default() if callable(default) else default

    def isDefined(self):
        return self._value is not None

    nonEmpty = isDefined

    def isEmpty(self):
        return self._value is None

    def toString(self):
        return "None" if self._value is None else f"Some({self._value})"

    __repr__ = toString


class _ScalaMap(dict):
    def get(self, key, *default):
        return dict.get(self, key, *default) if default else _Option(dict.get(self, key))

    def apply(self, key):
        return self[key]

    def contains(self, key):
        return key in self

    def getOrElse(self, key, default):
        return dict.get(self, key, default)

    def toString(self):
        return "Map(" + ", ".join(f"{k} -> {v}" for k, v in self.items()) + ")"


class _EntryPoint:
    """`dbutils.notebook.entry_point.getDbutils().notebook().getContext()`."""

    def __init__(self, context):
        self._context = context

    def getDbutils(self):
        return self

    def notebook(self):
        return self

    def getContext(self):
        return self._context
