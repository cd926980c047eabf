use std::fmt::Write as _;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

const FROM: Millis = Millis(1_798_761_600_000); // 2027-01-01
const TO: Millis = Millis(1_861_920_000_000); // 2029-01-01
const FIRINGS_MAX: usize = 20_000;

fn firings<'a>(cron: &'a Cron, zone: &'a Zone) -> impl Iterator<Item = Millis> + 'a {
    let next = |at: &Millis| cron.next_after(*at, zone);
    std::iter::successors(cron.next_after(FROM, zone), next).take_while(|at| *at < TO)
}

/// The table is what the real Quartz says, see `tests/quartz/README.md`.
#[test]
fn fires_when_quartz_fires() {
    let mut wrong = String::new();
    let table = include_str!("../../tests/quartz/firings.txt");
    for line in table.lines() {
        let [expression, zone, count, digest, shown] = line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("a line of five columns, not {line:?}");
        };
        let cron = Cron::parse(expression).unwrap();
        let zone = Zone::find(zone).unwrap();
        let (mut found, mut first, mut before) = (0_usize, String::new(), FROM.0 / 1000);
        let mut hash = Sha256::new();
        for at in firings(&cron, &zone).take(FIRINGS_MAX) {
            let second = at.0 / 1000;
            hash.update(format!("{second}\n"));
            if found < 20 {
                let space = if found == 0 { "" } else { " " };
                write!(first, "{space}{}", second - before).unwrap();
            }
            (found, before) = (found + 1, second);
        }
        let hash: String = hash.finalize()[..8]
            .iter()
            .fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            });
        if (found.to_string().as_str(), hash.as_str(), first.as_str()) != (count, digest, shown) {
            writeln!(
                wrong,
                "{expression} in {}: {found} of {count}\n  {first}\n  {shown}",
                zone.id()
            )
            .unwrap();
        }
    }
    assert_eq!(wrong, "");
    assert!(table.lines().count() >= 680);
}

#[test]
fn errors_name_the_field_the_position_and_what_is_allowed() {
    let check = |expression: &str, expected: &str| {
        assert_eq!(Cron::parse(expression).unwrap_err().to_string(), expected);
    };
    check(
        "0 0 24 * * ?",
        "hours, position 5: '24' is not allowed; 0 to 23",
    );
    check(
        "0 60 * * * ?",
        "minutes, position 3: '60' is not allowed; 0 to 59",
    );
    check(
        "0 0 0 1,32 * ?",
        "day of month, position 9: '32' is not allowed; 1 to 31",
    );
    check(
        "0 0 0 1 13 ?",
        "month, position 9: '13' is not allowed; 1 to 12, JAN to DEC",
    );
    check(
        "0 0 0 ? * MON-FRY",
        "day of week, position 15: 'FRY' is not allowed; 1 to 7, SUN to SAT",
    );
    check(
        "0 0 0 ? * 0",
        "day of week, position 11: '0' is not allowed; 1 to 7, SUN to SAT",
    );
    check(
        "0 0 0 ? * 6#6",
        "day of week, position 13: '6' after '#'; 1 to 5 is allowed",
    );
    check(
        "0 0 0 ? * 2,6L",
        "day of week, position 11: 'L' cannot be one of several entries",
    );
    check(
        "0 0 0 ? * 2#1,4#2",
        "day of week, position 11: '#' cannot be one of several entries",
    );
    check(
        "0 0 0 ? * MON/2",
        "day of week, position 15: a step after the name 'MON'; write it with numbers",
    );
    check(
        "0 0/61 * * * ?",
        "minutes, position 5: '61' is no step; 1 to 59 is allowed",
    );
    check(
        "0 0 0 L-31 * ?",
        "day of month, position 7: 'L-31' is not L, L-1 to L-30, LW or L-1W to L-30W",
    );
    check(
        "0 0 0 10-20W * ?",
        "day of month, position 7: '10-20' is not allowed; 1 to 31",
    );
    check(
        "0 0 0 1 1 ? 2030-2026",
        "year, position 13: the range '2030-2026' runs backwards",
    );
    check(
        "0 0 0 1 1 ? 1969",
        "year, position 13: '1969' is not allowed; 1970 to 2199",
    );
    check(
        "0 0 0 1, * ?",
        "day of month, position 9: a value is missing; 1 to 31",
    );
    check(
        "? 0 0 * * ?",
        "seconds, position 1: '?' is not allowed; 0 to 59",
    );
    check(
        "0 0 0 * * *",
        "day of week, position 11: both day fields are given ('*' and '*'), and one of them must be '?'",
    );
    check(
        "0 0 0 ? * ?",
        "day of week, position 11: '?' stands in both day fields, and one of them must say which days",
    );
    let fields = "fields, and 6 or 7 are needed: seconds minutes hours day-of-month month day-of-week [year]";
    check("0 0 * * *", &format!("position 10: 5 {fields}"));
    check("0 0 0 * * ? 2026 7", &format!("position 18: 8 {fields}"));
    check("", &format!("position 1: 0 {fields}"));
    check(
        "ü 0 0 * * ?",
        "seconds, position 1: 'ü' is not allowed; 0 to 59",
    );
}

#[test]
fn zones_go_by_the_ids_that_java_knows() {
    let show = |id: &str| Zone::find(id).map(|zone| zone.show(Millis(1_800_000_000_000)));
    let check = |id: &str, expected: &str| assert_eq!(show(id).unwrap(), expected, "{id}");
    check("UTC", "2027-01-15T08:00:00+00:00");
    check("GMT+2", "2027-01-15T10:00:00+02:00");
    check("GMT+02:00", "2027-01-15T10:00:00+02:00");
    check("UTC-0330", "2027-01-15T04:30:00-03:30");
    check("+05:30", "2027-01-15T13:30:00+05:30");
    check("PST", "2027-01-15T00:00:00-08:00");
    check("EST5EDT", "2027-01-15T03:00:00-05:00");
    check("Europe/Berlin", "2027-01-15T09:00:00+01:00");
    check("Etc/GMT+5", "2027-01-15T03:00:00-05:00");
    for unknown in [
        "",
        "Mars/Base",
        "GMT+24",
        "GMT+1:5",
        "GMT+",
        "+",
        "GMTü",
        "GMT+02:60",
    ] {
        let error = show(unknown).unwrap_err().to_string();
        assert!(error.contains("is no time zone"), "{error}");
    }
}

#[test]
fn the_shortest_period_is_known() {
    let check = |expression: &str, seconds: u32| {
        assert_eq!(
            Cron::parse(expression).unwrap().shortest_period_seconds(),
            seconds,
            "{expression}"
        );
    };
    check("* * * * * ?", 1);
    check("0/10 * * * * ?", 10);
    check("0,55 * * * * ?", 5);
    check("0,55 0 * * * ?", 55);
    check("0 0 * * * ?", 60);
    check("0/7 * * * * ?", 4);
}

#[test]
fn days_from_the_end_and_working_days_may_stand_in_one_list() {
    let zone = Zone::find("UTC").unwrap();
    let check = |expression: &str, expected: &[&str]| {
        let cron = Cron::parse(expression).unwrap();
        let days: Vec<String> = firings(&cron, &zone)
            .take(expected.len())
            .map(|at| zone.show(at)[5..10].to_owned())
            .collect();
        assert_eq!(days, expected, "{expression}");
    };
    check(
        "0 0 12 1,L * ?",
        &["01-01", "01-31", "02-01", "02-28", "03-01"],
    );
    check(
        "0 0 12 L-2,LW,15W * ?",
        &[
            "01-15", "01-29", "02-15", "02-26", "03-15", "03-29", "03-31",
        ],
    );
    // A month without the day has no day near it either.
    check(
        "0 0 12 31W * ?",
        &["01-29", "03-31", "05-31", "07-30", "08-31"],
    );
}

/// A schedule that fires never, or in thousand years only, costs no endless search.
#[test]
fn impossible_dates_have_no_next_firing() {
    let zone = Zone::find("Europe/Berlin").unwrap();
    for expression in [
        "0 0 0 30 2 ?",
        "0 0 0 31 2,4 ?",
        "0 0 0 1 1 ? 1999",
        "0 0 0 29 2 ? 2027",
    ] {
        let cron = Cron::parse(expression).unwrap();
        assert_eq!(cron.next_after(FROM, &zone), None, "{expression}");
    }
    let last = Cron::parse("59 59 23 31 12 ?").unwrap();
    assert_eq!(last.next_after(Millis(i64::MAX / 4), &zone), None);
    assert!(last.next_after(Millis(-1), &zone).is_some());
}

/// What a firing is, said without a search: every wall time of the expression that a zone has,
/// once, at its later instant.
fn by_minute(cron: &Cron, zone: &Zone, from: Millis, minutes: i64) -> Vec<Millis> {
    let walls =
        (1..=minutes).map(|minute| Timestamp::from_second(from.0 / 1000 + minute * 60).unwrap());
    let matching = walls.filter(|at| {
        let wall = zone.rules().to_datetime(*at);
        let later = match zone.rules().to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Fold { after, .. } => zone.rules().to_offset(*at) == after,
            _ => true,
        };
        later && cron.wall_from(wall) == Some(wall)
    });
    matching.map(|at| Millis(at.as_millisecond())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Around every change of clocks, in any zone: no firing lost, none twice, always forwards.
    #[test]
    fn every_zone_fires_each_wall_time_once(
        zone in prop::sample::select(Zone::all_ids().collect::<Vec<_>>()),
        expression in prop::sample::select(vec![
            "0 0/7 * * * ?", "0 30 0-3 * * ?", "0 0 0 * * ?", "0 15,45 * ? * *", "0 0/30 23-2 * * ?",
        ]),
        start in 1_420_070_400_i64..2_000_000_000,
    ) {
        let zone = Zone::find(&zone).unwrap();
        let cron = Cron::parse(expression).unwrap();
        // The next change of clocks where there is one, so that most cases have something to show.
        let start = Timestamp::from_second(start).unwrap();
        let around = zone.rules().following(start).next().map_or(start, |change| change.timestamp());
        let from = Millis((around.as_second().div_euclid(60) * 60 - 26 * 3600) * 1000);
        let minutes = 52 * 60;
        let until = from.plus_ms(minutes * 60_000);
        let next = |at: &Millis| cron.next_after(*at, &zone);
        let fired: Vec<Millis> = std::iter::successors(next(&from), next).take_while(|at| *at <= until).collect();
        prop_assert_eq!(fired, by_minute(&cron, &zone, from, minutes));
    }
}
