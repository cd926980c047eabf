//! Quartz cron expressions: when a schedule is due next.
//!
//! An expression is a set of wall times. Each field is a set of numbers, so the next wall time is
//! found by jumping field by field. As Quartz does it, a wall time that a zone leaves out (clocks
//! go forward) does not fire, and one that a zone has twice (clocks go back) fires once, the
//! second time.

mod bits;
mod days;
mod parse;
mod zone;

use std::collections::BTreeSet;
use std::fmt;

use forebay_types::Millis;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use bits::Bits;
use days::Days;
pub use zone::{Zone, ZoneError};

/// What an expression's own year field may say; no schedule fires later than this.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=2199;

/// A checked expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    seconds: Bits,
    minutes: Bits,
    hours: Bits,
    days: Days,
    months: Bits,
    /// Absent when every year is meant.
    years: Option<BTreeSet<i16>>,
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronError {
    /// Such as `hours`; absent when the expression as a whole is wrong.
    pub field: Option<&'static str>,
    /// The character of the expression where it goes wrong, counted from 1.
    pub position: usize,
    pub reason: String,
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = self.field {
            write!(f, "{field}, ")?;
        }
        write!(f, "position {}: {}", self.position, self.reason)
    }
}

impl std::error::Error for CronError {}

impl Cron {
    /// Reads `seconds minutes hours day-of-month month day-of-week [year]`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its field and position.
    pub fn parse(expression: &str) -> Result<Self, CronError> {
        parse::parse(expression)
    }

    /// The first firing after `after`; none when there is none up to the year 2199.
    #[must_use]
    pub fn next_after(&self, after: Millis, zone: &Zone) -> Option<Millis> {
        let start = Timestamp::from_second(after.0.div_euclid(1000) + 1).ok()?;
        let zone = zone.rules();
        let mut wall = first_wall(zone, start)?;
        loop {
            wall = self.wall_from(wall)?;
            let offset = match zone.to_ambiguous_timestamp(wall).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset,
                AmbiguousOffset::Fold { after, .. } => after,
                AmbiguousOffset::Gap { after, .. } => {
                    let before = after.to_timestamp(wall).ok()?;
                    let mut changes = zone.following(before);
                    let end = changes.find(|change| change.offset() == after)?;
                    let next = wall.checked_add(jiff::Span::new().seconds(1)).ok()?;
                    wall = after.to_datetime(end.timestamp()).max(next);
                    continue;
                }
            };
            return Some(Millis(offset.to_timestamp(wall).ok()?.as_millisecond()));
        }
    }

    /// The shortest time between two firings, in seconds, for periods under a minute; 60 stands
    /// for all that are longer.
    #[must_use]
    pub fn shortest_period_seconds(&self) -> u32 {
        let minutes_in_a_row =
            |minute: u32| self.minutes.has(minute) && self.minutes.has((minute + 1) % 60);
        let rolls_over = (0..60).any(minutes_in_a_row);
        let first = self.seconds.from(0).map(|first| first + 60);
        let seconds = self.seconds.iter().chain(first.filter(|_| rolls_over));
        let seconds: Vec<u32> = seconds.collect();
        let gaps = seconds.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.min().unwrap_or(60)
    }

    /// The first wall time of the expression that is not before `from`.
    fn wall_from(&self, from: DateTime) -> Option<DateTime> {
        if self.has_date(from.date())
            && let Some(time) = self.time_from(from.time())
        {
            return Some(from.date().to_datetime(time));
        }
        let date = self.date_from(from.date().tomorrow().ok()?)?;
        Some(date.to_datetime(self.time_from(Time::midnight())?))
    }

    fn has_date(&self, date: Date) -> bool {
        self.date_from(date) == Some(date)
    }

    fn date_from(&self, from: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (from.year(), from.month(), from.day());
        while YEARS.contains(&year) {
            let months = match &self.years {
                Some(years) if !years.contains(&year) => Bits::default(),
                _ => self.months,
            };
            let Some(next) = months.from(month.unsigned_abs().into()) else {
                (year, month, day) = (year + 1, 1, 1);
                continue;
            };
            let next = i8::try_from(next).ok()?;
            if next != month {
                (month, day) = (next, 1);
            }
            match self.days.of(year, month).from(day.unsigned_abs().into()) {
                Some(day) => return Date::new(year, month, i8::try_from(day).ok()?).ok(),
                None => (month, day) = (month + 1, 1),
            }
        }
        None
    }

    fn time_from(&self, from: Time) -> Option<Time> {
        let parts =
            [from.hour(), from.minute(), from.second()].map(|part| u32::from(part.unsigned_abs()));
        let [hour, minute, second] = parts;
        let first = |bits: Bits| bits.from(0);
        let (hour, minute, second) = self
            .hours
            .has(hour)
            .then(|| {
                let this = self.minutes.has(minute).then(|| self.seconds.from(second));
                let this = this.flatten().map(|second| (hour, minute, second));
                this.or_else(|| Some((hour, self.minutes.from(minute + 1)?, first(self.seconds)?)))
            })
            .flatten()
            .or_else(|| {
                Some((
                    self.hours.from(hour + 1)?,
                    first(self.minutes)?,
                    first(self.seconds)?,
                ))
            })?;
        let part = |value: u32| i8::try_from(value).ok();
        Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()
    }
}

/// The wall time from which to look for firings that are not before `start`. Within the first pass
/// of a repeated hour that is the beginning of the second pass.
fn first_wall(zone: &TimeZone, start: Timestamp) -> Option<DateTime> {
    let wall = zone.to_datetime(start);
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Fold { before, after } if zone.to_offset(start) == before => {
            let mut changes = zone.following(start);
            let change = changes.find(|change| change.offset() == after)?;
            Some(after.to_datetime(change.timestamp()))
        }
        _ => Some(wall),
    }
}

#[cfg(test)]
mod tests;
