# Databricks notebook source
# MAGIC %run ./../score

# COMMAND ----------

# MAGIC %run ./report

# COMMAND ----------

storage = getArgument("storage")
report = Report("model")


@report.check
def a_known_height_gives_the_known_weight():
    weight = predict_weight(load_model(f"{storage}/models/line.json"), 79)
    assert 192 < weight < 193, weight

# COMMAND ----------

dbutils.notebook.exit(report.write(f"{storage}/results/model.xml"))
