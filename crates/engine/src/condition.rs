//! Condition tasks: two operands, one comparison, and which branch is taken.

use std::fmt;
use std::str::FromStr;

/// How a condition compares its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    EqualTo,
    NotEqual,
    GreaterThan,
    GreaterThanOrEqual,
    LessThan,
    LessThanOrEqual,
}

impl Comparison {
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::EqualTo, "EQUAL_TO"),
        (Self::NotEqual, "NOT_EQUAL"),
        (Self::GreaterThan, "GREATER_THAN"),
        (Self::GreaterThanOrEqual, "GREATER_THAN_OR_EQUAL"),
        (Self::LessThan, "LESS_THAN"),
        (Self::LessThanOrEqual, "LESS_THAN_OR_EQUAL"),
    ];
}

impl FromStr for Comparison {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(comparison, _)| *comparison)
            .ok_or(())
    }
}

/// An operand that has no order because it is no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotANumber {
    pub operand: &'static str,
    pub text: String,
}

impl fmt::Display for NotANumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "condition_task.{} is '{}', which is not a number; only EQUAL_TO and NOT_EQUAL compare text",
            self.operand, self.text
        )
    }
}

impl std::error::Error for NotANumber {}

/// Equality is that of the texts (`12.0` is not `12`); order is that of the numbers.
///
/// # Errors
/// When order is asked for and an operand is not a number.
pub fn compare(comparison: Comparison, left: &str, right: &str) -> Result<bool, NotANumber> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match comparison {
        Comparison::EqualTo => return Ok(left == right),
        Comparison::NotEqual => return Ok(left != right),
        _ => {}
    }
    let order = order(left, right)?;
    Ok(match comparison {
        Comparison::EqualTo => order == Equal,
        Comparison::NotEqual => order != Equal,
        Comparison::GreaterThan => order == Greater,
        Comparison::GreaterThanOrEqual => order != Less,
        Comparison::LessThan => order == Less,
        Comparison::LessThanOrEqual => order != Greater,
    })
}

fn order(left: &str, right: &str) -> Result<std::cmp::Ordering, NotANumber> {
    // Whole numbers are compared as such: ids and counts may be larger than a float is exact.
    if let (Ok(left), Ok(right)) = (left.trim().parse::<i128>(), right.trim().parse::<i128>()) {
        return Ok(left.cmp(&right));
    }
    let number = |operand: &'static str, text: &str| {
        let parsed = text.trim().parse::<f64>().ok();
        parsed
            .filter(|number| number.is_finite())
            .ok_or_else(|| NotANumber {
                operand,
                text: text.to_owned(),
            })
    };
    let (left, right) = (number("left", left)?, number("right", right)?);
    Ok(left
        .partial_cmp(&right)
        .unwrap_or(std::cmp::Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_of_texts_and_order_of_numbers() {
        use Comparison::{
            EqualTo, GreaterThan, GreaterThanOrEqual, LessThan, LessThanOrEqual, NotEqual,
        };
        let table = [
            (EqualTo, "a", "a", true),
            (EqualTo, "12.0", "12", false),
            (EqualTo, "true", "true", true),
            (NotEqual, "12.0", "12", true),
            (GreaterThanOrEqual, "12.0", "12", true),
            (GreaterThanOrEqual, "10.0", "12", false),
            (GreaterThan, "10", "9", true),
            (GreaterThan, "9007199254740993", "9007199254740992", true),
            (LessThan, "-1", "0.5", true),
            (LessThan, " 2 ", "1e1", true),
            (LessThanOrEqual, "2", "2", true),
        ];
        for (comparison, left, right, expected) in table {
            let got = compare(comparison, left, right);
            assert_eq!(got, Ok(expected), "{left} {comparison:?} {right}");
        }
    }

    #[test]
    fn what_is_no_number_has_no_order() {
        for (left, right, operand) in [
            ("x", "1", "left"),
            ("1", "", "right"),
            ("1", "NaN", "right"),
        ] {
            let error = compare(Comparison::LessThan, left, right).unwrap_err();
            assert_eq!(error.operand, operand, "{error}");
        }
    }
}
