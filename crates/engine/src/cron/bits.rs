/// A set of small numbers, 0 to 63.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bits(u64);

impl Bits {
    pub(super) fn one(number: u32) -> Self {
        Self(1_u64.checked_shl(number).unwrap_or(0))
    }

    pub(super) fn add(&mut self, number: u32) {
        self.0 |= Self::one(number).0;
    }

    pub(super) fn has(self, number: u32) -> bool {
        self.0 & Self::one(number).0 != 0
    }

    /// The smallest member that is not below `number`.
    pub(super) fn from(self, number: u32) -> Option<u32> {
        let rest = self.0.checked_shr(number)?;
        (rest != 0).then(|| number + rest.trailing_zeros())
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |number| self.has(*number))
    }
}
