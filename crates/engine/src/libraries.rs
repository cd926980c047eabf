//! Which library, and which version of it, a file is by its name.

use std::cmp::Ordering;

/// A library as its name says: `recommender-1.4.0.jar` is version 1.4.0 of `recommender`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub library: String,
    pub version: Option<Version>,
}

/// Numbers with dots, and what follows them, such as `SNAPSHOT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: Vec<u64>,
    tag: String,
    /// As it was written.
    text: String,
}

impl Named {
    /// Reads a name, with or without the extension of a JAR, wheel or egg: `recommender-1.4.0`,
    /// `demand-1.2.0-py3-none-any.whl`, `sorter-1.0.0-SNAPSHOT-py3.6.egg`, `recommenderV375`.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let extensions = [".jar", ".whl", ".egg"];
        let stem = extensions.iter().find_map(|end| name.strip_suffix(end));
        let stem = stem.unwrap_or(name);
        let dashes = stem.match_indices('-');
        let dashed = dashes.filter_map(|(at, _)| {
            let (library, rest) = (stem.get(..at)?, stem.get(at + 1..)?);
            let version = Version::parse(without_platform(rest))?;
            (!library.is_empty()).then(|| (library.to_owned(), version))
        });
        if let Some((library, version)) = { dashed }.next() {
            return Self {
                library,
                version: Some(version),
            };
        }
        Self::with_v(stem).unwrap_or_else(|| Self {
            library: stem.to_owned(),
            version: None,
        })
    }

    /// `recommenderV375`, `recommender_v1.4`.
    fn with_v(stem: &str) -> Option<Self> {
        let at = stem.rfind(['v', 'V'])?;
        let version = Version::parse(stem.get(at + 1..)?).filter(|found| found.tag.is_empty())?;
        let library = stem.get(..at)?.trim_end_matches(['-', '_', '.', ' ']);
        (!library.is_empty()).then(|| Self {
            library: library.to_owned(),
            version: Some(version),
        })
    }
}

/// `1.2.0` of `1.2.0-py3-none-any`.
fn without_platform(rest: &str) -> &str {
    match rest.find("-py") {
        Some(at) => rest.get(..at).unwrap_or(rest),
        None => match rest.find("-cp") {
            Some(at) => rest.get(..at).unwrap_or(rest),
            None => rest,
        },
    }
}

impl Version {
    /// `None` when it does not begin with a number, or a number is beyond all bounds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (numbers, tag) = text.split_at_checked(end.unwrap_or(text.len()))?;
        let numbers = numbers.trim_end_matches('.');
        let parsed: Option<Vec<u64>> = numbers.split('.').map(|n| n.parse().ok()).collect();
        Some(Self {
            numbers: parsed?,
            tag: tag.trim_start_matches(['-', '_', '.', '+']).to_owned(),
            text: text.to_owned(),
        })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What may break its users when it changes. A version of a single number has no such part, so
    /// all of them have the same.
    #[must_use]
    pub fn major(&self) -> u64 {
        match self.numbers[..] {
            [major, _, ..] => major,
            _ => 0,
        }
    }

    /// Whether it may take the place of `old` without anybody looking: newer, and not another major.
    #[must_use]
    pub fn updates(&self, old: &Self) -> bool {
        self > old && self.major() == old.major()
    }
}

impl Ord for Version {
    /// By number and not by text: 1.10 is after 1.9, and `1.4.0-SNAPSHOT` before `1.4.0`.
    fn cmp(&self, other: &Self) -> Ordering {
        let longest = self.numbers.len().max(other.numbers.len());
        let number = |of: &Self, at: usize| of.numbers.get(at).copied().unwrap_or(0);
        let by_number = (0..longest).map(|at| number(self, at).cmp(&number(other, at)));
        by_number
            .fold(Ordering::Equal, Ordering::then)
            // A version without a tag is the finished one.
            .then_with(|| self.tag.is_empty().cmp(&other.tag.is_empty()))
            .then_with(|| self.tag.cmp(&other.tag))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> (String, Option<String>) {
        let Named { library, version } = Named::parse(name);
        (library, version.map(|version| version.as_str().to_owned()))
    }

    #[test]
    fn names_say_library_and_version() {
        for (name, library, version) in [
            ("recommender-1.4.0.jar", "recommender", Some("1.4.0")),
            ("recommender-1.4.0", "recommender", Some("1.4.0")),
            (
                "recommender_2.12-1.4.0.jar",
                "recommender_2.12",
                Some("1.4.0"),
            ),
            ("demand-1.2.0-py3-none-any.whl", "demand", Some("1.2.0")),
            (
                "demand-1.2.0-cp311-cp311-linux_x86_64.whl",
                "demand",
                Some("1.2.0"),
            ),
            (
                "sorter-1.0.0-SNAPSHOT-my-branch-py3.6.egg",
                "sorter",
                Some("1.0.0-SNAPSHOT-my-branch"),
            ),
            ("two-words-3.1-rc1.jar", "two-words", Some("3.1-rc1")),
            ("recommenderV375", "recommender", Some("375")),
            ("recommender_v376.jar", "recommender", Some("376")),
            ("driver", "driver", None),
            ("server.jar", "server", None),
            ("-1.0.jar", "-1.0", None),
            (
                "a-99999999999999999999999.jar",
                "a-99999999999999999999999",
                None,
            ),
        ] {
            let expected = (library.to_owned(), version.map(str::to_owned));
            assert_eq!(named(name), expected, "{name}");
        }
    }

    #[test]
    fn versions_are_in_order_by_number() {
        let order = [
            "0.9",
            "1.0.0-SNAPSHOT",
            "1.0.0",
            "1.4.0",
            "1.9",
            "1.10.0-rc1",
            "1.10.0-rc2",
            "1.10.0",
            "2.0",
            "10.0",
            "375.1",
        ];
        let parsed: Vec<_> = order.map(|text| Version::parse(text).unwrap()).into();
        let mut sorted = parsed.clone();
        sorted.reverse();
        sorted.sort();
        assert_eq!(sorted, parsed);
        let v = |text| Version::parse(text).unwrap();
        assert!(v("V375".trim_start_matches('V')) < v("376"));
    }

    #[test]
    fn a_major_is_never_updated_and_older_never_updates() {
        let updates = |new, old| {
            let parse = |text| Version::parse(text).unwrap();
            parse(new).updates(&parse(old))
        };
        assert!(updates("1.5.0", "1.4.0") && updates("1.10", "1.9") && updates("376", "375"));
        assert!(updates("1.0.0", "1.0.0-SNAPSHOT"));
        assert!(!updates("2.0.0", "1.9.0") && !updates("1.4.0", "1.5.0"));
        assert!(!updates("1.4.0", "1.4.0"));
    }
}
