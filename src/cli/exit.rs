//! How the program ends: the exit codes of sysexits.h, in one place. It never prints.

use std::fmt;

/// The exit codes that the program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// A failure that no other code describes.
    Failure = 1,
    /// Wrong use of the command line (`EX_USAGE`).
    Usage = 64,
    /// Input that is wrong (`EX_DATAERR`).
    Data = 65,
    /// The node cannot be reached, or is about to stop (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Storage failed or is damaged (`EX_IOERR`).
    Storage = 74,
    /// The caller may not do this (`EX_NOPERM`).
    NotPermitted = 77,
    /// Something that the operator set up is wrong: settings, certificates, policy, port (`EX_CONFIG`).
    Configuration = 78,
    /// Ended at once by Ctrl-C, as a shell says it of a program that SIGINT ended.
    Interrupted = 130,
    /// Ended at once by SIGTERM, likewise.
    Terminated = 143,
}

/// Why a command failed: the exit code for scripts, the words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: ExitCode,
    /// What happened and what to do; one line or several. Empty where everything has been said.
    pub message: String,
}

impl Failure {
    /// A failure with its code and words.
    pub fn new(code: ExitCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
