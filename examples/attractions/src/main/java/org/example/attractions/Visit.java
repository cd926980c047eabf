package org.example.attractions;

import java.io.Serializable;

/** How much somebody liked an attraction, from 1 to 5. A bean, as Spark's encoders want it. */
public class Visit implements Serializable {
    private int visitor;
    private int attraction;
    private float liked;

    public Visit() {}

    public Visit(int visitor, int attraction, float liked) {
        this.visitor = visitor;
        this.attraction = attraction;
        this.liked = liked;
    }

    public int getVisitor() {
        return visitor;
    }

    public void setVisitor(int visitor) {
        this.visitor = visitor;
    }

    public int getAttraction() {
        return attraction;
    }

    public void setAttraction(int attraction) {
        this.attraction = attraction;
    }

    public float getLiked() {
        return liked;
    }

    public void setLiked(float liked) {
        this.liked = liked;
    }
}
