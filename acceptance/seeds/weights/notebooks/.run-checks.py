# Databricks notebook source
for name in ("workspace", "storage", "repo", "build", "branch"):
    dbutils.widgets.text(name, "")
workspace, storage = getArgument("workspace"), dbutils.widgets.get("storage")
print(f"checks of {getArgument('repo')} build {getArgument('build')} on {getArgument('branch')}")

# COMMAND ----------

failures = 0
for name in ("unit", "model"):
    answer = dbutils.notebook.run(f"{workspace}/checks/{name}", 600, {"storage": storage})
    print(name, "failed checks:", answer)
    failures += int(answer)

# COMMAND ----------

if failures:
    raise AssertionError(f"{failures} checks failed")
dbutils.notebook.exit("all checks passed")
