//! Files below a root: everything the server does to the files of a workspace, mount or volume.
//!
//! Layer 2, above `types` and `runtime`; knows no users, no API and no database. Paths are looked
//! up beneath an open directory (`openat2`), because code in runs may plant symbolic links in the
//! same folders: no link leads the server outside. What is written appears whole or not at all: a
//! file is made in the staging folder, flushed, and then renamed into its place.

mod error;
mod pin;
mod root;
mod staged;
mod stream;
#[cfg(test)]
mod tests;
mod tree;

pub use error::BlobError;
pub use pin::Pinned;
pub use root::{Blob, Entry, Kind, Meta, Root};
pub use staged::{Landed, Mode, Sealed, Staged, StagedTree, Staging, Writer};
pub use stream::{chunks, receive};
