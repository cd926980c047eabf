use std::collections::BTreeMap;

/// What a remote offers, as `git ls-remote --symref` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RemoteRefs {
    /// The branch that HEAD names.
    head_branch: Option<String>,
    /// The commit that HEAD names.
    head_commit: Option<String>,
    pub(crate) heads: BTreeMap<String, String>,
    /// Tag to commit.
    pub(crate) tags: BTreeMap<String, String>,
    /// Full names to object ids as they are stored: for an annotated tag its own id.
    stored: BTreeMap<String, String>,
}

impl RemoteRefs {
    pub(crate) fn parse(text: &str) -> Self {
        let mut refs = Self::default();
        for (value, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            refs.add(value, name);
        }
        refs
    }

    fn add(&mut self, value: &str, name: &str) {
        if name == "HEAD" {
            match value.strip_prefix("ref: refs/heads/") {
                Some(branch) => self.head_branch = Some(branch.to_owned()),
                None => self.head_commit = Some(value.to_owned()),
            }
            return;
        }
        let (name, peeled) = match name.strip_suffix("^{}") {
            Some(name) => (name, true),
            None => (name, false),
        };
        // A host may offer anything; these would be taken for options.
        let short = |prefix| {
            name.strip_prefix(prefix)
                .filter(|rest: &&str| !rest.starts_with('-'))
        };
        if let Some(branch) = short("refs/heads/") {
            self.heads.insert(branch.to_owned(), value.to_owned());
        } else if let Some(tag) = short("refs/tags/") {
            self.tags.insert(tag.to_owned(), value.to_owned());
        } else {
            return;
        }
        if !peeled {
            self.stored.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The branch to check out when none was asked for.
    pub(crate) fn default_branch(&self) -> Option<&str> {
        let names = |branch: &str| self.heads.contains_key(branch);
        if let Some(branch) = self.head_branch.as_deref().filter(|branch| names(branch)) {
            return Some(branch);
        }
        // HEAD may name a branch that was never pushed, or a bare commit.
        let mut usual = ["main", "master"]
            .into_iter()
            .filter(|branch| names(branch));
        let at_head = |(_, commit): &(&String, &String)| Some(*commit) == self.head_commit.as_ref();
        usual.next().or_else(|| {
            let found = self.heads.iter().find(at_head);
            found
                .or_else(|| self.heads.iter().next())
                .map(|(branch, _)| branch.as_str())
        })
    }

    /// Whether `text`, from `git for-each-ref`, holds exactly these references.
    pub(crate) fn same_as(&self, text: &str) -> bool {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let have: BTreeMap<_, _> = lines.map(|(id, name)| (name, id)).collect();
        have.len() == self.stored.len()
            && self
                .stored
                .iter()
                .all(|(name, id)| have.get(name.as_str()) == Some(&id.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "ref: refs/heads/trunk\tHEAD\naa\tHEAD\naa\trefs/heads/trunk\n\
        bb\trefs/heads/main\ncc\trefs/tags/v1\ndd\trefs/tags/v1^{}\nee\trefs/heads/-x\n\
        ff\trefs/pull/1/head\n";

    #[test]
    fn tags_are_peeled_and_strange_references_are_left_out() {
        let refs = RemoteRefs::parse(LISTING);
        assert_eq!(refs.heads.keys().collect::<Vec<_>>(), ["main", "trunk"]);
        assert_eq!(refs.tags["v1"], "dd");
        assert!(refs.same_as("aa refs/heads/trunk\nbb refs/heads/main\ncc refs/tags/v1\n"));
        assert!(!refs.same_as("aa refs/heads/trunk\nbb refs/heads/main\ndd refs/tags/v1\n"));
        assert!(!refs.same_as("aa refs/heads/trunk\n"));
    }

    #[test]
    fn the_default_branch_is_heads_own_or_the_usual_one() {
        let default = |text| RemoteRefs::parse(text).default_branch().map(str::to_owned);
        assert_eq!(default(LISTING).as_deref(), Some("trunk"));
        let unborn = "ref: refs/heads/master\tHEAD\nbb\trefs/heads/main\naa\trefs/heads/a\n";
        assert_eq!(default(unborn).as_deref(), Some("main"));
        let bare = "bb\tHEAD\naa\trefs/heads/a\nbb\trefs/heads/b\n";
        assert_eq!(default(bare).as_deref(), Some("b"));
        assert_eq!(default(""), None);
    }
}
