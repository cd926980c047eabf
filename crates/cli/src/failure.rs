use std::process::ExitCode;

use forebay_client::{Error, ProfileError};

/// How a command ends; the codes are a promise, written down in `docs/reference/exit-codes.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// The run failed, the server refused, or a check did not pass.
    Failed = 1,
    /// The command line, a file it names, or the configuration is wrong; nothing was done.
    Usage = 2,
    /// No server answered.
    Unreachable = 3,
    /// What `repeat` did again came out otherwise.
    Different = 4,
    /// Ctrl-C.
    Interrupted = 130,
    /// Whoever read the output went away, as in `forebay runs list | head -1`.
    OutputClosed = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command's end when nothing kept it from its work; the work itself may have failed.
pub type Outcome = Result<Exit, Failure>;

/// Why a command could not do its work, in words for the person who typed it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// One line without a full stop; empty where there is nobody to read it.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string().trim_end_matches('.').to_owned();
        match error {
            Error::Profile(error) => profile(&error, message),
            Error::Unreachable { .. } => Self::new(Exit::Unreachable, message)
                .hint("is the server running? `forebay up` starts one"),
            Error::Protocol { .. } => Self::new(Exit::Unreachable, message)
                .hint("check the host of the profile, and that it is a workspace's address"),
            Error::Api { status: 401, .. } => Self::new(Exit::Failed, message).hint(
                "is the token of the profile still valid? `forebay up` writes fresh profiles",
            ),
            Error::Api { .. } => Self::new(Exit::Failed, message),
        }
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        let message = error.to_string();
        profile(&error, message)
    }
}

fn profile(error: &ProfileError, message: String) -> Failure {
    let hint = match error {
        ProfileError::NoFile { .. } => {
            "start a server with `forebay up`, or name its data folder with --data"
        }
        ProfileError::NoProfile { .. } => "choose one with --profile",
        ProfileError::NoToken => "set it, or unset DATABRICKS_HOST to use a profile",
        _ => return Failure::usage(message),
    };
    Failure::usage(message).hint(hint)
}

impl From<std::io::Error> for Failure {
    /// Of writing to standard output.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::new(Exit::OutputClosed, "")
        } else {
            Self::new(Exit::Failed, format!("cannot write the output: {error}"))
        }
    }
}
