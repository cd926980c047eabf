use axum::extract::State;
use forebay_store::Cluster;
use forebay_types::ClusterState;
use maud::{Markup, html};
use serde_json::Value;

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::{state, when};
use crate::site::Pages;

pub(crate) async fn list(State(pages): State<Pages>, session: Session) -> PageResult<Markup> {
    let clusters = pages.services().clusters.list(&session.ctx).await?;
    let now = pages.now();
    let body = html! {
        h1 { "Clusters" }
        p class="soft" {
            "A cluster is a named environment with limits on this machine; a running one is ready to start runs at once."
        }
        @if clusters.is_empty() {
            p class="nothing" { "There are no clusters. Runs that name none use the default runtime." }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" class="is" { "State" } th scope="col" { "Cluster" }
                    th scope="col" { "Runtime" } th scope="col" { "Last used" } th scope="col" { "By" }
                } }
                tbody {
                    @for cluster in &clusters {
                        tr {
                            td class="is" { (badge(cluster.state)) }
                            td data-label="Cluster" class="wide" {
                                span class="name" { (text(cluster, "cluster_name")) }
                                div class="soft" { (cluster.id) }
                                @if !cluster.state_message.is_empty() && !cluster.state.is_active() {
                                    div class="soft" { (cluster.state_message) }
                                }
                            }
                            td data-label="Runtime" {
                                (text(cluster, "spark_version"))
                                @if let Some(runtime) = pages.services().clusters.runtime_of(cluster) {
                                    div class="soft" { "runs on " (runtime) }
                                }
                            }
                            td data-label="Last used" class="tight" { (when(cluster.last_used_at, now)) }
                            td data-label="By" { (cluster.creator) }
                        }
                    }
                }
            }
        }
    };
    let page = Page::new("Clusters", Section::Clusters, body);
    Ok(pages.page(Some(&session), page))
}

fn text<'a>(cluster: &'a Cluster, field: &str) -> &'a str {
    let value = cluster.settings.get(field).and_then(Value::as_str);
    value.unwrap_or_default()
}

fn badge(of: ClusterState) -> Markup {
    match of {
        ClusterState::Pending => state("Getting ready", "wait"),
        ClusterState::Running => state("Running", "good"),
        ClusterState::Restarting => state("Restarting", "wait"),
        ClusterState::Terminated => state("Terminated", "off"),
        ClusterState::Error => state("Error", "bad"),
    }
}
