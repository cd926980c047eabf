# Databricks notebook source
import time
import traceback
from xml.sax.saxutils import escape, quoteattr


class Report:
    """Runs checks as they are declared and writes them as JUnit XML; a failed check does not stop the next one."""

    def __init__(self, suite):
        self.suite, self.cases = suite, []

    def check(self, function):
        started, failure = time.time(), None
        try:
            function()
        except Exception:
            failure = traceback.format_exc()
        self.cases.append((function.__name__, time.time() - started, failure))
        return function

    def failures(self):
        return sum(failure is not None for _, _, failure in self.cases)

    def write(self, path):
        lines = [f'<testsuite name={quoteattr(self.suite)} tests="{len(self.cases)}" failures="{self.failures()}">']
        for name, seconds, failure in self.cases:
            inner = f"<failure>{escape(failure)}</failure>" if failure else ""
            lines.append(f'  <testcase classname={quoteattr(self.suite)} name={quoteattr(name)} time="{seconds:.3f}">{inner}</testcase>')
        with open(path, "w") as file:
            file.write("\n".join([*lines, "</testsuite>"]))
        return str(self.failures())
