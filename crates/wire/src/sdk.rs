//! Every call that the Python SDK can make, so that those which are not in the endpoint table are
//! refused by name. The list comes from the SDK's own source:
//!
//! ```text
//! scripts/run-in acceptance python acceptance/sdk_coverage.py --write-calls crates/wire/src/sdk_calls.txt
//! ```

/// `METHOD /path/with/{}` on each line; `{}` stands for one or more characters, which may include
/// slashes, because names of newer resources do.
const CALLS: &str = include_str!("sdk_calls.txt");

/// All calls as (method, pattern).
pub fn calls() -> impl Iterator<Item = (&'static str, &'static str)> {
    CALLS.lines().filter_map(|line| line.split_once(' '))
}

/// Whether the SDK knows the call.
#[must_use]
pub fn is_call(method: &str, path: &str) -> bool {
    calls().any(|(known, pattern)| known == method && matches(pattern, path))
}

/// Goes back to the last hole only, as is enough for a pattern of literals and holes; so a long
/// path costs its length times that of the pattern, at most.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split("{}");
    let head = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(head) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(literal) = parts.next() {
        // A hole takes one character at least.
        let Some(first) = rest.chars().next() else {
            return false;
        };
        let after = &rest[first.len_utf8()..];
        if parts.peek().is_none() {
            return after.ends_with(literal);
        }
        match after.find(literal) {
            Some(at) => rest = &after[at + literal.len()..],
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_take_one_or_more_characters() {
        assert!(matches("/a/{}/b", "/a/x/b"));
        assert!(matches("/a/{}/b", "/a/x/y/b"));
        assert!(matches("/a/{}", "/a/ä"));
        assert!(matches("/a/{}/b/{}", "/a/x/b/y"));
        assert!(matches("/a/{}:go", "/a/x/y:go"));
        assert!(!matches("/a/{}/b", "/a//b"));
        assert!(!matches("/a/{}/b", "/a/x/c"));
        assert!(!matches("/a/{}", "/a/"));
        assert!(!matches("/a/{}/b/{}", "/a/x/b/"));
        assert!(!matches("/a", "/a/b"));
    }

    #[test]
    fn list_is_whole() {
        assert!(calls().count() > 1000);
        assert!(is_call("GET", "/api/2.0/sql/warehouses"));
        assert!(is_call("POST", "/api/2.0/sql/warehouses/7/start"));
        assert!(!is_call("GET", "/api/2.0/no-such-thing"));
    }
}
