//! The `tradelane` program: arguments, command, exit code. It never does anything else.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use mimalloc::MiMalloc;
use tradelane::cli::{self, Cli};

/// The C library's allocator costs a node a fifth of its time, and keeps what its many threads have let go of.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else is wrong use. Where standard output is gone there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { cli::ExitCode::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
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
