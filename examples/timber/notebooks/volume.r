# Databricks notebook source
# MAGIC %md
# MAGIC # The volume of a tree
# MAGIC
# MAGIC A trunk is nearly a cone, so the logarithm of its volume is linear in those of diameter and height.

# COMMAND ----------

train_volume <- function(trees) {
  lm(log(volume) ~ log(diameter) + log(height), data = trees)
}

# Cubic metres, for diameters and heights in metres.
predict_volume <- function(model, diameter, height) {
  if (any(diameter <= 0) || any(height <= 0)) stop("a tree has a diameter and a height above 0")
  unname(exp(predict(model, data.frame(diameter = diameter, height = height))))
}

# COMMAND ----------

score_file <- function(model, input, output) {
  trees <- read.csv(input)
  trees$volume <- round(predict_volume(model, trees$diameter, trees$height), 4)
  write.csv(trees, output, row.names = FALSE, quote = FALSE)
  nrow(trees)
}
