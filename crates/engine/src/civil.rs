use forebay_types::Millis;

/// A moment as a calendar in UTC shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    /// 1 for Monday to 7 for Sunday.
    pub(crate) weekday: i64,
}

impl Civil {
    pub(crate) fn of(at: Millis) -> Self {
        let seconds = at.0.div_euclid(1000);
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years are counted from March, so that the leap day is the last of a year, in cycles of
        // 400 years, which all have 146,097 days.
        let from_march = days + 719_468;
        let (cycle, day_of_cycle) = (
            from_march.div_euclid(146_097),
            from_march.rem_euclid(146_097),
        );
        let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524
            - day_of_cycle / 146_096)
            / 365;
        let day_of_year =
            day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        Self {
            year: cycle * 400 + year_of_cycle + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            weekday: (days + 3).rem_euclid(7) + 1,
        }
    }

    /// `2026-01-31`
    pub(crate) fn date(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `2026-01-31T09:05:00Z`
    pub(crate) fn date_time(self) -> String {
        format!(
            "{}T{:02}:{:02}:{:02}Z",
            self.date(),
            self.hour,
            self.minute,
            self.second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        for (seconds, expected, weekday) in [
            (0, "1970-01-01T00:00:00Z", 4),
            (-1, "1969-12-31T23:59:59Z", 3),
            (951_782_400, "2000-02-29T00:00:00Z", 2),
            (951_868_800, "2000-03-01T00:00:00Z", 3),
            (1_735_689_599, "2024-12-31T23:59:59Z", 2),
            (4_107_542_400, "2100-03-01T00:00:00Z", 1),
        ] {
            let civil = Civil::of(Millis(seconds * 1000));
            assert_eq!(
                (civil.date_time().as_str(), civil.weekday),
                (expected, weekday)
            );
        }
    }
}
