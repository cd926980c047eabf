# Databricks notebook source
# MAGIC %md
# MAGIC # Integration test
# MAGIC Runs the whole pipeline with a test configuration, in a folder of its own, and checks what came out.

# COMMAND ----------

import json
import os
import shutil
import uuid

output = f"/dbfs/tmp/demand-test-{uuid.uuid4().hex[:12]}"
configuration = {"output": output, "holdout_days": "7", "ridge": "1.0"}
print("writing below", output)

# COMMAND ----------

# MAGIC %md ## Run the pipeline as a job would

# COMMAND ----------

rows = int(dbutils.notebook.run("../notebooks/prepare", 300, configuration))
dbutils.notebook.run("../notebooks/train", 300, configuration)
result = json.loads(dbutils.notebook.run("../notebooks/evaluate", 300, configuration))
result

# COMMAND ----------

# MAGIC %md ## Check the result

# COMMAND ----------

# 20 weeks of readings; the first week has no demand of a week before.
assert rows == 19 * 7 * 24, f"{rows} rows of features"
assert result["hours"] == 7 * 24, result
assert sorted(os.listdir(output)) == ["features.parquet", "model.json", "result.json"], os.listdir(output)

# COMMAND ----------

# The forecast has to be worth its trouble: at least half of last week's error must be gone.
assert result["skill"] > 0.5, f"the model avoids only {result['skill']:.0%} of the rule of thumb's error"

# COMMAND ----------

from demand.features import read_readings
from demand.model import DemandModel

# The stored model is complete: it can be loaded and used by somebody else.
model = DemandModel.load(f"{output}/model.json")
assert "heating" in model.columns
assert len(read_readings("../data/demand.csv")) == 20 * 7 * 24

# COMMAND ----------

shutil.rmtree(output)
dbutils.notebook.exit(json.dumps({"verdict": "passed", "rows": rows, **result}))
