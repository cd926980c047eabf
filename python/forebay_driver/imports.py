"""What is to happen when a module is imported, and costs nothing before."""

import importlib.util
import sys


def when_imported(name, action):
    """`action` gets the module: now if it is there, else as soon as somebody imports it."""
    if name in sys.modules:
        action(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, action))


class _Finder:
    # Its usual base class brings in a tenth of what a new interpreter imports, and adds nothing.
    def __init__(self, name, action):
        self._name = name
        self._action = action

    def find_spec(self, name, path, target=None):
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                self._action(module)

            spec.loader.exec_module = exec_module
        return spec
