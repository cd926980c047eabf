# Databricks notebook source
# MAGIC %run ../volume

# COMMAND ----------

# MAGIC %run ./report

# COMMAND ----------

storage <- getArgument("storage")
cone <- data.frame(diameter = c(0.2, 0.3, 0.4, 0.5), height = c(10, 30, 20, 15))
cone$volume <- pi * cone$diameter^2 / 4 * cone$height / 3

count <- report_to(file.path(storage, "results/unit.xml"), {
  context("unit")
  test_that("cones are learned exactly", {
    model <- suppressWarnings(train_volume(cone))
    expect_equal(predict_volume(model, 0.35, 25), pi * 0.35^2 / 4 * 25 / 3, tolerance = 1e-6)
  })
  test_that("a tree without a height is refused", {
    expect_error(predict_volume(NULL, 0.3, 0), "above 0")
  })
  test_that("scoring keeps every row", {
    output <- tempfile(fileext = ".csv")
    rows <- score_file(suppressWarnings(train_volume(cone)), file.path(storage, "data/trees.csv"), output)
    expect_equal(rows, 31)
    expect_named(read.csv(output), c("diameter", "height", "volume"))
  })
})
dbutils.notebook.exit(as.character(count))
