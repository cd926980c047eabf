//! The elements of a for-each task.

use std::fmt;

use serde_json::Value;

use crate::container::ITERATIONS_MAX;

/// Why a text gives no elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputsError {
    /// What the text is instead of a JSON array, in words.
    NotAnArray(String),
    TooMany(usize),
}

impl fmt::Display for InputsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArray(what) => {
                write!(f, "for_each_task.inputs is not a JSON array: {what}")
            }
            Self::TooMany(count) => write!(
                f,
                "for_each_task.inputs has {count} elements, at most {ITERATIONS_MAX}"
            ),
        }
    }
}

impl std::error::Error for InputsError {}

/// The elements of a JSON array, in order.
///
/// # Errors
/// Text that is no JSON array, and one with more than [`ITERATIONS_MAX`] elements.
pub fn elements(inputs: &str) -> Result<Vec<Value>, InputsError> {
    let not_an_array = |what: String| Err(InputsError::NotAnArray(what));
    match serde_json::from_str(inputs) {
        Ok(Value::Array(elements)) if elements.len() > ITERATIONS_MAX => {
            Err(InputsError::TooMany(elements.len()))
        }
        Ok(Value::Array(elements)) => Ok(elements),
        Ok(Value::Object(_)) => not_an_array("it is an object".to_owned()),
        Ok(_) => not_an_array("it is a single value".to_owned()),
        Err(e) => not_an_array(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_are_those_of_an_array_and_of_nothing_else() {
        let all = elements(r#" [1, "a", {"k": [2]}] "#).unwrap();
        assert_eq!(all, [json!(1), json!("a"), json!({"k": [2]})]);
        assert_eq!(elements("[]"), Ok(Vec::new()));
        for (inputs, reason) in [
            ("{}", "it is an object"),
            ("7", "it is a single value"),
            ("[1,", "EOF"),
            ("{{tasks.a.values.b}}", "key must be a string"),
        ] {
            let error = elements(inputs).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let many = json!(vec![0; ITERATIONS_MAX + 1]).to_string();
        assert_eq!(
            elements(&many),
            Err(InputsError::TooMany(ITERATIONS_MAX + 1))
        );
    }
}
