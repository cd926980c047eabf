# Databricks notebook source
# MAGIC %md
# MAGIC ## Train
# MAGIC Fits the model on everything before the examination days.

# COMMAND ----------

# MAGIC %run ./config

# COMMAND ----------

import pandas as pd

from demand.features import split_by_time
from demand.model import fit

training, holdout = split_by_time(pd.read_parquet(features_path), holdout_days)
model = fit(training, ridge)
model.save(model_path)
print(f"trained on {len(training)} hours, {len(holdout)} kept for the examination")

# COMMAND ----------

pd.Series(model.weights, index=model.columns, name="MW per standard deviation").sort_values().round(2)

# COMMAND ----------

dbutils.notebook.exit(model_path)
