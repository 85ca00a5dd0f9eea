//! What a command answers that needs no node, or does all its work before it speaks: lines for people, one document for programs. It never
//! decides what is said.

use std::io::{self, Write};

use clap::Args;
use serde_json::Value;

use super::terminal::{OutputFormat, write_json};

/// How to show what was done, for commands that need no node.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputFlag {
    /// How to show what was done: lines for people, json or jsonl for programs.
    #[arg(
        long,
        short = 'o',
        env = "TRADELANE_OUTPUT",
        value_name = "FORMAT",
        hide_env = true,
        default_value = "table"
    )]
    pub output: OutputFormat,
}

/// An answer in both forms.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// For people.
    pub lines: Vec<String>,
    /// For programs.
    pub document: Value,
}

impl Answer {
    /// Writes it in the form that was asked for.
    ///
    /// # Errors
    /// The output is closed or full.
    pub fn write(&self, format: OutputFormat, out: &mut impl Write) -> io::Result<()> {
        match format {
            OutputFormat::Table => self.lines.iter().try_for_each(|line| writeln!(out, "{line}")),
            OutputFormat::Json | OutputFormat::Jsonl => write_json(out, format, &self.document),
        }
    }
}
