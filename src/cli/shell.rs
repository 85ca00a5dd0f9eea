//! `tradelane completions` and `tradelane man`: what shells and readers of manuals need, from the command tree itself. They never touch
//! a node.

use std::{io::Write, path::PathBuf};

use clap::{Args, CommandFactory};

use super::{Cli, ExitCode, Failure};

/// `tradelane completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tradelane completions bash > ~/.local/share/bash-completion/completions/tradelane
  tradelane completions zsh > ~/.zfunc/_tradelane
  tradelane completions fish > ~/.config/fish/completions/tradelane.fish")]
pub struct CompletionsArguments {
    /// For which shell.
    pub shell: clap_complete::Shell,
}

/// `tradelane man`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tradelane man | man -l -
  tradelane man --directory /usr/local/share/man/man1")]
pub struct ManArguments {
    /// Write a page for each command into this directory, instead of the program's own page to standard output.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// Runs `tradelane completions`.
///
/// # Errors
/// Standard output is closed or full.
pub fn run_completions(arguments: &CompletionsArguments, out: &mut impl Write) -> Result<(), Failure> {
    // Made in memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "tradelane", &mut script);
    Ok(out.write_all(&script)?)
}

/// Runs `tradelane man`.
///
/// # Errors
/// A page cannot be written.
pub fn run_man(arguments: &ManArguments, out: &mut impl Write) -> Result<(), Failure> {
    match &arguments.directory {
        None => Ok(clap_mangen::Man::new(Cli::command()).render(out)?),
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
            Failure::new(ExitCode::Storage, format!("cannot write manual pages into {}: {error}", directory.display()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;
    use crate::cli::HELP_COLUMNS;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            run_completions(&CompletionsArguments { shell }, &mut script).unwrap();
            assert!(String::from_utf8(script).unwrap().contains("check-access"), "{shell}");
        }
    }

    #[test]
    fn each_command_has_its_page() {
        let directory = tempfile::tempdir().unwrap();
        run_man(&ManArguments { directory: Some(directory.path().to_owned()) }, &mut Vec::new()).unwrap();
        let page = std::fs::read_to_string(directory.path().join("tradelane-publish.1")).unwrap();
        assert!(page.contains("derive"), "{page}");
        let mut own = Vec::new();
        run_man(&ManArguments { directory: None }, &mut own).unwrap();
        assert!(String::from_utf8(own).unwrap().starts_with(".ie"));
    }

    #[test]
    fn the_command_tree_is_sound_and_every_client_command_has_an_example() {
        let mut tree = Cli::command();
        tree.build();
        tree.clone().debug_assert();
        assert_examples(&tree);
    }

    /// A line above the width is broken by the program. That is right for a paragraph that is one line; one that was broken by hand
    /// already becomes ragged, and a command cannot be pasted any more.
    fn assert_width(command: &str, help: &str) {
        let lines: Vec<&str> = help.lines().collect();
        let is_prose = |line: Option<&&str>| line.is_some_and(|line| !line.is_empty() && !line.starts_with("  "));
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.chars().count() > HELP_COLUMNS) {
            let before = at.checked_sub(1).and_then(|before| lines.get(before));
            let alone = is_prose(Some(line)) && !is_prose(before) && !is_prose(lines.get(at + 1));
            assert!(alone, "the help of {command} is too wide: {line}");
        }
    }

    fn assert_examples(command: &clap::Command) {
        if command.get_name() == "help" {
            return;
        }
        if command.has_subcommands() {
            command.get_subcommands().for_each(assert_examples);
        } else {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example in its help", command.get_name());
            assert_width(command.get_name(), &help);
        }
    }
}
