//! `tradelane config`: whether a node could start with its settings and files, what is in force, and files to begin with. It never opens
//! a node's data.

use std::{env, io::Write, path::PathBuf};

use clap::{Args, Subcommand};

use serde_json::{Value, json};

use super::{
    answer::{Answer, OutputFlag},
    exit::{ExitCode, Failure},
    terminal::{OutputFormat, write_json},
};
use crate::{
    clock::{Clock, SystemClock},
    config::{Config, ConfigError, Layers, Setting, Settings, Value as Written, settings::REFERENCE},
    node::Node,
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
    /// Say whether a node could start with these settings and the files that they name; every fault is named with its place.
    #[command(after_help = "\
Looks at what `serve` looks at before it opens its log: the settings, certificate and key, trust, policy and peers files, code lists. \
It opens no port and no data directory, and changes nothing.

Exit code: 0 all is good, 78 something is wrong.

Examples:
  tradelane config check --config /etc/tradelane/tradelane.toml
  tradelane config check --settings-only --config tradelane.toml
  TRADELANE_LISTEN__ADDRESS=[::]:7443 tradelane config check")]
    Check {
        /// Whose.
        #[command(flatten)]
        settings: SettingsArguments,
        /// Leave out the files that the settings name, for a machine that does not have them.
        #[arg(long)]
        settings_only: bool,
        /// How to show it.
        #[command(flatten)]
        output: OutputFlag,
    },
    /// Show every setting that is in force and where it comes from.
    #[command(after_help = "Examples:\n  tradelane config show --config /etc/tradelane/tradelane.toml\n  \
                            tradelane config show --set node.data_dir=/tmp/data")]
    Show {
        /// Whose.
        #[command(flatten)]
        settings: SettingsArguments,
        /// How to show it.
        #[command(flatten)]
        output: OutputFlag,
    },
    /// Print a file that a node reads, with every key and what it means, to begin one's own with.
    #[command(after_help = "\
The trust and policy examples fit what `tradelane pki init` makes, so a node for a first try is:
  tradelane pki init exchange.gov.pk
  tradelane pki init customs.gov.pk
  tradelane pki init port.karachi.pk
  tradelane pki issue spiffe://exchange.gov.pk/node/khi-1 --node --host localhost
  tradelane pki issue spiffe://customs.gov.pk/agency/karachi
  tradelane config example trust > trust.toml
  tradelane config example policy > policy.toml
  tradelane serve --set node.data_dir=data --set listen.address=127.0.0.1:7443 \\
    --set identity.certificate_file=pki/exchange.gov.pk/node-khi-1.pem \\
    --set identity.private_key_file=pki/exchange.gov.pk/node-khi-1.key \\
    --set identity.trust_file=trust.toml --set identity.policy_file=policy.toml

Examples:
  tradelane config example policy > policy.toml
  tradelane config example settings > tradelane.toml")]
    Example {
        /// Which file.
        #[arg(value_name = "FILE")]
        which: ExampleFile,
    },
}

/// The files that a node reads and that people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExampleFile {
    /// Every setting with its default.
    Settings,
    /// Whom the node believes: `identity.trust_file`.
    Trust,
    /// Who may do what: `identity.policy_file`.
    Policy,
    /// The other nodes: `identity.peers_file`.
    Peers,
}

impl ExampleFile {
    const fn text(self) -> &'static str {
        match self {
            Self::Settings => REFERENCE,
            Self::Trust => include_str!("../../config/trust.toml"),
            Self::Policy => include_str!("../../config/policy.toml"),
            Self::Peers => include_str!("../../config/peers.toml"),
        }
    }
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
/// The settings, or files that they name, are wrong.
pub fn run(command: &ConfigCommand, out: &mut impl Write) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { settings, settings_only, output } => {
            let (config, _) = settings.load()?;
            let good = if *settings_only {
                "the settings are good; the files that they name were not looked at"
            } else {
                Node::check(&config, SystemClock.now_ns())
                    .map_err(|fault| Failure::new(ExitCode::Configuration, fault))?;
                "the settings and the files that they name are good"
            };
            let document = json!({ "good": true, "filesLookedAt": !settings_only });
            Ok(Answer { lines: vec![good.to_owned()], document }.write(output.output, out)?)
        }
        ConfigCommand::Show { settings, output } => {
            let (_, settings) = settings.load()?;
            match output.output {
                OutputFormat::Table => Ok(show(&settings, out)?),
                format => Ok(write_json(out, format, &as_json(&settings))?),
            }
        }
        ConfigCommand::Example { which } => Ok(out.write_all(which.text().as_bytes())?),
    }
}

fn as_json(settings: &Settings) -> Value {
    let told = |(key, setting): (&str, &Setting)| {
        let value = match &setting.value {
            Written::Text(text) => json!(text),
            Written::Integer(number) => json!(number),
            Written::Boolean(truth) => json!(truth),
            Written::List(items) => json!(items),
        };
        (key.to_owned(), json!({ "value": value, "source": setting.source.to_string() }))
    };
    settings.iter().map(told).collect::<serde_json::Map<_, _>>().into()
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
    use clap::{Parser, ValueEnum};

    use super::*;
    use crate::identity::Peers;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: ConfigCommand,
    }

    fn config(words: &[&str]) -> Result<String, Failure> {
        let program = Program::try_parse_from(["config"].iter().chain(words)).expect("good words");
        let mut out = Vec::new();
        run(&program.command, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn what_is_shown_is_itself_a_configuration_with_the_same_meaning() {
        let shown = config(&["show", "--set", "node.data_dir=/tmp/a \"b\""]).expect("good settings");
        assert!(shown.contains("# flag --set node.data_dir"), "{shown}");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("shown.toml");
        std::fs::write(&file, &shown).expect("a file");
        let (again, _) =
            Config::load(&Layers { file: Some(file), ..Layers::default() }).expect("what was shown is good");
        assert_eq!(again.node.data_dir, PathBuf::from("/tmp/a \"b\""));

        let json = config(&["show", "--set", "node.stop_timeout=3s", "--output", "json"]).expect("good settings");
        let json: Value = serde_json::from_str(&json).expect("one document");
        let told = &json["node.stop_timeout"];
        assert_eq!((&told["value"], &told["source"]), (&json!("3s"), &json!("flag --set node.stop_timeout")));
    }

    #[test]
    fn the_example_of_settings_is_good_and_every_example_says_what_it_is_for() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("tradelane.toml");
        std::fs::write(&file, config(&["example", "settings"]).expect("a file")).expect("written");
        config(&["check", "--settings-only", "--config", &file.display().to_string()]).expect("good settings");
        // The trust and policy files are read by a test that runs the commands of the help.
        let file = dir.path().join("peers.toml");
        std::fs::write(&file, config(&["example", "peers"]).expect("a file")).expect("written");
        Peers::read(&file, None).expect("a good file");
        for which in ExampleFile::value_variants() {
            assert!(which.text().starts_with("# "), "{which:?}");
        }
    }

    #[test]
    fn wrong_settings_and_wrong_files_end_with_78_all_at_once() {
        let failure = config(&["check", "--set", "listen.port=1"]).expect_err("a wrong setting");
        assert_eq!(failure.code, ExitCode::Configuration);
        assert!(failure.message.starts_with("flag --set listen.port: unknown setting \"listen.port\""), "{failure}");

        let dir = tempfile::tempdir().expect("a temporary folder");
        let named = |key: &str, text: &str| {
            let file = dir.path().join(format!("{key}.toml"));
            std::fs::write(&file, text).expect("a file");
            format!("identity.{key}={}", file.display())
        };
        let peers = named("peers_file", "homes = ['a.example']\n[[peer]]\nnode = 'x'\n");
        let policy = named("policy_file", "[[grant]]\nid = 'x'\nwho = ['spiffe://a.example/x']\nactions = ['raed']\n");
        let absent = format!("identity.trust_file={}", dir.path().join("absent.toml").display());
        let words = ["check", "--set", &peers, "--set", &policy, "--set", &absent];
        let failure = config(&words).expect_err("wrong files");
        assert_eq!(failure.code, ExitCode::Configuration);
        for fault in
            ["peers_file.toml:2: peer[0].node: must begin with spiffe://", "did you mean \"read\"?", "absent.toml"]
        {
            assert!(failure.message.contains(fault), "{fault:?} is not in: {failure}");
        }
        let said = config(&[&words[..], &["--settings-only"]].concat()).expect("the settings are good");
        assert!(said.contains("were not looked at"), "{said}");
    }
}
