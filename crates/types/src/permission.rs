/// What somebody may do with a secret scope; each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretPermission {
    /// Read values and list keys.
    Read,
    /// Put and delete values.
    Write,
    /// Change who may do what, and delete the scope.
    Manage,
}

impl SecretPermission {
    /// The API's own word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Manage => "MANAGE",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Manage]
            .into_iter()
            .find(|level| level.as_str() == text)
    }
}
