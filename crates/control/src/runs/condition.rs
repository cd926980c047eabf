//! Condition tasks: compared when they start, by the server itself.

use std::str::FromStr;

use forebay_engine::{Comparison, Verdict, compare};
use forebay_store::AttemptEnd;
use forebay_types::{Error, Result};
use serde_json::Value;

use crate::jobs::ConditionTask;

/// How a condition comes out, as the exit value of its attempt.
///
/// # Errors
/// When its operands have no order, by operand.
pub(crate) fn end(condition: &ConditionTask) -> Result<AttemptEnd> {
    let comparison = Comparison::from_str(&condition.op)
        .map_err(|()| Error::invalid(format!("condition_task.op '{}'", condition.op)))?;
    let outcome = compare(comparison, &condition.left, &condition.right)
        .map_err(|e| Error::invalid(e.to_string()))?;
    Ok(AttemptEnd {
        verdict: Verdict::Succeeded,
        code: "SUCCESS",
        message: String::new(),
        error: None,
        trace: None,
        exit_value: Some(outcome.to_string()),
        facts: Value::Null,
        retry: false,
    })
}
