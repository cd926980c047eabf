//! Against the real `git` program and repositories in temporary folders.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod checkouts;
mod mirrors;
mod world;
