//! What happens when a disk fails or a storage thread panics: the process ends, at once. It never tries to go on: after a failed sync
//! nobody knows what the disk holds, and only a start that compares can tell.

use std::{fmt, sync::Arc, thread};

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
            tracing::error!(reason, "storage failed, the process ends now; the next start checks what is stored");
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
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The state that the body shares is not looked at again after a panic: the hook ends the process.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => fatal.fail(&format!("{name}: {}", error.with_cause())),
            Err(_) => fatal.fail(&format!("{name}: panicked")),
        }
    })
}
