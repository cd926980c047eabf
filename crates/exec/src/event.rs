//! What a run reports while it goes on, and how it ended.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Representations of one object by media type, as in the notebook format: text as a string,
/// images as base64.
pub type MimeBundle = Map<String, Value>;

/// The media type of a table as data: `{"schema": [{"name", "type"}], "rows": [[...]], "more": bool}`, where
/// `more` says that the table has more rows than these. Written by `python/forebay_driver/tables.py`.
pub const TABLE: &str = "application/vnd.forebay.table+json";

/// What stands on standard error in place of the output that was too much for its cell.
pub const TRUNCATED: &str = "[output truncated:";

/// In the order in which the program caused them. `cell` is the index of the notebook's own cell;
/// what a `%run` cell executes belongs to that cell. Scripts and wheels have the one cell 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    CellStarted {
        cell: usize,
    },
    Stream {
        cell: usize,
        name: StreamName,
        text: String,
    },
    Display {
        cell: usize,
        data: MimeBundle,
        #[serde(default)]
        metadata: MimeBundle,
        #[serde(default)]
        display_id: Option<String>,
    },
    /// Replaces the data of every earlier display with this id.
    UpdateDisplay {
        cell: usize,
        data: MimeBundle,
        #[serde(default)]
        metadata: MimeBundle,
        display_id: String,
    },
    ClearOutput {
        cell: usize,
        /// Wait for the next output before clearing.
        wait: bool,
    },
    /// The value of the cell's last expression.
    Result {
        cell: usize,
        count: u32,
        data: MimeBundle,
        #[serde(default)]
        metadata: MimeBundle,
    },
    Error {
        cell: usize,
        ename: String,
        evalue: String,
        /// Lines, with terminal colours.
        traceback: Vec<String>,
    },
    CellFinished {
        cell: usize,
        status: CellStatus,
        duration_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamName {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellStatus {
    Succeeded,
    Failed,
    /// Not executed on purpose: `%skip`, or a cell after `dbutils.notebook.exit`.
    Skipped,
}

/// The last word on an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub outcome: Outcome,
    pub usage: Usage,
    /// The level that was in force, as shown by [`crate::IsolationLevel::as_str`].
    pub isolation: String,
    /// Digest of the environment (lock, Python, platform); empty when there was none.
    pub environment: String,
    /// Whether the run was forked from a warm parent.
    pub warm: bool,
    /// The Spark engine that worked for it, such as `sail 0.7.2`; `None` when it used none.
    #[serde(default)]
    pub engine: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Succeeded {
        /// What the program handed to `dbutils.notebook.exit`.
        exit_value: Option<String>,
    },
    Failed {
        ename: String,
        message: String,
        /// Plain text, without terminal colours.
        trace: String,
        /// `None` when it failed outside the cells, such as in the installation of a library.
        cell: Option<usize>,
    },
    Canceled,
    TimedOut,
    /// The kernel killed a process of the run at its memory limit.
    OutOfMemory {
        limit_bytes: Option<u64>,
    },
    /// The run used more CPU time than [`crate::Limits::cpu_ms`].
    CpuLimit {
        limit_ms: u64,
        used_ms: u64,
    },
    /// The run wrote more than [`crate::Limits::output_run_bytes`].
    OutputLimit {
        limit_bytes: u64,
    },
    /// The program's process went away without a verdict.
    Crashed {
        signal: Option<i32>,
        exit: Option<i32>,
        message: String,
    },
    /// Not the program's doing: the executor's own process went away, or never got to start it.
    Lost {
        message: String,
    },
}

/// By the operating system's own accounting. A field is `None` where the host does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub wall_ms: u64,
    pub cpu_ms: Option<u64>,
    /// At this moment, without what the kernel could take back at once; only while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    pub memory_peak_bytes: Option<u64>,
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
}
