//! `tradelane config check` and `tradelane config show`. They never open data or certificates; of the files that settings name, only the
//! peers file is looked into.

use std::{env, io::Write, path::PathBuf};

use clap::{Args, Subcommand};

use super::exit::{ExitCode, Failure};
use crate::{
    config::{Config, ConfigError, Layers, Settings},
    identity::Peers,
};

/// Where a node's settings come from.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsArguments {
    /// The configuration file; without it, defaults, environment and flags alone.
    #[arg(long, env = "TRADELANE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, over the file and the environment; may be given again.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = parse_set)]
    pub set: Vec<(String, String)>,
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the settings are good; every fault is named with its place.
    #[command(after_help = "Examples:\n  tradelane config check --config /etc/tradelane/tradelane.toml\n  \
                            TRADELANE_LISTEN__ADDRESS=[::]:7443 tradelane config check")]
    Check(SettingsArguments),
    /// Show every setting that is in force and where it comes from.
    #[command(after_help = "Examples:\n  tradelane config show --config /etc/tradelane/tradelane.toml\n  \
                            tradelane config show --set node.data_dir=/tmp/data")]
    Show(SettingsArguments),
}

impl SettingsArguments {
    /// Reads all layers.
    ///
    /// # Errors
    /// With exit code 78 and every fault in words.
    pub fn load(&self) -> Result<(Config, Settings), Failure> {
        let flags = self.set.iter().map(|(key, text)| (format!("--set {key}"), key.clone(), text.clone())).collect();
        // Variables that are not Unicode cannot be settings.
        let environment =
            env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        let layers = Layers { file: self.config.clone(), environment: environment.collect(), flags };
        Config::load(&layers).map_err(|error| match error {
            ConfigError::Unreadable { .. } | ConfigError::Invalid(_) => Failure::new(ExitCode::Configuration, error),
        })
    }
}

/// Runs `tradelane config`.
///
/// # Errors
/// The settings are wrong.
pub fn run(command: &ConfigCommand, out: &mut impl Write) -> Result<(), Failure> {
    let written = match command {
        ConfigCommand::Check(arguments) => {
            let (config, _) = arguments.load()?;
            check_peers(&config)?;
            writeln!(out, "the settings are good")
        }
        ConfigCommand::Show(arguments) => {
            let (_, settings) = arguments.load()?;
            show(&settings, out)
        }
    };
    written.map_err(|error| Failure::new(ExitCode::Failure, error))
}

/// The peers file alone, since it needs no certificate: what it says is checked whether or not the node could start here.
fn check_peers(config: &Config) -> Result<(), Failure> {
    match &config.identity.peers_file {
        None => Ok(()),
        Some(path) => match Peers::read(path, None) {
            Ok(_) => Ok(()),
            Err(faults) => Err(Failure::new(ExitCode::Configuration, faults)),
        },
    }
}

fn show(settings: &Settings, out: &mut impl Write) -> std::io::Result<()> {
    let mut section = "";
    for (key, setting) in settings.iter() {
        let (this, name) = key.split_once('.').unwrap_or(("", key));
        if this != section {
            writeln!(out, "{}[{this}]", if section.is_empty() { "" } else { "\n" })?;
            section = this;
        }
        let line = format!("{name} = {}", setting.value);
        writeln!(out, "{line:<50} # {}", setting.source)?;
    }
    Ok(())
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("must be SECTION.KEY=VALUE, such as listen.address=127.0.0.1:7443")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_itself_a_configuration_with_the_same_meaning() {
        let arguments = SettingsArguments { config: None, set: vec![("node.data_dir".into(), "/tmp/a \"b\"".into())] };
        let mut shown = Vec::new();
        run(&ConfigCommand::Show(arguments), &mut shown).expect("good settings");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("shown.toml");
        std::fs::write(&file, &shown).expect("a file");
        let (again, _) =
            Config::load(&Layers { file: Some(file), ..Layers::default() }).expect("what was shown is good");
        assert_eq!(again.node.data_dir, PathBuf::from("/tmp/a \"b\""));
        let text = String::from_utf8(shown).expect("text");
        assert!(text.contains("# flag --set node.data_dir"), "{text}");
    }

    #[test]
    fn a_wrong_peers_file_ends_with_78_and_its_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("peers.toml");
        std::fs::write(&file, "homes = ['a.example']\n[[peer]]\nnode = 'x'\n").expect("a file");
        let set = vec![("identity.peers_file".into(), file.display().to_string())];
        let arguments = SettingsArguments { config: None, set };
        let failure = run(&ConfigCommand::Check(arguments), &mut Vec::new()).expect_err("a wrong file");
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.contains("peers.toml:2: peer[0].node: must begin with spiffe://"), "{failure}");
    }

    #[test]
    fn a_wrong_setting_ends_with_78() {
        let arguments = SettingsArguments { config: None, set: vec![("listen.port".into(), "1".into())] };
        let failure = run(&ConfigCommand::Check(arguments), &mut Vec::new()).expect_err("a wrong setting");
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.starts_with("flag --set listen.port: unknown setting \"listen.port\""), "{failure}");
    }
}
