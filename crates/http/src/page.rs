//! Pages of lists: opaque tokens that name the last item shown.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_types::{Error, Result};
use serde_json::{Value, json};

use crate::extract::ApiVersion;

/// The page size asked for, within bounds.
pub(crate) fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize> {
    match asked.unwrap_or(default) {
        0 => Ok(default),
        limit if limit <= max => Ok(limit),
        limit => Err(Error::invalid(format!(
            "Field 'limit' is {limit}, at most {max}."
        ))),
    }
}

/// How many items come before the page, for clients without tokens.
pub(crate) fn offset(asked: Option<usize>) -> Result<usize> {
    const MAX: usize = 1_000_000;
    match asked.unwrap_or(0) {
        offset if offset <= MAX => Ok(offset),
        offset => Err(Error::invalid(format!(
            "Field 'offset' is {offset}, at most {MAX}: use page_token for what is further away."
        ))),
    }
}

/// The item that a token names, mostly by its id.
pub(crate) fn before<K: FromStr>(token: Option<&str>) -> Result<Option<K>> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let item = bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
    item.map(Some)
        .ok_or_else(|| Error::invalid("Field 'page_token' is not a token of this server."))
}

fn token(item: impl Display) -> String {
    URL_SAFE_NO_PAD.encode(item.to_string())
}

/// Cuts a list that was read one item too long, and names its last item when there is more.
pub(crate) fn split<T, K>(
    mut items: Vec<T>,
    limit: usize,
    name: impl Fn(&T) -> K,
) -> (Vec<T>, Option<K>) {
    if items.len() <= limit {
        return (items, None);
    }
    items.truncate(limit);
    let last = items.last().map(name);
    (items, last)
}

/// Absent when there is no next page: some clients loop for ever on an empty token.
pub(crate) fn put_token(answer: &mut Value, next: Option<impl Display>) {
    if let (Some(next), Some(answer)) = (next, answer.as_object_mut()) {
        answer.insert("next_page_token".to_owned(), json!(token(next)));
    }
}

/// Where the page of a list inside one object begins.
pub(crate) fn start(token: Option<&str>) -> Result<usize> {
    Ok(usize::try_from(before(token)?.unwrap_or(0_i64)).unwrap_or(0))
}

/// Refuses more tasks than clients before API 2.2 can take.
pub(crate) fn refuse_large(version: ApiVersion, tasks: Option<&Value>) -> Result<()> {
    let count = tasks.and_then(Value::as_array).map_or(0, Vec::len);
    if version < ApiVersion::V2_2 && count > LIST_PAGE {
        return Err(Error::invalid(
            "Resources with more than 100 tasks can only be handled by API 2.2 and above",
        ));
    }
    Ok(())
}

const LIST_PAGE: usize = 100;

/// Shows the long lists of one object by pages of 100, as API 2.2 does. `within` names the field
/// that holds the lists; empty for the object itself.
pub(crate) fn lists(shown: &mut Value, within: &str, token_given: Option<&str>) -> Result<()> {
    let start = start(token_given)?;
    let holder = if within.is_empty() {
        Some(&mut *shown)
    } else {
        shown.get_mut(within)
    };
    let Some(holder) = holder else { return Ok(()) };
    let mut more = false;
    for field in [
        "tasks",
        "job_clusters",
        "job_parameters",
        "parameters",
        "environments",
        "repair_history",
    ] {
        if let Some(Value::Array(items)) = holder.get_mut(field) {
            more |= items.len() > start + LIST_PAGE;
            *items = items.drain(..).skip(start).take(LIST_PAGE).collect();
        }
    }
    let next = more.then(|| i64::try_from(start + LIST_PAGE).unwrap_or(i64::MAX));
    if let Some(object) = shown.as_object_mut()
        && more
    {
        object.insert("has_more".to_owned(), json!(true));
    }
    put_token(shown, next);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_its_id_and_a_strange_one_is_refused() {
        assert_eq!(before(Some(&token(42))).unwrap(), Some(42));
        assert_eq!(before::<i64>(Some("")).unwrap(), None);
        assert!(before::<i64>(Some("???")).is_err());
    }

    #[test]
    fn lists_over_a_hundred_are_shown_in_pages() {
        let all: Vec<usize> = (0..250).collect();
        let mut shown = json!({"tasks": all});
        lists(&mut shown, "", None).unwrap();
        assert_eq!(shown["tasks"].as_array().unwrap().len(), 100);
        let next = shown["next_page_token"].as_str().unwrap().to_owned();
        let mut second = json!({"tasks": all});
        lists(&mut second, "", Some(&next)).unwrap();
        assert_eq!(second["tasks"][0], 100);
        let last = second["next_page_token"].as_str().unwrap().to_owned();
        let mut third = json!({"tasks": all});
        lists(&mut third, "", Some(&last)).unwrap();
        assert_eq!(third["tasks"].as_array().unwrap().len(), 50);
        assert!(third.get("next_page_token").is_none());
    }
}
