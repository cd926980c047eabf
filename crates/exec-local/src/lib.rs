//! The executor for one machine: sandboxed child processes, warm parents, environments by digest.
//!
//! Layer 2: an adapter of `forebay-exec`. It keeps to itself namespaces, mounts, cgroups, system
//! call filters and `uv`; the program inside is driven by the Python package in `python/`, which
//! is part of this crate's binary.
//!
//! How a run comes to life: [`executor`] makes the environment ready and takes a parent of the
//! run's place ([`zygote`]) — a warm one, or a fresh one for this run alone. The parent lives in a
//! [`sandbox`] and forks the run, which joins its [`group`] and is watched by [`run`].

mod cgroup;
mod config;
mod downloads;
mod driver;
mod environment;
mod executor;
mod frame;
mod group;
mod habits;
mod java;
mod job;
mod launch;
mod output;
mod owner;
mod packages;
mod run;
mod sandbox;
mod scratch;
mod seat;
mod seccomp;
mod tools;
mod verdict;
mod zygote;

pub use config::LocalConfig;
pub use executor::LocalExecutor;
