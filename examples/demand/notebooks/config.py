# Databricks notebook source
# MAGIC %md
# MAGIC ### Parameters of the pipeline
# MAGIC Every notebook of the pipeline starts with `%run ./config`. A job or a test passes other values under the same names.

# COMMAND ----------

import os

dbutils.widgets.text("data", "../data/demand.csv", "Readings")
dbutils.widgets.text("output", "/dbfs/demand/latest", "Folder for results")
dbutils.widgets.text("holdout_days", "14", "Days kept for the examination")
dbutils.widgets.dropdown("ridge", "1.0", ["0.1", "1.0", "10.0"], "Strength of the ridge")

data_path = dbutils.widgets.get("data")
output_path = dbutils.widgets.get("output")
holdout_days = int(dbutils.widgets.get("holdout_days"))
ridge = float(dbutils.widgets.get("ridge"))

features_path = f"{output_path}/features.parquet"
model_path = f"{output_path}/model.json"
os.makedirs(output_path, exist_ok=True)
