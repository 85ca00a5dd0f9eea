//! The `tradelane` program: arguments, command, exit code. It never does anything else.

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use clap::Parser;
use mimalloc::MiMalloc;
use tradelane::cli::{self, Cli};

/// The C library's allocator costs a node a fifth of its time, and keeps what its many threads have let go of.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long the allocator keeps what was let go of before the system has it back, in milliseconds. Its own second holds hundreds of MiB
/// while a node stores as fast as it can; a hundredth of it costs no processor time that could be measured.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else is wrong use. Where standard output is gone there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { cli::ExitCode::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    if matches!(cli.command, cli::Command::Serve(_)) && env::var_os(PURGE_DELAY.0).is_none() {
        begin_anew();
    }
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                let _ = writeln!(io::stderr(), "tradelane: {failure}");
            }
            failure.code.into()
        }
    }
}

/// Begins this process anew with the allocator's setting, which it reads before anything of ours runs. Comes back only where that fails:
/// a node works without it.
fn begin_anew() {
    let failed = match env::current_exe() {
        Ok(program) => {
            let mut arguments = env::args_os();
            let name = arguments.next().unwrap_or_else(|| program.clone().into());
            Command::new(program).arg0(name).args(arguments).env(PURGE_DELAY.0, PURGE_DELAY.1).exec()
        }
        Err(error) => error,
    };
    let _ = writeln!(io::stderr(), "tradelane: takes more memory, since {} cannot be set: {failed}", PURGE_DELAY.0);
}
