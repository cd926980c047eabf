# Databricks notebook source
library(testthat)

# Runs tests, writes them as JUnit XML to `file`, and fails when one of them did.
report_to <- function(file, tests) {
  dir.create(dirname(file), recursive = TRUE, showWarnings = FALSE)
  seen <- ListReporter$new()
  with_reporter(MultiReporter$new(reporters = list(JunitReporter$new(file = file), seen)), tests)
  results <- as.data.frame(seen$get_results())
  bad <- results$failed > 0 | results$error
  if (any(bad)) stop("failed: ", paste(results$test[bad], collapse = ", "))
  nrow(results)
}
