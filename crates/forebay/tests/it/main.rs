//! Whole runs of the program, and rules of the whole repository.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up should end at once, where it stands"
)]

mod architecture;
mod backup;
mod cli;
mod doctor;
mod documents;
mod licences;
mod program;
mod reference;
