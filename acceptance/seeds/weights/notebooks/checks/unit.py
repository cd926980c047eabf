# Databricks notebook source
# MAGIC %run  ./../score

# COMMAND ----------

# MAGIC %run ./report

# COMMAND ----------

dbutils.widgets.text("storage", "")
storage = dbutils.widgets.get("storage")
report = Report("unit")


@report.check
def two_points_lie_on_the_line():
    assert predict_weight({"intercept": -10.0, "slope": 2.5}, 0) == -10.0
    assert predict_weight({"intercept": -10.0, "slope": 2.5}, 4) == 0.0


@report.check
def scoring_keeps_every_row():
    rows = score_file(f"{storage}/models/line.json", f"{storage}/data/heights.csv", f"{storage}/results/scored.csv")
    scored = pd.read_csv(f"{storage}/results/scored.csv")
    assert rows == len(scored) == 4
    assert list(scored.columns) == ["height", "weight"]

# COMMAND ----------

dbutils.notebook.exit(report.write(f"{storage}/results/unit.xml"))
