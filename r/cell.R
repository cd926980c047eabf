# One cell: its expressions one by one, values shown as R's own prompt shows them.

# How it ended: `list(ok = TRUE)`, with `exit` when the program asked for the notebook's end, or
# `ename`, `evalue` and `traceback`.
run_cell <- function(source, label, lines_before) {
  lines <- c(rep("", lines_before), strsplit(source, "\r?\n")[[1]])
  outcome <- withRestarts(
    tryCatch(
      {
        allowInterrupts(evaluate(lines, label))
        list(ok = TRUE)
      },
      error = failed,
      interrupt = function(condition) {
        list(ok = FALSE, ename = "Interrupt", evalue = "the cell was interrupted", traceback = list("Interrupt"))
      }
    ),
    forebay_exit = function(value) list(ok = TRUE, exit = value)
  )
  state$trace <- NULL
  # Also of a cell that failed: what was drawn so far may say why.
  problem <- tryCatch(show_plots(), error = failed)
  if (isTRUE(outcome$ok) && !is.null(problem)) problem else outcome
}

evaluate <- function(lines, label) {
  source <- srcfilecopy(label, lines)
  state$place <- state$trace <- NULL
  expressions <- tryCatch(
    parse(text = lines, keep.source = TRUE, srcfile = source),
    error = function(e) {
      classes <- c("SyntaxError", "error", "condition")
      stop(structure(class = classes, list(message = conditionMessage(e), call = NULL)))
    }
  )
  places <- attr(expressions, "srcref")
  for (index in seq_along(expressions)) {
    state$place <- places[[index]]
    state$warnings <- list()
    tryCatch(
      withCallingHandlers(top_level(expressions[[index]]), error = keep_trace, warning = keep_warning),
      finally = show_warnings()
    )
  }
}

top_level <- function(expression) {
  # Two frames of `eval` are between this one and the program's own.
  state$depth <- sys.nframe() + 2L
  # What is compiled is the program's code: for ours it is not worth loading the compiler.
  .Internal(enableJIT(state$jit))
  on.exit(.Internal(enableJIT(0L)))
  value <- withVisible(eval(expression, globalenv()))
  if (value$visible) show_value(value$value)
}

# The program's call, or nothing for what is called at the top level.
call_of <- function(condition) {
  call <- conditionCall(condition)
  if (!identical(call, quote(eval(expression, globalenv())))) call
}

show_value <- function(value) {
  if (isS4(value)) methods::show(value) else print(value)
}

# -- warnings: after the expression that caused them, as at R's prompt

keep_warning <- function(condition) {
  # At once, or as errors: R does that itself.
  if (!identical(as.integer(getOption("warn")), 0L)) return()
  state$warnings[[length(state$warnings) + 1L]] <- condition
  tryInvokeRestart("muffleWarning")
}

show_warnings <- function() {
  count <- length(state$warnings)
  if (count == 0L) return()
  kept <- state$warnings[seq_len(min(count, 50L))]
  state$warnings <- list()
  texts <- vapply(kept, function(condition) {
    message <- valid(conditionMessage(condition))
    call <- call_of(condition)
    if (is.null(call)) return(message)
    call <- short(call)
    between <- if (nchar(call) + nchar(message) > 70L || grepl("\n", message)) " :\n  " else " : "
    paste0("In ", call, between, message)
  }, "")
  if (count == 1L) {
    cat("Warning message:\n", texts, "\n", sep = "", file = stderr())
  } else {
    cat("Warning messages:\n", paste0(seq_along(texts), ": ", texts, "\n"), sep = "", file = stderr())
    if (count > 50L) cat("and ", count - 50L, " more\n", sep = "", file = stderr())
  }
}

# -- errors

failed <- function(condition) {
  message <- valid(conditionMessage(condition))
  name <- class(condition)[1]
  if (name %in% c("simpleError", "rlang_error")) name <- "Error"
  call <- call_of(condition)
  head <- if (is.null(call)) paste0(name, ": ", message) else paste0(name, " in ", short(call), ": ", message)
  list(ok = FALSE, ename = name, evalue = message, traceback = as.list(c(head, state$trace)))
}

# Looks at the stack while it stands. Frames without a place in a cell are those of packages.
keep_trace <- function(condition) {
  calls <- sys.calls()
  driver <- environment(keep_trace)
  own <- list()
  for (index in seq_along(calls)[-seq_len(state$depth)]) {
    called <- sys.function(index)
    # This handler, or a function of ours that the program called.
    if (identical(environment(called), driver)) break
    if (!is_plumbing(calls[[index]])) own[[length(own) + 1L]] <- calls[[index]]
  }
  lines <- vapply(own, function(call) trace_line(call, attr(call, "srcref")), "")
  # The first call is a part of the expression itself, and has no place of its own.
  lines <- c(trace_line(NULL, state$place), lines[-1L])
  if (length(lines) > 60L) {
    left <- sprintf("  ... %d more", length(lines) - 60L)
    lines <- c(lines[1:30], left, utils::tail(lines, 30L))
  }
  state$trace <- lines
}

plumbing <- c(
  ".handleSimpleError", "h", "signalCondition", "withCallingHandlers", "doTryCatch", "tryCatchList",
  "tryCatchOne", "withRestarts", "withOneRestart", "doWithOneRestart", "eval", "withVisible"
)

is_plumbing <- function(call) {
  name <- call[[1]]
  is.function(name) || as.character(name)[1] %in% plumbing
}

trace_line <- function(call, place) {
  if (is.null(place)) return(paste0("  in ", short(call)))
  file <- attr(place, "srcfile")$filename
  text <- if (is.null(call)) paste(as.character(place), collapse = " ") else short(call)
  paste0("  at ", file, ", line ", place[1], ": ", substr(text, 1L, 120L))
}

short <- function(call) {
  text <- trimws(deparse(call, nlines = 2L))
  text <- if (length(text) > 1L) paste0(text[1], " ...") else text
  valid(substr(text, 1L, 120L))
}
