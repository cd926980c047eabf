# Databricks notebook source
# MAGIC %md
# MAGIC ## Expected weight for a height
# MAGIC Scores a file of heights with the straight line that was fitted earlier.

# COMMAND ----------

import json

import pandas as pd


def load_model(path):
    with open(path) as file:
        return json.load(file)


def predict_weight(model, height):
    return model["intercept"] + model["slope"] * height

# COMMAND ----------

# MAGIC %python
# MAGIC def score_file(model_path, input_path, output_path):
# MAGIC     frame = pd.read_csv(input_path)
# MAGIC     frame["weight"] = predict_weight(load_model(model_path), frame["height"])
# MAGIC     frame.to_csv(output_path, index=False)
# MAGIC     return len(frame)
