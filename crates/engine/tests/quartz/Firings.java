import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Date;
import java.util.HexFormat;
import java.util.TimeZone;
import org.quartz.CronExpression;

/** Prints the firings of the expressions, see README.md. */
public class Firings {
  static final String[] ZONES = {
    "UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe",
    "Pacific/Chatham", "Asia/Kolkata", "America/St_Johns", "GMT+02:00", "PST"
  };
  static final Date FROM = Date.from(Instant.parse("2027-01-01T00:00:00Z"));
  static final Date TO = Date.from(Instant.parse("2029-01-01T00:00:00Z"));
  static final int MAX = 20_000;
  static final int SHOWN = 20;

  public static void main(String[] args) throws Exception {
    for (String expression : Files.readAllLines(Path.of(args[0]))) {
      for (String zone : ZONES) System.out.println(row(expression, zone));
    }
  }

  static String row(String expression, String zone) throws Exception {
    CronExpression cron = new CronExpression(expression);
    cron.setTimeZone(TimeZone.getTimeZone(zone));
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    StringBuilder shown = new StringBuilder();
    int count = 0;
    long before = FROM.getTime() / 1000;
    for (Date at = cron.getNextValidTimeAfter(FROM);
        at != null && at.before(TO) && count < MAX;
        at = cron.getNextValidTimeAfter(at)) {
      long second = at.getTime() / 1000;
      digest.update((second + "\n").getBytes(StandardCharsets.US_ASCII));
      if (count < SHOWN) shown.append(' ').append(second - before);
      before = second;
      count++;
    }
    String hex = HexFormat.of().formatHex(digest.digest()).substring(0, 16);
    return String.join("\t", expression, zone, "" + count, hex, shown.toString().trim());
  }
}
