use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use forebay_client::{Client, Profile, ProfileChoice};
use forebay_config::{Config, ConfigError};

use crate::commands::{
    backup, cancel, clusters, completions, cost, demo, doctor, endpoints, jobs, libraries, logs,
    queue, reference, repeat, repos, retention, run, runs, schedule, secrets, sign_in, token,
    workspace,
};
use crate::failure::Failure;
use crate::output::{Format, Out};

/// Takes data-science code from a Git commit to production, on a machine you own
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server with its workspaces dev, staging and prod
    Up(UpArgs),
    /// Show the main job end to end: a repository's test notebook, cloned and run for real
    Demo(demo::DemoArgs),
    /// Run a notebook or a script and follow it; exits with the run's verdict
    Run(run::RunArgs),
    /// List runs
    Runs(runs::RunsArgs),
    /// Show what runs, what waits and why
    Queue(queue::QueueArgs),
    /// Print what a run printed
    Logs(logs::LogsArgs),
    /// Ask a run to stop
    Cancel(cancel::CancelArgs),
    /// Do a run again from exactly what it was made from, and compare
    Repeat(repeat::RepeatArgs),
    /// Print when a schedule fires next
    Schedule(schedule::ScheduleArgs),
    /// List, import and export notebooks and files
    #[command(subcommand)]
    Workspace(workspace::WorkspaceCommand),
    /// List, show, run and create jobs
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// List, start and terminate clusters
    #[command(subcommand)]
    Clusters(clusters::ClustersCommand),
    /// List libraries and their versions, and move all users to another version
    #[command(subcommand)]
    Libraries(libraries::LibrariesCommand),
    /// List, clone, move and delete Git folders
    #[command(subcommand)]
    Repos(repos::ReposCommand),
    /// List, store and delete secrets
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Create, list and delete access tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Tell what runs used: CPU time, memory, bytes read and written
    Cost(cost::CostArgs),
    /// Remove runs that are older than they may be, or list them
    Retention(retention::RetentionArgs),
    /// Print a link that signs you in to the pages, once
    SignIn(sign_in::SignInArgs),
    /// Check a data folder and this machine, and say what to do about what is wrong
    Doctor(doctor::DoctorArgs),
    /// Write everything in a data folder to one file, also while a server works in it
    Backup(backup::BackupArgs),
    /// Make a new data folder of what `backup` wrote
    Restore(backup::RestoreArgs),
    /// List every API call this server knows, and how far it goes
    Endpoints(endpoints::EndpointsArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
    /// Print a page of the reference documentation
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
    /// Execute the attempts of a server, which starts this itself
    #[command(hide = true)]
    Runner(RunnerArgs),
}

#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Let running work go on when the server is stopped; the next start takes it up
    #[arg(long)]
    keep_runs: bool,
}

impl UpArgs {
    /// Defaults, file and environment, with the flags over them.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.server.config()?;
        config.keep_runs |= self.keep_runs;
        Ok(config)
    }
}

/// What of a server's configuration its runner needs.
#[derive(Debug, Clone, Args)]
pub struct RunnerArgs {
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    #[arg(long, value_name = "DIR")]
    pub environments: Option<PathBuf>,
    #[arg(long, value_name = "LEVEL")]
    pub isolation: String,
    #[arg(long, value_name = "FILE")]
    pub uv: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub python: Option<PathBuf>,
}

/// What a server is started with.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Data folder [default: .forebay]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// First port; the workspaces use it and the next ones [default: 7071]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Configuration file [default: forebay.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Allow local Git addresses below this folder (repeatable)
    #[arg(long = "repo-root", value_name = "DIR")]
    pub repo_roots: Vec<PathBuf>,
}

impl ServerArgs {
    /// Defaults, file and environment, with the flags over them.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        config.port = self.port.unwrap_or(config.port);
        config.repo_roots.extend(self.repo_roots.iter().cloned());
        Ok(config)
    }
}

/// Which workspace a command talks to, and how it answers.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workspace and output")]
pub(crate) struct Connection {
    /// Profile of the workspace [default: dev]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Data folder of the server, for its profiles [default: .forebay]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

impl Connection {
    pub(crate) fn out(&self) -> Out {
        Out::new(self.output)
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let choice = ProfileChoice {
            profile: self.profile.clone(),
            data: self.data.clone(),
        };
        Ok(Client::new(&Profile::find(&choice)?)?)
    }
}
