use axum::extract::State;
use forebay_control::workspace::{GitFolder, Listing, ObjectKind};
use forebay_types::WorkspacePath;
use maud::{Markup, html};

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::address;
use crate::site::Pages;

/// Git folders live in `/Repos/<user>/<name>`; more levels are not looked at.
const OWNERS_MAX: usize = 200;

pub(crate) async fn list(State(pages): State<Pages>, session: Session) -> PageResult<Markup> {
    let repos = found(&pages, &session).await?;
    let body = html! {
        h1 { "Repos" }
        @if repos.is_empty() {
            p class="nothing" {
                "There are no Git folders yet. Clone one: "
                code { "databricks repos create --url URL --provider gitHub" }
            }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Folder" } th scope="col" { "Branch" }
                    th scope="col" { "Commit" } th scope="col" { "From" }
                } }
                tbody {
                    @for repo in &repos {
                        tr {
                            td data-label="Folder" class="wide" {
                                a class="name" href={ "/workspace" (address(repo.path.as_str())) } {
                                    (repo.path)
                                }
                            }
                            td data-label="Branch" { (branch(repo)) }
                            td data-label="Commit" class="tight" { (commit(repo)) }
                            td data-label="From" class="wide" { (repo.url) }
                        }
                    }
                }
            }
        }
    };
    Ok(pages.page(Some(&session), Page::new("Repos", Section::Repos, body)))
}

async fn found(pages: &Pages, session: &Session) -> PageResult<Vec<GitFolder>> {
    let workspace = &pages.services().workspace;
    let ctx = &session.ctx;
    let mut repos = Vec::new();
    let root = WorkspacePath::parse("/Repos").map_err(forebay_types::Error::from)?;
    let Listing::Folder(owners) = workspace.list(ctx, &root, None).await? else {
        return Ok(repos);
    };
    for owner in owners.into_iter().take(OWNERS_MAX) {
        let Ok(Listing::Folder(folders)) = workspace.list(ctx, &owner.path, None).await else {
            continue;
        };
        for folder in folders
            .into_iter()
            .filter(|one| one.kind == ObjectKind::Repo)
        {
            repos.extend(workspace.git_folder(ctx, &folder.path).await?);
        }
    }
    Ok(repos)
}

pub(crate) fn branch(repo: &GitFolder) -> &str {
    repo.branch.as_deref().unwrap_or("no branch")
}

pub(crate) fn commit(repo: &GitFolder) -> Markup {
    let commit = repo.head_commit_id.as_deref().unwrap_or_default();
    html! { code title=(commit) { (commit.get(..10).unwrap_or(commit)) } }
}
