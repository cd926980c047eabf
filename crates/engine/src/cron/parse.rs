use std::collections::BTreeSet;

use super::bits::Bits;
use super::days::{Dates, Days};
use super::{Cron, CronError, YEARS};

/// What one field may say.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values from `min` on; three letters of them do.
    names: &'static [&'static str],
    /// Whether a range may run over the end, such as `FRI-MON`.
    wraps: bool,
}

const MONTHS: [&str; 12] = [
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
];
const WEEKDAYS: [&str; 7] = [
    "SUNDAY",
    "MONDAY",
    "TUESDAY",
    "WEDNESDAY",
    "THURSDAY",
    "FRIDAY",
    "SATURDAY",
];

const fn field(name: &'static str, min: u32, max: u32, names: &'static [&'static str]) -> Field {
    Field {
        name,
        min,
        max,
        names,
        wraps: true,
    }
}

const SECONDS: Field = field("seconds", 0, 59, &[]);
const MINUTES: Field = field("minutes", 0, 59, &[]);
const HOURS: Field = field("hours", 0, 23, &[]);
const DAY_OF_MONTH: Field = field("day of month", 1, 31, &[]);
const MONTH: Field = field("month", 1, 12, &MONTHS);
const DAY_OF_WEEK: Field = field("day of week", 1, 7, &WEEKDAYS);
const YEAR: Field = Field {
    name: "year",
    min: YEARS.start().unsigned_abs() as u32,
    max: YEARS.end().unsigned_abs() as u32,
    names: &[],
    wraps: false,
};

/// A piece of the expression and where it begins, counted in characters from 1.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Part<'a> {
    fn error(self, field: &Field, reason: String) -> CronError {
        CronError {
            field: Some(field.name),
            position: self.position,
            reason,
        }
    }

    fn split(self, at: char) -> impl Iterator<Item = Self> {
        let mut position = self.position;
        self.text.split(at).map(move |text| {
            let part = Part { text, position };
            position += text.chars().count() + 1;
            part
        })
    }

    fn split_once(self, at: char) -> Option<(Self, Self)> {
        let (left, right) = self.text.split_once(at)?;
        let position = self.position + left.chars().count() + 1;
        let left = Part { text: left, ..self };
        Some((
            left,
            Part {
                text: right,
                position,
            },
        ))
    }

    fn strip_suffix(self, suffix: char) -> Option<Self> {
        let text = self.text.strip_suffix(suffix)?;
        Some(Part { text, ..self })
    }
}

pub(super) fn parse(expression: &str) -> Result<Cron, CronError> {
    let upper = expression.to_ascii_uppercase();
    let parts = words(&upper);
    let (first, year) = match parts.as_slice() {
        [first @ .., year] if parts.len() == 7 => (first, Some(*year)),
        all if parts.len() == 6 => (all, None),
        _ => {
            let position = parts
                .get(7)
                .map_or(upper.chars().count() + 1, |part| part.position);
            return Err(CronError {
                field: None,
                position,
                reason: format!(
                    "{} fields, and 6 or 7 are needed: seconds minutes hours day-of-month month \
                     day-of-week [year]",
                    parts.len()
                ),
            });
        }
    };
    let [seconds, minutes, hours, date, month, weekday] =
        [0, 1, 2, 3, 4, 5].map(|index| first[index]);
    Ok(Cron {
        seconds: numbers(&SECONDS, seconds)?,
        minutes: numbers(&MINUTES, minutes)?,
        hours: numbers(&HOURS, hours)?,
        months: numbers(&MONTH, month)?,
        days: days(date, weekday)?,
        years: year.map(years).transpose()?.flatten(),
    })
}

fn words(text: &str) -> Vec<Part<'_>> {
    let whole = Part { text, position: 1 };
    let parts = whole.split(' ').flat_map(|part| part.split('\t'));
    parts.filter(|part| !part.text.is_empty()).collect()
}

fn days(date: Part<'_>, weekday: Part<'_>) -> Result<Days, CronError> {
    match (date.text == "?", weekday.text == "?") {
        (false, true) => dates(date).map(Days::Dates),
        (true, false) => weekdays(weekday),
        (true, true) => Err(weekday.error(
            &DAY_OF_WEEK,
            "'?' stands in both day fields, and one of them must say which days".to_owned(),
        )),
        (false, false) => Err(weekday.error(
            &DAY_OF_WEEK,
            format!(
                "both day fields are given ('{}' and '{}'), and one of them must be '?'",
                date.text, weekday.text
            ),
        )),
    }
}

fn dates(part: Part<'_>) -> Result<Dates, CronError> {
    let field = &DAY_OF_MONTH;
    let mut dates = Dates::default();
    for item in part.split(',') {
        let (day, nearest) = match item.strip_suffix('W') {
            Some(day) => (day, true),
            None => (item, false),
        };
        if let Some(offset) = day.text.strip_prefix('L') {
            let offset = match offset.strip_prefix('-') {
                None if offset.is_empty() => Some(0),
                None => None,
                Some(offset) => offset.parse().ok().filter(|offset| *offset <= 30),
            };
            let wrong = || {
                item.error(
                    field,
                    format!("'{}' is not L, L-1 to L-30, LW or L-1W to L-30W", item.text),
                )
            };
            let offset = offset.ok_or_else(wrong)?;
            let set = if nearest {
                &mut dates.nearest_from_end
            } else {
                &mut dates.from_end
            };
            set.add(offset);
        } else if nearest {
            dates.nearest.add(number(field, day)?);
        } else {
            list(field, item, &mut |number| dates.plain.add(number))?;
        }
    }
    Ok(dates)
}

fn weekdays(part: Part<'_>) -> Result<Days, CronError> {
    let field = &DAY_OF_WEEK;
    let alone = |special: &str| {
        let reason = format!("'{special}' cannot be one of several entries");
        if part.text.contains(',') {
            Err(part.error(field, reason))
        } else {
            Ok(())
        }
    };
    if part.text == "L" {
        return Ok(Days::Weekdays(Bits::one(field.max)));
    }
    // Names end in no L, so an L at an end is the sign.
    if let Some(day) = part.split(',').find_map(|item| item.strip_suffix('L')) {
        alone("L")?;
        return Ok(Days::LastWeekday(number(field, day)?));
    }
    if let Some((day, nth)) = part.split_once('#') {
        alone("#")?;
        let which = nth.text.parse().ok().filter(|nth| (1..=5).contains(nth));
        let wrong = || {
            nth.error(
                field,
                format!("'{}' after '#'; 1 to 5 is allowed", nth.text),
            )
        };
        return Ok(Days::NthWeekday(
            number(field, day)?,
            which.ok_or_else(wrong)?,
        ));
    }
    numbers(field, part).map(Days::Weekdays)
}

fn years(part: Part<'_>) -> Result<Option<BTreeSet<i16>>, CronError> {
    if part.text == "*" {
        return Ok(None);
    }
    let mut years = BTreeSet::new();
    let mut add = |year: u32| years.extend(i16::try_from(year));
    for item in part.split(',') {
        list(&YEAR, item, &mut add)?;
    }
    Ok(Some(years))
}

fn numbers(field: &Field, part: Part<'_>) -> Result<Bits, CronError> {
    let mut bits = Bits::default();
    for item in part.split(',') {
        list(field, item, &mut |number| bits.add(number))?;
    }
    Ok(bits)
}

/// One entry: `*`, `5`, `1-5`, each also with a step.
fn list(field: &Field, item: Part<'_>, add: &mut dyn FnMut(u32)) -> Result<(), CronError> {
    let (base, step) = match item.split_once('/') {
        Some((base, step)) => (base, Some(step_of(field, base, step)?)),
        None => (item, None),
    };
    let (start, end) = if base.text == "*" || (base.text.is_empty() && step.is_some()) {
        (field.min, field.max)
    } else if let Some((start, end)) = base.split_once('-') {
        (number(field, start)?, number(field, end)?)
    } else {
        let start = number(field, base)?;
        (start, if step.is_some() { field.max } else { start })
    };
    if end < start && !field.wraps {
        return Err(base.error(field, format!("the range '{}' runs backwards", base.text)));
    }
    let count = field.max - field.min + 1;
    let end = if end < start { end + count } else { end };
    // A step of 0 stands for the first value alone, as Quartz has it.
    let step = step.unwrap_or(1);
    let last = if step == 0 { start } else { end };
    for value in (start..=last).step_by(step.max(1) as usize) {
        add((value - field.min) % count + field.min);
    }
    Ok(())
}

fn step_of(field: &Field, base: Part<'_>, step: Part<'_>) -> Result<u32, CronError> {
    if base.text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let reason = format!(
            "a step after the name '{}'; write it with numbers",
            base.text
        );
        return Err(step.error(field, reason));
    }
    let max = field.max.min(field.max - field.min + 1);
    let value = step.text.parse().ok().filter(|step| *step <= max);
    value.ok_or_else(|| {
        step.error(
            field,
            format!("'{}' is no step; 1 to {max} is allowed", step.text),
        )
    })
}

fn number(field: &Field, part: Part<'_>) -> Result<u32, CronError> {
    let named = || {
        let position = field.names.iter().position(|name| {
            part.text == *name || name.get(..3).is_some_and(|short| part.text == short)
        });
        position
            .and_then(|index| u32::try_from(index).ok())
            .map(|index| field.min + index)
    };
    let digits = !part.text.is_empty() && part.text.bytes().all(|byte| byte.is_ascii_digit());
    let value = if digits {
        part.text.parse().ok()
    } else {
        named()
    };
    value
        .filter(|value| (field.min..=field.max).contains(value))
        .ok_or_else(|| {
            let names = match field.names {
                [first, .., last] => format!(", {first:.3} to {last:.3}"),
                _ => String::new(),
            };
            let what = if part.text.is_empty() {
                "a value is missing".to_owned()
            } else {
                format!("'{}' is not allowed", part.text)
            };
            part.error(
                field,
                format!("{what}; {} to {}{names}", field.min, field.max),
            )
        })
}
