# Databricks notebook source
# MAGIC %md
# MAGIC Runs training and tests of one build. The notebook's language is R; its work is done in Python.

# COMMAND ----------

# MAGIC %python
# MAGIC workspace, storage = getArgument("workspace"), getArgument("storage")
# MAGIC trained = dbutils.notebook.run(f"{workspace}/train", 600, {"storage": storage})
# MAGIC print(f"{getArgument('repo')} build {getArgument('build')} of {getArgument('branch')}: R squared is {trained}")

# COMMAND ----------

# MAGIC %python
# MAGIC failed = []
# MAGIC for suite in ("unit", "model"):
# MAGIC     try:
# MAGIC         count = dbutils.notebook.run(f"{workspace}/tests/{suite}", 600, {"storage": storage})
# MAGIC         print(suite, count, "tests passed")
# MAGIC     except Exception as error:
# MAGIC         print(suite, error)
# MAGIC         failed.append(suite)
# MAGIC if failed:
# MAGIC     raise SystemExit(f"red: {', '.join(failed)}")
