package org.example.attractions;

import java.io.IOException;
import java.io.InputStream;
import java.util.Properties;

/** What this JAR says of itself. */
public final class Library {
    private Library() {}

    /** Its version, as Maven built it. */
    public static String version() {
        try (InputStream source = Library.class.getResourceAsStream("version.properties")) {
            Properties properties = new Properties();
            properties.load(source);
            return properties.getProperty("version");
        } catch (IOException error) {
            throw new IllegalStateException("the JAR cannot be read", error);
        }
    }
}
