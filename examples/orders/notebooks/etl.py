# Databricks notebook source
# MAGIC %md
# MAGIC # Revenue by customer and month

# COMMAND ----------

dbutils.widgets.text("tables", "orders")
dbutils.widgets.text("drop", "no")
tables = dbutils.widgets.get("tables")
spark.sql(f"create database if not exists {tables}")

# COMMAND ----------

# Raw orders: some come twice, and some have no amount.
raw = spark.range(10_000).selectExpr(
    "cast(id - id % 50 % 2 as bigint) as order_id",
    "cast(id * 7919 % 500 as int) as customer",
    "date_add(date'2025-01-01', cast(id % 180 as int)) as day",
    "case when id % 97 = 0 then null else cast(id * 104729 % 10000 as bigint) end as cents",
)
raw.write.format("parquet").mode("overwrite").saveAsTable(f"{tables}.raw")

# COMMAND ----------

cleaned = spark.sql(
    f"""
    select order_id, min(customer) as customer, min(day) as day, max(cents) as cents
    from {tables}.raw
    where cents is not null
    group by order_id
    """
)
cleaned.write.format("parquet").mode("overwrite").saveAsTable(f"{tables}.cleaned")

# COMMAND ----------

from pyspark.sql import functions as F


@F.udf("string")
def tier(cents):
    return "gold" if cents >= 20_000 else "silver" if cents >= 8_000 else "bronze"


monthly = (
    spark.table(f"{tables}.cleaned")
    .groupBy("customer", F.date_format("day", "yyyy-MM").alias("month"))
    .agg(F.sum("cents").alias("cents"), F.count("*").alias("orders"))
    .withColumn("tier", tier("cents"))
)
monthly.write.format("parquet").mode("overwrite").saveAsTable(f"{tables}.monthly")

# COMMAND ----------

# MAGIC %sql
# MAGIC select month, tier, count(*) as customers, sum(orders) as orders, sum(cents) as cents
# MAGIC from ${tables}.monthly group by month, tier order by month, tier

# COMMAND ----------

import json

figures = [list(row) for row in _sqldf.collect()]
best = spark.sql(
    f"""
    select month, customer, cents from (
        select *, row_number() over (partition by month order by cents desc, customer) as place from {tables}.monthly
    ) where place <= 2 order by month, place
    """
)
result = {"figures": figures, "best": [list(row) for row in best.collect()]}
if dbutils.widgets.get("drop") == "yes":
    spark.sql(f"drop database {tables} cascade")
dbutils.notebook.exit(json.dumps(result))
