use jiff::civil::{Date, Weekday};

use super::bits::Bits;

/// Which days of a month are meant: by their date or by their weekday, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Days {
    Dates(Dates),
    /// Any of these weekdays; 1 is Sunday.
    Weekdays(Bits),
    /// The last such weekday of the month.
    LastWeekday(u32),
    /// The `.1`th such weekday of the month.
    NthWeekday(u32, u32),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dates {
    pub(super) plain: Bits,
    /// The working day nearest to each of these.
    pub(super) nearest: Bits,
    /// So many days before the last one.
    pub(super) from_end: Bits,
    /// The working day nearest to so many days before the last one.
    pub(super) nearest_from_end: Bits,
}

impl Days {
    /// The days of one month.
    pub(super) fn of(&self, year: i16, month: i8) -> Bits {
        let Ok(first) = Date::new(year, month, 1) else {
            return Bits::default();
        };
        let last = u32::from(first.days_in_month().unsigned_abs());
        let mut days = Bits::default();
        match self {
            Self::Dates(dates) => return dates.of(first, last),
            Self::Weekdays(wanted) => (1..=last)
                .filter(|day| wanted.has(weekday(first, *day)))
                .for_each(|day| days.add(day)),
            Self::LastWeekday(wanted) => (1..=last)
                .rfind(|day| weekday(first, *day) == *wanted)
                .into_iter()
                .for_each(|day| days.add(day)),
            Self::NthWeekday(wanted, nth) => (1..=last)
                .filter(|day| weekday(first, *day) == *wanted && day.div_ceil(7) == *nth)
                .for_each(|day| days.add(day)),
        }
        days
    }
}

impl Dates {
    fn of(&self, first: Date, last: u32) -> Bits {
        let mut days = Bits::default();
        for day in 1..=last {
            let from_end = last - day;
            if self.plain.has(day) || self.from_end.has(from_end) {
                days.add(day);
            }
            if self.nearest.has(day) || self.nearest_from_end.has(from_end) {
                days.add(working_day(first, day, last));
            }
        }
        days
    }
}

/// 1 for Sunday to 7 for Saturday.
fn weekday(first: Date, day: u32) -> u32 {
    let first = u32::from(first.weekday().to_sunday_zero_offset().unsigned_abs());
    (first + day - 1) % 7 + 1
}

/// The working day nearest to `day` within its month.
fn working_day(first: Date, day: u32, last: u32) -> u32 {
    let sunday = u32::from(Weekday::Sunday.to_sunday_one_offset().unsigned_abs());
    let saturday = u32::from(Weekday::Saturday.to_sunday_one_offset().unsigned_abs());
    match weekday(first, day) {
        it if it == saturday && day == 1 => 3,
        it if it == saturday => day - 1,
        it if it == sunday && day == last => day - 2,
        it if it == sunday => day + 1,
        _ => day,
    }
}
