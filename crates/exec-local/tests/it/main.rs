//! The local executor, for real: a real interpreter, a real sandbox, real processes.

#![expect(
    unreachable_pub,
    reason = "the helpers of a test binary are shared by its modules"
)]

mod support;

mod conformance;
mod hostile;
mod notebook;
mod program;
mod warm;
