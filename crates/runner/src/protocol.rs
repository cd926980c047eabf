//! What a server and its runner say to each other: frames of JSON over a Unix socket.
//!
//! An attempt is named by its spool folder, which is the same in every process that ever has to do
//! with it. Its events never travel here: both sides have the spool, and a frame only says that
//! there is more in it. So there is one way to read them, whether the runner is there or not.

use std::io;
use std::path::PathBuf;

use forebay_exec::{
    CallId, CancelReason, HostError, Isolation, Place, Prepared, RuntimeInfo, StartError, Usage,
    Workload,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Raised by every change that the other side could misread. A server ends a runner that speaks
/// another one, because it cannot follow its runs.
pub(crate) const PROTOCOL: u32 = 3;

/// Beyond this a frame is taken for garbage. A driver's own limit is 41 MiB.
const FRAME_BYTES_MAX: u32 = 128 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToRunner {
    /// The first frame of a server. From here on it is the one that runs belong to.
    Hello {
        protocol: u32,
    },
    /// The first frame of somebody who only wants to look: one [`Welcome`], and the end.
    Inspect,
    Start {
        request: u64,
        workload: Box<Workload>,
    },
    /// Whoever asked for this start does not want it any more; as if it had never been asked for.
    Abandon {
        attempt: PathBuf,
    },
    /// Asks for notices and open calls of an attempt that another server had started.
    Attach {
        request: u64,
        attempt: PathBuf,
    },
    Cancel {
        attempt: PathBuf,
        reason: CancelReason,
    },
    Kill {
        attempt: PathBuf,
    },
    Answer {
        attempt: PathBuf,
        call: CallId,
        result: Result<Value, HostError>,
    },
    Prepare {
        request: u64,
        place: Place,
    },
    Ping,
    /// No further starts; the runner ends when no attempt is left.
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToServer {
    Welcome(Welcome),
    Reply {
        request: u64,
        reply: Reply,
    },
    /// There is more in the spool than there was.
    Grown {
        attempt: PathBuf,
    },
    /// The spool cannot be written, so it will not tell how the attempt ended.
    Broken {
        attempt: PathBuf,
        message: String,
    },
    Call {
        attempt: PathBuf,
        call: CallId,
        method: String,
        args: Value,
    },
    /// The program does not wait for this call any more.
    Withdraw {
        attempt: PathBuf,
        call: CallId,
    },
    /// With what the attempts under way have used up to now.
    Pong {
        usage: Vec<(PathBuf, Usage)>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Started,
    NotStarted(Refusal),
    Attached { known: bool },
    Prepared(Prepared),
}

/// How a runner introduces itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    pub protocol: u32,
    pub pid: u32,
    /// Which program this is: version and build.
    pub build: String,
    /// What it was started with, as far as runs depend on it.
    pub options: String,
    pub isolation: Isolation,
    pub runtimes: Vec<RuntimeInfo>,
    /// The spool folders of the attempts under way.
    pub attempts: Vec<PathBuf>,
    /// Whether a server is connected at the moment.
    pub owned: bool,
}

/// A [`StartError`] on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Invalid(String),
    UnknownRuntime {
        name: String,
        known: String,
    },
    Environment {
        runtime: String,
        detail: String,
    },
    Isolation(String),
    Host {
        doing: String,
        code: Option<i32>,
        detail: String,
    },
    Stopping,
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Invalid(what) => Self::Invalid(what),
            StartError::UnknownRuntime { name, known } => Self::UnknownRuntime { name, known },
            StartError::Environment { runtime, detail } => Self::Environment { runtime, detail },
            StartError::Isolation(what) => Self::Isolation(what),
            StartError::Host { doing, source } => Self::Host {
                doing,
                code: source.raw_os_error(),
                detail: source.to_string(),
            },
            StartError::Stopping => Self::Stopping,
        }
    }
}

impl From<Refusal> for StartError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(what) => Self::Invalid(what),
            Refusal::UnknownRuntime { name, known } => Self::UnknownRuntime { name, known },
            Refusal::Environment { runtime, detail } => Self::Environment { runtime, detail },
            Refusal::Isolation(what) => Self::Isolation(what),
            Refusal::Host {
                doing,
                code,
                detail,
            } => Self::Host {
                doing,
                source: code.map_or_else(|| io::Error::other(detail), io::Error::from_raw_os_error),
            },
            Refusal::Stopping => Self::Stopping,
        }
    }
}

/// Writes one frame: its length in four bytes, big endian, and JSON.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).ok();
    let length = length.filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a message is too large"))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    to.write_all(&frame).await
}

/// Reads one frame; `None` when the other side has closed. Not cancel safe.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let length = match from.read_u32().await {
        Ok(length) => length,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await?;
    Ok(Some(serde_json::from_slice(&frame)?))
}
