use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect};
use forebay_control::repos::{Change, Commit, History, RepoChange, Revision};
use forebay_control::workspace::GitFolder;
use forebay_types::{Error, Millis, RepoId};
use maud::{Markup, html};
use serde::Deserialize;

use crate::failure::{Failure, PageResult};
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::{address, when};
use crate::site::Pages;

const REPOS_MAX: usize = 2000;
const CHANGES_MAX: usize = 100;

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
                                a class="name" href=(link(repo)) { (repo.path) }
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

pub(crate) fn link(repo: &GitFolder) -> String {
    format!("/repos/{}", repo.id)
}

/// One Git folder: where it stands, how it came there, and the ways to somewhere else.
pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Path(id): Path<String>,
) -> PageResult<Markup> {
    let repos = &pages.services().repos;
    let repo = repos.get(&session.ctx, repo_id(&id)?).await?;
    let history = repos.history(&session.ctx, repo.id).await?;
    let now = pages.now();
    let body = html! {
        p class="crumbs" { a href="/repos" { "Repos" } " / " (repo.path) }
        div class="title" {
            h1 { (repo.path.name()) }
            a href={ "/workspace" (address(repo.path.as_str())) } { "Browse the files" }
            @if let Some(branch) = &repo.branch {
                form method="post" action=(link(&repo)) {
                    (hidden(&session, "branch", branch))
                    button type="submit" { "Pull " (branch) }
                }
            }
        }
        p class="soft" { "from " span class="path" { (repo.url) } }
        (stand(&repo, &history, now))
        (check_out_form(&session, &repo))
        @if !history.changes.is_empty() {
            h2 { "Changed last" }
            (changes(&history.changes))
        }
        @if history.commits.len() > 1 {
            h2 { "Last commits" }
            (commits(&history.commits, now))
        }
    };
    let page = Page::new(repo.path.name(), Section::Repos, body);
    Ok(pages.page(Some(&session), page))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Sent {
    #[serde(default)]
    form_token: String,
    kind: String,
    name: String,
}

/// Pulls the branch, or moves to another branch, a tag or a commit.
pub(crate) async fn check_out(
    State(pages): State<Pages>,
    session: Session,
    Path(id): Path<String>,
    Form(sent): Form<Sent>,
) -> PageResult {
    session.check_form(&sent.form_token)?;
    let name = sent.name.trim().to_owned();
    let revision = match sent.kind.as_str() {
        _ if name.is_empty() => return Err(Failure(Error::invalid("Name what to check out."))),
        "branch" => Revision::Branch(name),
        "tag" => Revision::Tag(name),
        "commit" => Revision::Commit(name),
        _ => {
            return Err(Failure(Error::invalid(
                "Choose a branch, a tag or a commit.",
            )));
        }
    };
    let change = RepoChange {
        revision: Some(revision),
        sparse: None,
    };
    let repos = &pages.services().repos;
    let repo = repos.update(&session.ctx, repo_id(&id)?, change).await?;
    Ok(Redirect::to(&link(&repo)).into_response())
}

fn repo_id(text: &str) -> PageResult<RepoId> {
    let id = text.parse().map(RepoId);
    id.map_err(|_| Failure(Error::missing(format!("'{text}' is not the id of a repo."))))
}

fn hidden(session: &Session, kind: &str, name: &str) -> Markup {
    html! {
        input type="hidden" name="form_token" value=(session.form_token());
        input type="hidden" name="kind" value=(kind);
        input type="hidden" name="name" value=(name);
    }
}

fn stand(repo: &GitFolder, history: &History, now: Millis) -> Markup {
    let Some(newest) = history.commits.first() else {
        return html! { p class="nothing" { "This repository has no commits yet." } };
    };
    html! {
        dl class="facts" {
            @if let Some(branch) = &repo.branch { div { dt { "Branch" } dd { (branch) } } }
            @if !history.tags.is_empty() { div { dt { "Tag" } dd { (history.tags.join(", ")) } } }
            div { dt { "Commit" } dd { code title=(newest.id) { (short(&newest.id)) } } }
            div { dt { "Message" } dd { (newest.subject) } }
            div { dt { "By" } dd { (newest.author) } }
            div { dt { "When" } dd { (when(newest.at, now)) } }
        }
    }
}

fn check_out_form(session: &Session, repo: &GitFolder) -> Markup {
    html! {
        form class="line" method="post" action=(link(repo)) {
            input type="hidden" name="form_token" value=(session.form_token());
            label {
                "Move to "
                select name="kind" {
                    option value="branch" { "the branch" }
                    option value="tag" { "the tag" }
                    option value="commit" { "the commit" }
                }
            }
            input type="text" name="name" required aria-label="Its name" autocomplete="off";
            button type="submit" class="quiet" { "Check out" }
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

fn changes(changes: &[Change]) -> Markup {
    html! {
        table class="cards" {
            thead { tr { th scope="col" { "File" } th scope="col" { "What" } } }
            tbody {
                @for change in changes.iter().take(CHANGES_MAX) {
                    tr {
                        td data-label="File" class="wide" { (change.path) }
                        td data-label="What" class="tight" {
                            @match change.kind {
                                'A' => "added",
                                'D' => "deleted",
                                _ => "changed",
                            }
                        }
                    }
                }
            }
        }
        @if changes.len() > CHANGES_MAX {
            p class="note" { "The first " (CHANGES_MAX) " of " (changes.len()) " files." }
        }
    }
}

fn commits(commits: &[Commit], now: Millis) -> Markup {
    html! {
        table class="cards" {
            thead { tr {
                th scope="col" { "Message" } th scope="col" { "Commit" }
                th scope="col" { "By" } th scope="col" { "When" }
            } }
            tbody {
                @for commit in commits {
                    tr {
                        td data-label="Message" class="wide" { (commit.subject) }
                        td data-label="Commit" class="tight" {
                            code title=(commit.id) { (short(&commit.id)) }
                        }
                        td data-label="By" { (commit.author) }
                        td data-label="When" class="tight" { (when(commit.at, now)) }
                    }
                }
            }
        }
    }
}
