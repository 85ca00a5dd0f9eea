//! What happens when a disk fails or a storage thread panics: the process ends, at once. It never tries to go on: after a failed sync
//! nobody knows what the disk holds, and only a start that compares can tell.

use std::{
    fmt,
    io::{self, Write},
    sync::Arc,
    thread,
};

/// What every end says.
const ENDS: &str = "storage failed, the process ends now; the next start checks what is stored";

/// Ends the process in production; records the reason in tests.
#[derive(Clone)]
pub struct FatalHook(Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for FatalHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FatalHook")
    }
}

impl FatalHook {
    /// Writes the reason to the log and aborts the process.
    #[must_use]
    pub fn abort() -> Self {
        Self(Arc::new(|reason| {
            tracing::error!(reason, "{ENDS}");
            // A command or a test keeps no log: an end without a word would be a riddle there.
            if !tracing::dispatcher::has_been_set() {
                let _ = writeln!(io::stderr(), "{ENDS}: {reason}");
            }
            std::process::abort();
        }))
    }

    /// Calls back instead. The thread that failed does nothing more afterwards.
    #[must_use]
    pub fn call(hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    /// Reports the failure.
    pub fn fail(&self, reason: &str) {
        (self.0)(reason);
    }
}

/// Starts a named thread whose panic is a failure of storage. Its body ends by returning, or with an error that is one too.
///
/// # Errors
/// The operating system starts no further thread.
pub fn spawn(
    name: &'static str,
    fatal: FatalHook,
    body: impl FnOnce() -> Result<(), super::StorageError> + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The state that the body shares is not looked at again after a panic: the hook ends the process.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => fatal.fail(&format!("{name}: {}", error.with_cause())),
            Err(_) => fatal.fail(&format!("{name}: panicked")),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    #[test]
    fn a_process_that_keeps_no_log_says_why_it_ends() {
        let test = ["--exact", "storage::fatal::tests::ends_its_process", "--ignored", "--nocapture"];
        let output = Command::new(std::env::current_exe().unwrap()).args(test).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.signal() == Some(6) && said.contains("the disk is gone"), "{:?} {said}", output.status);
    }

    #[test]
    #[ignore = "ends its process: the test above runs it in one of its own"]
    fn ends_its_process() {
        FatalHook::abort().fail("the disk is gone");
    }
}
