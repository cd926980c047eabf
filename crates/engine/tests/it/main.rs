//! Tests of the deciders together, over long random histories.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod fairness;
mod model;
mod random;
