# Databricks notebook source
# MAGIC %md
# MAGIC ## Evaluate
# MAGIC Examines the stored model on days it has never seen, beside the rule of thumb "as in the same hour last week".

# COMMAND ----------

# MAGIC %run ./config

# COMMAND ----------

import json

import pandas as pd

from demand.features import TARGET, split_by_time
from demand.measures import mean_absolute_error, skill
from demand.model import DemandModel

_, holdout = split_by_time(pd.read_parquet(features_path), holdout_days)
forecast = pd.Series(DemandModel.load(model_path).predict(holdout), index=holdout.index, name="forecast")

# COMMAND ----------

model_error = mean_absolute_error(holdout[TARGET], forecast)
last_week_error = mean_absolute_error(holdout[TARGET], holdout["demand_168h_ago"])
result = {
    "hours": len(holdout),
    "model_error_mw": round(model_error, 3),
    "last_week_error_mw": round(last_week_error, 3),
    "skill": round(skill(model_error, last_week_error), 3),
}
print(json.dumps(result, indent=2))

# COMMAND ----------

import matplotlib.pyplot as plt

week = holdout.index[: 7 * 24]
figure, axes = plt.subplots(figsize=(9, 3))
axes.plot(week, holdout.loc[week, TARGET], label="demand")
axes.plot(week, forecast.loc[week], label="forecast of the day before")
axes.set_ylabel("MW")
axes.legend()
plt.show()

# COMMAND ----------

by_hour = pd.DataFrame({"demand": holdout[TARGET], "forecast": forecast}).groupby(holdout.index.hour).mean().round(2)
by_hour.index.name = "hour"
display(by_hour)

# COMMAND ----------

with open(f"{output_path}/result.json", "w") as file:
    json.dump(result, file)
dbutils.notebook.exit(json.dumps(result))
