"""R packages of one run: the workspace's library of just this set, and before it a folder of the run's own."""

import os
import subprocess
import sys
import tempfile

from . import r, shelf

_LOG_LINES_MAX = 40


class InstallError(Exception):
    pass


def split(libraries):
    """Those of a task that are for R, and the others."""
    of_r = [library for library in libraries if library["type"] == "cran"]
    return of_r, [library for library in libraries if library["type"] != "cran"]


class Library:
    def __init__(self, job):
        # Made with the folder that it is in, see scratch.rs.
        self._own = os.path.join(job["local_dir"], "r")
        self._shelf = shelf.Shelf(os.path.join(job["env"]["UV_CACHE_DIR"], "r"), os.path.join(job["local_dir"], ".r-library"))

    def activate(self):
        """For every R of this run, also one that a shell starts. What a program installs goes to
        the first folder."""
        folders = [self._own, *self._shelf.taken()]
        inherited = os.environ.get("R_LIBS", "").split(os.pathsep)
        folders += [folder for folder in inherited if folder and folder not in folders]
        os.environ["R_LIBS"] = os.pathsep.join(folders)

    def install(self, libraries):
        """Makes the packages ready, from the cache if just this set was installed before.

        `libraries`: `{"package": "testthat", "repo": None}`. Without a repo, a package that the
        machine has is taken as it is."""
        wanted = self._missing(libraries)
        if not wanted:
            return
        # Compiled packages belong to one version of R, and to the libraries of one machine.
        version = _rscript("cat(R.version.string, R.version$platform)", []).stdout
        self._shelf.take(self._shelf.place(version, wanted), lambda draft: [_install(library, draft) for library in wanted])
        self.activate()

    @staticmethod
    def _missing(libraries):
        names = [library["package"] for library in libraries if not library["repo"]]
        code = "cat(.packages(all.available = TRUE), sep = '\\n')"
        there = _rscript(code, []).stdout.split("\n") if names else []
        return [library for library in libraries if library["repo"] or library["package"] not in there]


# `install.packages` ends well whatever happened, so look whether the package is there.
_INSTALL = """
arguments <- commandArgs(trailingOnly = TRUE)
options(warn = 1, timeout = 600)
repos <- if (nzchar(arguments[3])) arguments[3] else getOption("repos")
if ("@CRAN@" %in% repos) stop("no repository is configured: name one as \\"repo\\" of the library, or in R's Rprofile.site")
.libPaths(c(arguments[2], .libPaths()))
known <- rownames(available.packages(repos = repos))
if (!arguments[1] %in% known) stop(sprintf("package %s is not in %s", arguments[1], paste(repos, collapse = ", ")))
install.packages(arguments[1], lib = arguments[2], repos = repos, Ncpus = 2L, INSTALL_opts = "--no-docs")
if (!arguments[1] %in% .packages(all.available = TRUE, lib.loc = arguments[2])) quit(status = 1L)
"""


def _install(library, folder):
    package, repo = library["package"], library["repo"] or ""
    print(f"Installing the R package {package}.", flush=True)
    done = _rscript(_INSTALL, [package, folder, repo], check=False)
    log = done.stdout.strip()
    if not done.returncode:
        return
    print(log, file=sys.stderr, flush=True)
    last = "\n".join(log.split("\n")[-_LOG_LINES_MAX:])
    raise InstallError(f"the R package {package} was not installed:\n{last}")


def _rscript(code, args, check=True):
    """Both streams come as one: the output of compilers has its place in the log."""
    with tempfile.NamedTemporaryFile("w", suffix=".R") as file:
        file.write(code)
        file.flush()
        command = [r.program("Rscript"), "--no-save", "--no-restore", "--no-init-file", file.name, *args]
        stderr = subprocess.DEVNULL if check else subprocess.STDOUT
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
        )
    if check and done.returncode:
        raise InstallError(f"Rscript ended with exit code {done.returncode}")
    return done
