//! Time zones by the ids that Java knows.

use std::fmt;
use std::sync::LazyLock;

use forebay_types::Millis;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

/// The rules shipped in the program: the same build decides the same on every machine.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Ids of three letters from before the tz database had its names, as Java still takes them.
const SHORT_IDS: [(&str, &str); 25] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Harare"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Ho_Chi_Minh"),
];

/// Hours that Java allows in an offset.
const OFFSET_HOURS_MAX: i32 = 23;

/// A time zone and the id it was asked for by.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    id: String,
    rules: TimeZone,
}

/// There is no zone of this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneError(String);

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is no time zone; an id such as Europe/Berlin, UTC or GMT+02:00 is needed",
            self.0
        )
    }
}

impl std::error::Error for ZoneError {}

impl Zone {
    /// Finds a zone: `Europe/Berlin`, `UTC`, `GMT+2`, `GMT+02:00`, `PST`.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn find(id: &str) -> Result<Self, ZoneError> {
        let short = SHORT_IDS.iter().find(|(short, _)| *short == id);
        let name = short.map_or(id, |(_, name)| name);
        let named = || DATABASE.get(name).ok();
        let rules = offset(id).map(TimeZone::fixed).or_else(named);
        rules
            .map(|rules| Self {
                id: id.to_owned(),
                rules,
            })
            .ok_or_else(|| ZoneError(id.to_owned()))
    }

    /// Every zone of the tz database, by its id.
    pub fn all_ids() -> impl Iterator<Item = String> {
        DATABASE.available().map(|name| name.as_str().to_owned())
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A moment on this zone's clocks, such as `2027-03-28T03:00:00+02:00`.
    #[must_use]
    pub fn show(&self, at: Millis) -> String {
        let Ok(at) = Timestamp::from_millisecond(at.0) else {
            return String::new();
        };
        at.display_with_offset(self.rules.to_offset(at)).to_string()
    }

    pub(super) fn rules(&self) -> &TimeZone {
        &self.rules
    }
}

/// `GMT+2`, `UTC-03:30`, `UT+1`, `+02:00`, and the three alone.
fn offset(id: &str) -> Option<Offset> {
    let prefix = ["GMT", "UTC", "UT", "Z"]
        .into_iter()
        .find(|prefix| id.starts_with(prefix));
    let rest = &id[prefix.map_or(0, str::len)..];
    if rest.is_empty() {
        return prefix.map(|_| Offset::UTC);
    }
    let (sign, digits) = match rest.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None if digits.len() > 2 => digits.split_at_checked(digits.len() - 2)?,
        None => (digits, "0"),
    };
    let part = |text: &str, max: i32| {
        let plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let value: i32 = plain.then(|| text.parse().ok()).flatten()?;
        (value <= max).then_some(value)
    };
    let seconds = part(hours, OFFSET_HOURS_MAX)? * 3600 + part(minutes, 59)? * 60;
    Offset::from_seconds(sign * seconds).ok()
}
