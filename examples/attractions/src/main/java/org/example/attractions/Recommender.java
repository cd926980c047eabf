package org.example.attractions;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.spark.ml.evaluation.RegressionEvaluator;
import org.apache.spark.ml.recommendation.ALS;
import org.apache.spark.ml.recommendation.ALSModel;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/** Learns from visits what somebody would like. With one seed and the same visits it learns the same. */
public final class Recommender {
    private static final long SEED = 321;
    private static final int TOP = 3;

    private final ALSModel model;
    private final double error;

    private Recommender(ALSModel model, double error) {
        this.model = model;
        this.error = error;
    }

    /** Learns from four fifths of the visits and measures itself on the others. */
    public static Recommender train(SparkSession spark, List<Visit> visits) {
        // In one partition: which part of the split a row is in depends on its place.
        Dataset<Visit> all = spark.createDataset(visits, Encoders.bean(Visit.class)).coalesce(1);
        Dataset<Visit>[] parts = all.randomSplit(new double[] {0.8, 0.2}, SEED);
        ALSModel model =
                new ALS()
                        .setUserCol("visitor")
                        .setItemCol("attraction")
                        .setRatingCol("liked")
                        .setRank(4)
                        .setMaxIter(8)
                        .setRegParam(0.1)
                        .setNumBlocks(1)
                        .setSeed(SEED)
                        .setColdStartStrategy("drop")
                        .fit(parts[0]);
        RegressionEvaluator evaluator =
                new RegressionEvaluator().setMetricName("rmse").setLabelCol("liked").setPredictionCol("prediction");
        return new Recommender(model, evaluator.evaluate(model.transform(parts[1])));
    }

    /** Root of the mean squared error on visits it has not seen. */
    public double error() {
        return error;
    }

    /** By visitor, the attractions they would like best. Whom it has never seen is left out. */
    public Map<Integer, List<Integer>> best(SparkSession spark, List<Integer> visitors) {
        Dataset<Row> asked = spark.createDataset(visitors, Encoders.INT()).toDF("visitor");
        Map<Integer, List<Integer>> best = new TreeMap<>();
        for (Row row : model.recommendForUserSubset(asked, TOP).collectAsList()) {
            List<Row> found = row.getList(1);
            best.put(row.getInt(0), found.stream().map(each -> each.getInt(0)).collect(Collectors.toList()));
        }
        return best;
    }
}
