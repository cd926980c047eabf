package org.example.attractions;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.apache.spark.sql.SparkSession;

/** The job: trains, says how good it is, and notes it as a line of JSON in the folder it is given, if any. */
public final class Train {
    /** The last one is not among the visitors. */
    private static final List<Integer> ASKED = List.of(0, 7, 13, 9999);

    private Train() {}

    public static void main(String[] args) throws IOException {
        System.out.println("attractions " + Library.version());
        SparkSession spark = SparkSession.builder().appName("attractions").getOrCreate();
        try {
            Recommender recommender = Recommender.train(spark, new Town(300, 40).visits());
            // Six places, so that what is the same looks the same.
            System.out.printf(Locale.ROOT, "rmse %.6f%n", recommender.error());
            recommender.best(spark, ASKED).forEach((visitor, best) -> System.out.println("best of " + visitor + " " + best));
            if (args.length > 0) {
                note(Path.of(args[0]), recommender.error());
            }
        } finally {
            spark.stop();
        }
    }

    static void note(Path folder, double error) throws IOException {
        Files.createDirectories(folder);
        String line = String.format(Locale.ROOT, "{\"version\": \"%s\", \"rmse\": %.6f}%n", Library.version(), error);
        Files.writeString(folder.resolve("attractions-" + Library.version() + ".json"), line);
    }
}
