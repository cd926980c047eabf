use axum::extract::State;
use forebay_control::workspace::GitFolder;
use maud::{Markup, html};

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::address;
use crate::site::Pages;

const REPOS_MAX: usize = 2000;

pub(crate) async fn list(State(pages): State<Pages>, session: Session) -> PageResult<Markup> {
    let repos = found(&pages, &session).await?;
    let body = html! {
        h1 { "Repos" }
        @if repos.is_empty() {
            p class="nothing" {
                "There are no Git folders yet. Clone one: "
                code { "databricks repos create --url URL --provider gitHub" } "."
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

/// All of them by path; more than the limit is cut, and the tree still has the rest.
async fn found(pages: &Pages, session: &Session) -> PageResult<Vec<GitFolder>> {
    let repos = &pages.services().repos;
    let mut found: Vec<GitFolder> = Vec::new();
    let mut after = None;
    while found.len() < REPOS_MAX {
        let page = repos.list(&session.ctx, "", after).await?;
        found.extend(page.repos);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

pub(crate) fn branch(repo: &GitFolder) -> &str {
    repo.branch.as_deref().unwrap_or("no branch")
}

pub(crate) fn commit(repo: &GitFolder) -> Markup {
    let commit = repo.head_commit_id.as_deref().unwrap_or_default();
    html! { code title=(commit) { (commit.get(..10).unwrap_or(commit)) } }
}
