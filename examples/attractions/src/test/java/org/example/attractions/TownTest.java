package org.example.attractions;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TownTest {
    private final List<Visit> visits = new Town(50, 20).visits();

    @Test
    void aboutHalfOfAllPairsIsAVisit() {
        assertTrue(Math.abs(visits.size() - 500) < 40, "visits: " + visits.size());
    }

    @Test
    void whatSomebodyPrefersIsLikedBetterThanAnythingElse() {
        for (Visit visit : visits) {
            boolean preferred = Town.preferred(visit.getVisitor()) == Town.kindOf(visit.getAttraction());
            assertEquals(preferred, visit.getLiked() > 3, "liked: " + visit.getLiked());
            assertTrue(visit.getLiked() >= 1 && visit.getLiked() <= 5);
        }
    }

    @Test
    void aTownWithoutAttractionsIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> new Town(1, Town.KINDS - 1));
    }

    @Test
    void theResultNamesTheVersionThatMadeIt(@TempDir Path folder) throws Exception {
        Train.note(folder, 0.25);
        Path noted = folder.resolve("attractions-" + Library.version() + ".json");
        assertEquals("{\"version\": \"" + Library.version() + "\", \"rmse\": 0.250000}", Files.readString(noted).strip());
        assertTrue(Library.version().matches("\\d+\\.\\d+\\.\\d+"), Library.version());
    }
}
