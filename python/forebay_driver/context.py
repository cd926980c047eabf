"""An execution context: a session that asks the server for its cells, one by one, until there are no more.

The server only ever answers. So whoever it is that answers, also a server that was started meanwhile,
finds out from the question where the context stands.
"""

import contextlib
import signal
import sys
import threading
import time

from . import session, spark, tables
from .worker import ProgramFailed

# What a command exited with; see `results.rs`.
_EXIT = "application/vnd.forebay.exit"
_AGAIN_SECONDS = 0.1


class Context(session.Session):
    wants_data = True

    def __init__(self, run, job, channel):
        job["program"].update(cells=[], parameters={})
        super().__init__(run, job, channel)
        # The number of the last command that was taken.
        self.after = (job.get("state") or {}).get("after", 0)
        self._running = None
        self._ours = False
        self._lock = threading.Lock()

    def _run_cells(self):
        threading.Thread(target=self._watch, name="forebay-interrupts", daemon=True).start()
        while True:
            try:
                return self._run_stack()
            except session.Exit as exit:
                self._show_exit(exit.value)
                self._end_command("succeeded")
            except session.CellFailed:
                self._end_command("failed")

    def _more(self):
        self._rest()
        while True:
            try:
                answer = self.channel.call("context.next", after=self.after)
                break
            except KeyboardInterrupt:
                # One that came too late for the command it was meant for.
                if not self._ours:
                    raise
                self._forget_interrupt()
        if answer["cell"] is None:
            return False
        cell = answer["cell"]
        self.after = cell["index"] + 1
        self.stack[0].update(cells=[cell], next=0)
        with self._lock:
            self._running = self.after
        return True

    def _end_command(self, status):
        self._rest()
        self._finish(status)
        del self.stack[1:]

    def _rest(self):
        """From here on an interrupt has nothing to stop, until the next command."""
        while self._running is not None:
            with contextlib.suppress(KeyboardInterrupt), self._lock:
                self._running = None
        if self._ours:
            self._forget_interrupt()
        elif self.channel.was_interrupted:
            # It was meant for the context, and the command only happened to be there.
            self._finish("failed")
            raise ProgramFailed("KeyboardInterrupt", "the context was ended", "")

    def _forget_interrupt(self):
        self._ours = False
        self.channel.was_interrupted = False

    def _watch(self):
        """Interrupts the commands that the server wants interrupted."""
        number = 0
        # Without a server to ask there is nobody to want anything.
        with contextlib.suppress(Exception):
            while True:
                number = self.channel.call("context.interrupt", after=number)["command"]
                while self._interrupt(number):
                    time.sleep(_AGAIN_SECONDS)

    def _interrupt(self, command):
        """Whether that has to be looked at again: a signal that comes when the main thread is just about to wait for
        something does not wake it."""
        with self._lock:
            if command != self._running or self.channel.was_interrupted:
                return False
            self._ours = True
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            return True

    def _kept(self):
        return {**super()._kept(), "after": self.after}

    # -- what a client gets as data, beside what a person reads

    def _show_exit(self, value):
        sys.stdout.flush()
        self.channel.bundle("display", {"text/plain": value, _EXIT: value}, None, display_id=None)

    def display(self, *objects, **options):
        """Shows tables, figures and anything else with a rich representation."""
        for thing in objects:
            if _is_pandas(thing):
                self._publish(tables.of_pandas(thing))
            elif spark.is_frame(thing):
                self._show_table(thing)
            else:
                super().display(thing, **options)

    def _show_table(self, frame, is_result=True):
        self._publish(tables.of_spark(frame))

    def _publish(self, bundle):
        from IPython.display import display

        display(bundle, raw=True)


def _is_pandas(thing):
    kind = type(thing)
    return kind.__name__ == "DataFrame" and kind.__module__.startswith("pandas.")
