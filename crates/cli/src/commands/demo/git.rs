use std::path::Path;

use tokio::process::Command;

use crate::failure::{Exit, Failure};

/// Commits everything in the folder to `main`, as its developer would, and gives the commit.
/// Nothing is committed when nothing has changed.
pub(super) async fn commit_all(folder: &Path) -> Result<String, Failure> {
    git(folder, &["init", "--quiet", "--initial-branch=main"]).await?;
    git(folder, &["add", "--all"]).await?;
    if !git(folder, &["status", "--porcelain"]).await?.is_empty() {
        git(
            folder,
            &[
                "commit",
                "--quiet",
                "--message",
                "Forecast tomorrow's demand",
            ],
        )
        .await?;
    }
    Ok(git(folder, &["rev-parse", "HEAD"]).await?.trim().to_owned())
}

/// Runs Git with settings of its own: the person's signing keys, hooks and templates stay out of it.
async fn git(folder: &Path, args: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args([
            "-c",
            "user.name=Forebay demo",
            "-c",
            "user.email=demo@localhost",
        ])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(std::process::Stdio::null());
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let output = command.output().await.map_err(|e| {
        Failure::new(Exit::Failed, format!("cannot start git: {e}"))
            .hint("the demo needs the git program on the search path")
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let message = format!("git {} failed: {said}", args.first().unwrap_or(&""));
    Err(Failure::new(Exit::Failed, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_without_changes_keeps_its_commit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "1").unwrap();
        let first = commit_all(folder.path()).await.unwrap();
        assert_eq!(commit_all(folder.path()).await.unwrap(), first);
        std::fs::write(folder.path().join("a"), "2").unwrap();
        assert_ne!(commit_all(folder.path()).await.unwrap(), first);
    }
}
