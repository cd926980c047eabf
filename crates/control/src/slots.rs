use forebay_config::Config;
use forebay_store::{ServerSlots, SlotLimits};

/// The slots of a server with these workspaces.
#[must_use]
pub fn server_slots(config: &Config) -> ServerSlots {
    let server_max = config.limits.running_attempts_max;
    let limits = config.workspaces.iter().map(|workspace| SlotLimits {
        workspace: workspace.name.clone(),
        max: workspace.running_attempts_max.unwrap_or(server_max),
        weight: workspace.weight,
    });
    ServerSlots::new(server_max, limits.collect())
}
