//! The pages of a workspace: what runs, what failed and where, and what is in the tree, rendered
//! on the server. Layer 4, beside `http`: services in, HTML out; useful without scripts, and every
//! byte a browser needs is in the binary.

mod assets;
mod clusters;
mod failure;
mod fragment;
mod home;
mod job;
mod jobs;
mod layout;
mod libraries;
mod live;
mod login;
mod notice;
mod queue;
mod repos;
mod run;
mod runs;
mod schedule;
mod session;
mod show;
mod site;
mod workspace;

pub use site::{Pages, Place};
