# Entry of an R process: `R -f main.R --args FOLDER IN OUT`. Of one that forks later: `--args FOLDER`.
local({
  arguments <- commandArgs(trailingOnly = TRUE)
  driver <- new.env(parent = .BaseNamespaceEnv)
  for (file in c("driver.R", "cell.R", "show.R", "dbutils.R")) {
    sys.source(file.path(arguments[1], file), driver, keep.source = FALSE)
  }
  driver$prepare()
  if (length(arguments) == 1L) driver$warm() else driver$begin(as.integer(arguments[2]), as.integer(arguments[3]))
})
