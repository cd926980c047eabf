//! Everything that one attempt is made from, found out before it starts: its program is prepared from
//! it, and it is what the attempt notes of itself.

use forebay_store::{Attempt, Run};

use super::Inner;
use super::scope::Scoped;
use super::source::Code;
use crate::clusters::ResolvedCluster;
use crate::jobs::JobDocument;

pub(crate) struct Origin<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) run: &'a Run,
    pub(crate) attempt: &'a Attempt,
    pub(crate) document: &'a JobDocument,
    pub(crate) scoped: &'a Scoped,
    pub(crate) code: &'a Code,
    pub(crate) compute: &'a ResolvedCluster,
    pub(crate) seed: u32,
}
