package org.example.attractions;

import java.util.ArrayList;
import java.util.List;

/**
 * An invented town: attractions are of three kinds, and each visitor prefers one of them. Made by arithmetic alone, so
 * that it is the same on every machine.
 */
public final class Town {
    public static final int KINDS = 3;

    private final int visitors;
    private final int attractions;

    public Town(int visitors, int attractions) {
        if (visitors < 1 || attractions < KINDS) {
            throw new IllegalArgumentException("a town needs a visitor and " + KINDS + " attractions");
        }
        this.visitors = visitors;
        this.attractions = attractions;
    }

    public static int kindOf(int attraction) {
        return attraction % KINDS;
    }

    public static int preferred(int visitor) {
        return visitor % KINDS;
    }

    /** About half of all pairs. */
    public List<Visit> visits() {
        List<Visit> visits = new ArrayList<>();
        for (int visitor = 0; visitor < visitors; visitor++) {
            for (int attraction = 0; attraction < attractions; attraction++) {
                if (mixed(visitor, attraction) % 2 == 0) {
                    visits.add(new Visit(visitor, attraction, liked(visitor, attraction)));
                }
            }
        }
        return visits;
    }

    /** Three more for the preferred kind, and a whim between -0.5 and 0.5. */
    static float liked(int visitor, int attraction) {
        float whim = mixed(attraction, visitor) % 101 / 100f - 0.5f;
        return (preferred(visitor) == kindOf(attraction) ? 4.5f : 1.5f) + whim;
    }

    /** A number that looks like chance and is none. */
    private static int mixed(int first, int second) {
        int number = first * 0x9E3779B1 + second * 0x85EBCA77;
        number = (number ^ number >>> 15) * 0x2C1B3C6D;
        number = (number ^ number >>> 12) * 0x297A2D39;
        return (number ^ number >>> 15) & 0x7FFFFFFF;
    }
}
