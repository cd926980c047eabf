# Databricks notebook source
# MAGIC %md
# MAGIC ## Prepare
# MAGIC Reads the hourly readings and writes one row of features for each hour.

# COMMAND ----------

# MAGIC %run ./config

# COMMAND ----------

from demand.features import build_features, read_readings

readings = read_readings(data_path)
print(f"{len(readings)} hours from {readings.index[0]} to {readings.index[-1]}")
readings.describe().round(2)

# COMMAND ----------

features = build_features(readings)
features.to_parquet(features_path)
display(features.head())

# COMMAND ----------

dbutils.notebook.exit(str(len(features)))
