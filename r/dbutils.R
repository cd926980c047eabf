# `dbutils` as notebooks in R know it: plain functions whose names have dots. The work is done by the
# session, so that all languages of a notebook share widgets, secrets and file systems.

text <- function(value) paste(as.character(value), collapse = ",")

program_names <- list(
  dbutils.widgets.text = function(name, defaultValue = "", label = NULL) {
    invisible(ask("widgets.text", text(name), text(defaultValue)))
  },
  dbutils.widgets.dropdown = function(name, defaultValue, choices, label = NULL) {
    invisible(ask("widgets.dropdown", text(name), text(defaultValue), as.list(as.character(unlist(choices)))))
  },
  dbutils.widgets.combobox = function(name, defaultValue, choices = list(), label = NULL) {
    invisible(ask("widgets.combobox", text(name), text(defaultValue), as.list(as.character(unlist(choices)))))
  },
  dbutils.widgets.multiselect = function(name, defaultValue, choices, label = NULL) {
    invisible(ask("widgets.multiselect", text(name), text(defaultValue), as.list(as.character(unlist(choices)))))
  },
  dbutils.widgets.get = function(name) ask("widgets.get", text(name)),
  dbutils.widgets.getAll = function() ask("widgets.getAll"),
  dbutils.widgets.getArgument = function(name, defaultValue = NULL) argument(name, defaultValue),
  dbutils.widgets.remove = function(name) invisible(ask("widgets.remove", text(name))),
  dbutils.widgets.removeAll = function() invisible(ask("widgets.removeAll")),
  getArgument = function(name, defaultValue = NULL) argument(name, defaultValue),

  dbutils.notebook.run = function(path, timeout_seconds = 0, arguments = list(), ...) {
    given <- as.list(arguments)
    if (length(given) && is.null(names(given))) stop("dbutils.notebook.run: the arguments have no names", call. = FALSE)
    ask("notebook.run", text(path), as.integer(timeout_seconds), named(lapply(given, text)))
  },
  dbutils.notebook.exit = function(value = "") invokeRestart("forebay_exit", valid(text(value))),
  dbutils.notebook.getContext = function() ask("notebook.getContext"),

  dbutils.secrets.get = function(scope, key) ask("secrets.get", text(scope), text(key)),
  dbutils.secrets.getBytes = function(scope, key) as.raw(unlist(ask("secrets.getBytes", text(scope), text(key)))),
  dbutils.secrets.list = function(scope) ask("secrets.list", text(scope)),
  dbutils.secrets.listScopes = function() ask("secrets.listScopes"),

  dbutils.fs.ls = function(dir) ask("fs.ls", text(dir)),
  dbutils.fs.head = function(file, maxBytes = 65536L) ask("fs.head", text(file), as.integer(maxBytes)),
  dbutils.fs.put = function(file, contents, overwrite = FALSE) {
    invisible(ask("fs.put", text(file), paste(contents, collapse = "\n"), isTRUE(overwrite)))
  },
  dbutils.fs.mkdirs = function(dir) invisible(ask("fs.mkdirs", text(dir))),
  dbutils.fs.rm = function(dir, recurse = FALSE) invisible(ask("fs.rm", text(dir), isTRUE(recurse))),
  dbutils.fs.cp = function(from, to, recurse = FALSE) invisible(ask("fs.cp", text(from), text(to), isTRUE(recurse))),
  dbutils.fs.mv = function(from, to, recurse = FALSE) invisible(ask("fs.mv", text(from), text(to), isTRUE(recurse))),
  dbutils.fs.mounts = function() ask("fs.mounts"),
  dbutils.fs.refreshMounts = function() invisible(TRUE),

  dbutils.jobs.taskValues.set = function(key, value) invisible(ask("jobs.taskValues.set", text(key), value)),
  dbutils.jobs.taskValues.get = function(taskKey, key, default = NULL, debugValue = NULL) {
    ask("jobs.taskValues.get", text(taskKey), text(key), default, debugValue)
  },

  display = display,
  displayHTML = displayHTML,
  quit = function(...) no_quit(),
  q = function(...) no_quit()
)

argument <- function(name, default) {
  if (is.null(default)) ask("widgets.getArgument", text(name)) else ask("widgets.getArgument", text(name), text(default))
}

# An empty list has no names, and would be written as an array.
named <- function(values) if (length(values)) values else structure(list(), names = character())

no_quit <- function() {
  message <- "quit() would end R below the notebook; dbutils.notebook.exit(value) ends the notebook well, stop(message) fails it"
  stop(structure(class = c("QuitError", "error", "condition"), list(message = message, call = NULL)))
}
