# The half of a run that lives inside R: it takes cells from the session in `python/forebay_driver/r.py`
# and executes them.
#
# What comes in is R source, what goes out is JSON; each way after 4 bytes of length (big endian). R has
# a parser for the one, and a writer of the other is short. Cell by cell: in comes `list(cell = ...)`,
# out go calls, each of which is answered, and at last one frame with how the cell ended.

state <- new.env()

connect <- function(incoming, outgoing) {
  state$fds <- c(incoming, outgoing)
  state$owner <- Sys.getpid()
  open_connections()
}

open_connections <- function() {
  open <- function(fd, mode) file(sprintf("/dev/fd/%d", fd), mode, raw = TRUE)
  state$incoming <- open(state$fds[1], "rb")
  state$outgoing <- open(state$fds[2], "wb")
}

# `closeAllConnections()` of a program closes ours as well; the descriptors below them stay.
reopen <- function() {
  lives <- function(con) tryCatch(isOpen(con), error = function(e) FALSE)
  if (!lives(state$incoming) || !lives(state$outgoing)) open_connections()
}

receive <- function() {
  length <- readBin(state$incoming, "integer", 1L, size = 4L, endian = "big")
  # The session is gone, and the run with it.
  if (!length(length)) quit(save = "no", status = 0L, runLast = FALSE)
  text <- rawToChar(readBin(state$incoming, "raw", length))
  Encoding(text) <- "UTF-8"
  eval(parse(text = text, keep.source = FALSE, encoding = "UTF-8"), baseenv())
}

send <- function(frame) {
  body <- charToRaw(enc2utf8(json(frame)))
  writeBin(c(writeBin(length(body), raw(), size = 4L, endian = "big"), body), state$outgoing)
  flush(state$outgoing)
}

# Asks the session and waits for the answer; a refusal is an error of the class that it names.
ask <- function(method, ...) {
  if (Sys.getpid() != state$owner) {
    stop("a forked process has no connection to the notebook's server", call. = FALSE)
  }
  answer <- suspendInterrupts({
    reopen()
    send(list(t = "call", method = method, args = list(...)))
    receive()
  })
  if (is.null(answer$error)) return(answer$ok)
  classes <- c(answer$error$kind, "error", "condition")
  stop(structure(class = classes, list(message = answer$error$message, call = NULL)))
}

json <- function(value) {
  if (is.null(value)) return("null")
  if (is.factor(value)) value <- as.character(value)
  names <- names(value)
  if (is.list(value) || length(value) != 1L || !is.null(names)) {
    parts <- vapply(as.list(unname(value)), json, "")
    if (length(value) == 0L) return(if (is.null(names)) "[]" else "{}")
    if (is.null(names)) return(paste0("[", paste(parts, collapse = ","), "]"))
    return(paste0("{", paste0(quoted(names), ":", parts, collapse = ","), "}"))
  }
  if (is.character(value)) return(if (is.na(value)) "null" else quoted(value))
  if (is.logical(value)) return(if (is.na(value)) "null" else tolower(value))
  if (is.numeric(value)) {
    return(if (is.finite(value)) format(value, digits = 15L, trim = TRUE, scientific = NA) else "null")
  }
  quoted(paste(as.character(value), collapse = " "))
}

quoted <- function(text) {
  text <- valid(text)
  for (pair in list(c("\\", "\\\\"), c("\"", "\\\""), c("\n", "\\n"), c("\r", "\\r"), c("\t", "\\t"))) {
    text <- gsub(pair[1], pair[2], text, fixed = TRUE)
  }
  for (code in which(vapply(c(1:8, 11:12, 14:31), function(c) any(grepl(intToUtf8(c), text, fixed = TRUE)), NA))) {
    code <- c(1:8, 11:12, 14:31)[code]
    text <- gsub(intToUtf8(code), sprintf("\\u%04x", code), text, fixed = TRUE)
  }
  paste0("\"", text, "\"")
}

# UTF-8, whatever it was; bytes that are none show as <ff>.
valid <- function(text) {
  text <- enc2utf8(as.character(text))
  iconv(text, "UTF-8", "UTF-8", sub = "byte")
}

# Before anything of a run is known.
prepare <- function() {
  state$jit <- .Internal(enableJIT(0L))
  options(device = plot_device, bitmapType = "cairo", menu.graphics = FALSE)
  # Apart from the workspace, so that `rm(list = ls())` does not take them.
  attach(program_names, name = "forebay", warn.conflicts = FALSE)
}

begin <- function(incoming, outgoing) {
  connect(incoming, outgoing)
  serve()
}

# The run's own, which is settled later than R's start.
set_environment <- function(variables) {
  do.call(Sys.setenv, variables)
  seed <- Sys.getenv("FOREBAY_SEED")
  if (nzchar(seed)) set.seed(as.integer(seed))
  .libPaths(c(strsplit(Sys.getenv("R_LIBS"), ":", fixed = TRUE)[[1]], .libPaths()))
}

# In a parent that forks: what a first cell would wait for.
warm <- function() {
  driver <- environment(warm)
  # Only functions that programs call are worth it: the rest is too little to be felt.
  for (name in names(driver)) {
    if (is.function(driver[[name]])) driver[[name]] <- compiler::cmpfun(driver[[name]])
  }
  nowhere <- file("/dev/null", "w")
  sink(nowhere)
  for (source in c("x <- 1\nx; 'text'", "data.frame(a = 1:2)", "print(environment)")) run_cell(source, "warm", 0L)
  html_table(data.frame(a = 1:2))
  sink()
  close(nowhere)
  rm("x", envir = globalenv())
  gc()
}

serve <- function() {
  # An interrupt between two cells has nothing to stop.
  repeat suspendInterrupts({
    request <- receive()
    if (is.null(request$source)) {
      set_environment(request$environment)
      state$wants_data <- isTRUE(request$wants_data)
    } else {
      outcome <- run_cell(request$source, request$label, request$lines_before)
      reopen()
      send(c(list(t = "done"), outcome))
    }
  })
}
