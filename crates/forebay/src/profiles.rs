use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use forebay_control::{Ctx, Services};

use crate::data::write_private;
use crate::server::WorkspaceAddress;

/// Makes sure that every workspace has an administrator with a working token, and writes the
/// profiles that the SDK and the legacy CLI read. Tokens of an earlier start stay valid.
pub(crate) async fn write_profiles(
    path: &Path,
    workspaces: &[(WorkspaceAddress, &Services)],
) -> Result<()> {
    let known = read_tokens(&std::fs::read_to_string(path).unwrap_or_default());
    let mut text =
        String::from("# Written by `forebay up`; administrators' tokens, keep private.\n");
    for (address, services) in workspaces {
        let token = token(services, known.get(&address.name)).await?;
        write!(
            text,
            "\n[{}]\nhost = {}\ntoken = {token}\n",
            address.name, address.url
        )?;
    }
    write_private(path, &text)
}

async fn token(services: &Services, known: Option<&String>) -> Result<String> {
    let admin = services.identity.first_admin().await?;
    if let Some(token) = known
        && services
            .tokens
            .authenticate(token)
            .await
            .is_ok_and(|user| user.id == admin.id)
    {
        return Ok(token.clone());
    }
    let (token, _) = services
        .tokens
        .create(&Ctx::new(admin), "forebay up", None)
        .await?;
    Ok(token)
}

/// The token of each profile in a file this program wrote.
fn read_tokens(text: &str) -> HashMap<String, String> {
    let mut tokens = HashMap::new();
    let mut profile = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            profile = name.to_owned();
        } else if let Some(("token", value)) =
            line.split_once('=').map(|(k, v)| (k.trim(), v.trim()))
        {
            tokens.insert(profile.clone(), value.to_owned());
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_by_profile() {
        let tokens = read_tokens("# x\n[dev]\nhost = http://h\ntoken = abc\n\n[prod]\ntoken=def\n");
        assert_eq!(tokens.get("dev").map(String::as_str), Some("abc"));
        assert_eq!(tokens.get("prod").map(String::as_str), Some("def"));
    }
}
