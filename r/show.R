# What a cell shows beside text: tables, HTML and plots.

ROWS_SHOWN <- 1000L
PLOTS_MAX <- 100L

# -- tables

display <- function(x, ...) {
  if (is.matrix(x) || inherits(x, "table")) x <- as.data.frame(x)
  if (is_rows(x)) x <- do.call(rbind, lapply(x, as.data.frame, stringsAsFactors = FALSE))
  if (!is.data.frame(x)) {
    show_value(x)
    return(invisible())
  }
  shown <- utils::head(as.data.frame(x), ROWS_SHOWN)
  note <- if (nrow(x) > nrow(shown)) sprintf("The first %d of %d rows.", nrow(shown), nrow(x))
  text <- utils::capture.output(print(utils::head(shown, 60L)))
  if (nrow(x) > 60L) text <- c(text, sprintf("[%d rows]", nrow(x)))
  bundle <- list("text/plain" = paste(text, collapse = "\n"), "text/html" = html_table(shown, note))
  if (isTRUE(state$wants_data)) {
    ask("display", bundle, frame_data(shown, nrow(x) > nrow(shown)))
  } else {
    ask("display", bundle)
  }
  invisible()
}

# For programs that read a frame: see `tables.py`.
frame_data <- function(frame, more) {
  type <- function(column) {
    if (inherits(column, "Date")) return("date")
    if (inherits(column, "POSIXt")) return("timestamp")
    if (is.factor(column)) return("string")
    switch(typeof(column), logical = "boolean", integer = "long", double = "double", "string")
  }
  values <- function(column) {
    if (is.list(column)) column <- vapply(column, toString, "")
    if (inherits(column, c("Date", "POSIXt", "factor"))) column <- as.character(column)
    as.list(unname(column))
  }
  schema <- Map(function(name, column) list(name = name, type = type(column)), names(frame), frame)
  list(schema = unname(schema), columns = unname(lapply(frame, values)), more = more)
}

# A list of lists of the same names, such as `dbutils.fs.ls` gives.
is_rows <- function(x) {
  is.list(x) && !is.data.frame(x) && length(x) > 0L && is.null(names(x)) &&
    all(vapply(x, function(row) is.list(row) && identical(names(row), names(x[[1]])), NA)) && !is.null(names(x[[1]]))
}

html_table <- function(frame, note = NULL) {
  cell <- function(tag, text) paste0("<", tag, ">", escaped(text), "</", tag, ">")
  row <- function(cells) paste0("<tr>", paste(cells, collapse = ""), "</tr>")
  columns <- lapply(frame, function(column) {
    text <- if (is.list(column)) vapply(column, toString, "") else format(column, trim = TRUE)
    cell("td", valid(text))
  })
  rows <- if (nrow(frame)) do.call(paste0, c(list("<tr>", cell("th", row.names(frame))), unname(columns), list("</tr>")))
  paste0(
    "<table class=\"dataframe\"><thead>", row(cell("th", c("", names(frame)))), "</thead><tbody>",
    paste(rows, collapse = "\n"), "</tbody></table>", if (!is.null(note)) paste0("<p>", note, "</p>")
  )
}

escaped <- function(text) {
  text <- gsub("&", "&amp;", text, fixed = TRUE)
  text <- gsub("<", "&lt;", text, fixed = TRUE)
  gsub(">", "&gt;", text, fixed = TRUE)
}

displayHTML <- function(html = "") {
  html <- paste(as.character(html), collapse = "\n")
  ask("display", list("text/html" = html, "text/plain" = html))
  invisible()
}

# -- plots: a device of ours opens when the first one is drawn, and closes with the cell

plot_device <- function(...) {
  folder <- tempfile("plots")
  dir.create(folder)
  option <- function(name, default) {
    value <- getOption(name, default)
    if (is.numeric(value) && length(value) == 1L && is.finite(value) && value > 0) value else default
  }
  grDevices::png(
    file.path(folder, "%03d.png"),
    width = option("repr.plot.width", 7), height = option("repr.plot.height", 5),
    units = "in", res = option("repr.plot.res", 96), type = "cairo"
  )
  state$plots <- c(state$plots, structure(folder, names = grDevices::dev.cur()))
}

show_plots <- function() {
  open <- state$plots
  state$plots <- NULL
  for (device in names(open)) {
    # The program may have closed it, and have opened another under its number.
    if (as.integer(device) %in% grDevices::dev.list() && is_ours(as.integer(device), open[[device]])) {
      grDevices::dev.off(as.integer(device))
    }
  }
  files <- unlist(lapply(unname(open), list.files, full.names = TRUE))
  for (file in utils::head(files, PLOTS_MAX)) ask("image", file)
  if (length(files) > PLOTS_MAX) {
    message(sprintf("%d plots of this cell are not shown; %d are the most.", length(files) - PLOTS_MAX, PLOTS_MAX))
  }
  unlink(open, recursive = TRUE)
  NULL
}

is_ours <- function(device, folder) {
  current <- grDevices::dev.cur()
  on.exit(if (current > 1L) grDevices::dev.set(current))
  grDevices::dev.set(device)
  path <- attr(get0(".Device", baseenv()), "filepath")
  is.null(path) || startsWith(path, folder)
}
