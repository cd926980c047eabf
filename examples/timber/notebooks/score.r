# Databricks notebook source
# MAGIC %run ./volume

# COMMAND ----------

dbutils.widgets.text("model", "/dbfs/timber/models/volume.rds")
dbutils.widgets.text("input", "/dbfs/timber/data/trees.csv")
dbutils.widgets.text("output", "/dbfs/timber/scored.csv")

# COMMAND ----------

model <- readRDS(dbutils.widgets.get("model"))
rows <- score_file(model, dbutils.widgets.get("input"), dbutils.widgets.get("output"))
display(head(read.csv(dbutils.widgets.get("output"))))

# COMMAND ----------

dbutils.notebook.exit(as.character(rows))
