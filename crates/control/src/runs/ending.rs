//! How an attempt ended, in the words of the API.

use forebay_engine::Verdict;
use forebay_exec::{Ended, Outcome, StartError};
use forebay_store::AttemptEnd;
use forebay_types::{Error, ErrorCode};
use serde_json::{Value, json};
use tracing::error;

use super::bounds::Bounds;

/// What a failed task of a user says on the wire; the exception itself is in the run's output.
const FAILED: &str = "Workload failed, see run output for details";

/// What a run says that its server took down with it.
const INTERRUPTED: &str =
    "The server stopped while this run was under way; its output up to then is kept.";

/// The code of what used more than its budget.
const OVER_BUDGET: &str = "BUDGET_POLICY_LIMIT_EXCEEDED";

pub(crate) fn facts(ended: &Ended, digest: &str) -> Value {
    json!({
        "usage": ended.usage,
        "isolation": ended.isolation,
        "environment": ended.environment,
        "warm": ended.warm,
        "engine": ended.engine,
        "source_digest": digest,
    })
}

pub(crate) fn ended_as(outcome: Outcome, facts: Value, bounds: &Bounds) -> AttemptEnd {
    let end = |verdict, code, message: &str| AttemptEnd {
        verdict,
        code,
        message: message.to_owned(),
        error: None,
        trace: None,
        exit_value: None,
        facts: facts.clone(),
        retry: true,
    };
    let failed = |code, message: &str| AttemptEnd {
        error: Some(message.to_owned()),
        ..end(Verdict::Failed, code, message)
    };
    match outcome {
        Outcome::Succeeded { exit_value } => AttemptEnd {
            exit_value,
            ..end(Verdict::Succeeded, "SUCCESS", "")
        },
        Outcome::Failed {
            ename,
            message,
            trace,
            ..
        } if ename == "LibraryInstallationError" => AttemptEnd {
            trace: Some(trace),
            verdict: Verdict::InternalError,
            ..failed("LIBRARY_INSTALLATION_ERROR", &message)
        },
        Outcome::Failed {
            ename,
            message,
            trace,
            ..
        } => AttemptEnd {
            error: Some(if message.is_empty() {
                ename
            } else {
                format!("{ename}: {message}")
            }),
            trace: Some(trace),
            ..end(Verdict::Failed, "RUN_EXECUTION_ERROR", FAILED)
        },
        Outcome::Canceled => end(Verdict::Canceled, "USER_CANCELED", "Run cancelled."),
        Outcome::TimedOut if bounds.timeout_seconds == 0 => end(
            Verdict::TimedOut,
            "CANCELED",
            "The run exceeded its time limit.",
        ),
        Outcome::TimedOut => end(
            Verdict::TimedOut,
            "CANCELED",
            &format!(
                "The task exceeded its time limit of {} seconds.",
                bounds.timeout_seconds
            ),
        ),
        Outcome::OutOfMemory { limit_bytes } => failed(
            "DRIVER_ERROR",
            &match limit_bytes {
                Some(limit) => format!(
                    "Out of memory: the run needed more than its limit of {} MiB.",
                    limit >> 20
                ),
                None => "Out of memory: the system ended a process of the run.".to_owned(),
            },
        ),
        Outcome::CpuLimit { limit_ms, used_ms } => failed(
            OVER_BUDGET,
            &format!(
                "The attempt used {} CPU-seconds; its budget has {} (budget.attempt.cpu_seconds).",
                seconds(used_ms),
                limit_ms / 1000
            ),
        ),
        Outcome::OutputLimit { limit_bytes } => failed(
            "RUN_EXECUTION_ERROR",
            &format!(
                "The run wrote more output than its limit of {} MiB.",
                limit_bytes >> 20
            ),
        ),
        Outcome::Crashed { message, .. } => failed("DRIVER_ERROR", &message),
        Outcome::Lost { message } => platform_failure("INTERNAL_ERROR", message),
    }
}

/// The end of an attempt that took longer than its budget allows.
pub(crate) fn over_time(seconds: i64, facts: Value) -> AttemptEnd {
    let taken = facts.pointer("/usage/wall_ms").and_then(Value::as_u64);
    let taken = taken.map_or_else(String::new, |ms| {
        format!(" Its program ran for {} s.", self::seconds(ms))
    });
    let message = format!(
        "The attempt was ended after the {seconds} s of its budget \
         (budget.attempt.wall_seconds).{taken}"
    );
    AttemptEnd {
        verdict: Verdict::TimedOut,
        code: OVER_BUDGET,
        message,
        error: None,
        trace: None,
        exit_value: None,
        facts,
        retry: true,
    }
}

/// With a decimal.
fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

/// What became of an attempt that its server took down with it.
pub(crate) fn interrupted() -> AttemptEnd {
    platform_failure("INTERNAL_ERROR", INTERRUPTED.to_owned())
}

/// The executor could not begin: the platform's failure, not the user's.
pub(crate) fn not_started(error: &StartError) -> AttemptEnd {
    let code = match error {
        StartError::Invalid(_) => "INVALID_RUN_CONFIGURATION",
        StartError::UnknownRuntime { .. } => "INVALID_CLUSTER_REQUEST",
        _ => "CLUSTER_ERROR",
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        message = format!("{message}: {next}");
        cause = next.source();
    }
    platform_failure(code, message)
}

/// The run's Git source could not be had.
pub(crate) fn not_checked_out(error: &Error) -> AttemptEnd {
    let message = format!("Failed to check out the Git source: {error}");
    platform_failure("REPOSITORY_CHECKOUT_FAILED", message)
}

/// A library that the run names cannot be had.
pub(crate) fn no_library(error: &Error) -> AttemptEnd {
    platform_failure("LIBRARY_INSTALLATION_ERROR", error.to_string())
}

/// Whether an error says something of this server rather than of what it was asked to run.
pub(crate) fn is_ours(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::Internal | ErrorCode::TemporarilyUnavailable | ErrorCode::InvalidState
    )
}

pub(crate) fn failed_to_start(error: &Error) -> AttemptEnd {
    let code = match error.code {
        ErrorCode::ResourceDoesNotExist => "RESOURCE_NOT_FOUND",
        ErrorCode::PermissionDenied => "UNAUTHORIZED_ERROR",
        ErrorCode::InvalidParameterValue | ErrorCode::NotImplemented => "INVALID_RUN_CONFIGURATION",
        _ => {
            error!(error = ?error, "attempt failed to start");
            "INTERNAL_ERROR"
        }
    };
    platform_failure(code, error.to_string())
}

fn platform_failure(code: &'static str, message: String) -> AttemptEnd {
    AttemptEnd {
        verdict: Verdict::InternalError,
        code,
        error: Some(message.clone()),
        message,
        trace: None,
        exit_value: None,
        facts: Value::Null,
        retry: !matches!(
            code,
            "INVALID_RUN_CONFIGURATION" | "RESOURCE_NOT_FOUND" | "UNAUTHORIZED_ERROR"
        ),
    }
}
