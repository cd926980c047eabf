# Databricks notebook source
# MAGIC %run ../volume

# COMMAND ----------

# MAGIC %run ./report

# COMMAND ----------

storage <- getArgument("storage")
model <- readRDS(file.path(storage, "models/volume.rds"))

count <- report_to(file.path(storage, "results/model.xml"), {
  context("model")
  test_that("a tree of 35 cm and 24 m has about 0.9 cubic metres", {
    volume <- predict_volume(model, 0.35, 24)
    expect_gt(volume, 0.8)
    expect_lt(volume, 1)
  })
  test_that("it explains nearly all there is", {
    expect_equal(summary(model)$r.squared, 0.978, tolerance = 0.001)
  })
})
dbutils.notebook.exit(as.character(count))
