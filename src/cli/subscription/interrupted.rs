//! How a person ends a consumer: the first signal asks it to finish what is under way, the second to end at once. It never ends anything itself.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{ExitCode, Failure, terminal::note};

/// Asks to stop at the first signal, and at the second answers with what the program ends at once.
pub(super) async fn twice(stop: &CancellationToken) -> Result<ExitCode, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => ExitCode::Terminated,
            _ = interrupt.recv() => ExitCode::Interrupted,
        }
    };
    next().await;
    stop.cancel();
    note("finishing what is under way; once more ends at once");
    Ok(next().await)
}
