# Databricks notebook source
# MAGIC %run ./volume

# COMMAND ----------

dbutils.widgets.text("storage", "/dbfs/timber")
storage <- dbutils.widgets.get("storage")
R.version.string

# COMMAND ----------

trees <- read.csv(file.path(storage, "data/trees.csv"))
model <- train_volume(trees)
summary(model)

# COMMAND ----------

plot(trees$volume, predict_volume(model, trees$diameter, trees$height), xlab = "measured", ylab = "predicted")
abline(0, 1)

# COMMAND ----------

dir.create(file.path(storage, "models"), showWarnings = FALSE)
saveRDS(model, file.path(storage, "models/volume.rds"))
dbutils.notebook.exit(sprintf("%.4f", summary(model)$r.squared))
