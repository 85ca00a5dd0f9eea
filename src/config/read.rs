//! Settings read as what they mean, with every fault gathered. A value that is wrong is answered with something harmless, since the
//! faults then refuse the configuration as a whole.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::EnvFilter;

use super::{
    CodeListConfig,
    settings::{Problem, Setting, Settings, Value},
    units::{parse_duration, parse_size_bytes},
};
use crate::domain::code_lists::ListMode;

/// Reads settings; keeps what is wrong, and which settings were asked for.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    problems: RefCell<&'a mut Vec<Problem>>,
    /// What was asked for, so that a test finds settings that nobody reads.
    pub(super) asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings, problems: &'a mut Vec<Problem>) -> Self {
        Self { settings, problems: RefCell::new(problems), asked: RefCell::default() }
    }

    pub(super) fn text(&self, key: &'static str) -> String {
        match &self.setting(key).value {
            Value::Text(text) => text.clone(),
            other => unreachable!("{key} is {other}, and layers keep the kind of the default"),
        }
    }

    pub(super) fn boolean(&self, key: &'static str) -> bool {
        match &self.setting(key).value {
            Value::Boolean(truth) => *truth,
            other => unreachable!("{key} is {other}, and layers keep the kind of the default"),
        }
    }

    /// A number of things, from 1.
    pub(super) fn count(&self, key: &'static str) -> u32 {
        match self.number(key) {
            0 => self.problem(key, 1, "must be at least 1"),
            number => number,
        }
    }

    /// A number of things, from 1 to a limit.
    pub(super) fn count_up_to(&self, key: &'static str, at_most: u32) -> u32 {
        match self.count(key) {
            number if number > at_most => self.problem(key, 1, &format!("must be at most {at_most}")),
            number => number,
        }
    }

    /// A number of things, from 0.
    pub(super) fn number(&self, key: &'static str) -> u32 {
        let Value::Integer(number) = self.setting(key).value else {
            unreachable!("{key} is no number, and layers keep the kind of the default")
        };
        u32::try_from(number).unwrap_or_else(|_| self.problem(key, 1, &format!("must be at most {}", u32::MAX)))
    }

    /// Directives of `tracing`.
    pub(super) fn log_directives(&self, key: &'static str) -> String {
        let text = self.text(key);
        match EnvFilter::try_new(&text) {
            Ok(_) => text,
            Err(error) => self.problem(key, text, &format!("cannot be read: {error}")),
        }
    }

    /// A path; relative ones start at the folder of the file that they stand in.
    pub(super) fn path(&self, key: &'static str) -> PathBuf {
        self.optional_path(key).unwrap_or_else(|| self.problem(key, PathBuf::new(), "must not be empty"))
    }

    /// A path, or none where it is empty.
    pub(super) fn optional_path(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key);
        (!text.is_empty()).then(|| self.setting(key).base_dir().join(text))
    }

    /// A list that is to be looked at needs its file.
    pub(super) fn code_list(&self, file_key: &'static str, mode_key: &'static str) -> CodeListConfig {
        let modes = [("off", ListMode::Off), ("warn", ListMode::Warn), ("enforce", ListMode::Enforce)];
        let list = CodeListConfig { file: self.optional_path(file_key), mode: self.one_of(mode_key, &modes) };
        if list.file.is_none() && list.mode != ListMode::Off {
            self.problem(mode_key, (), &format!("needs the list's file in \"{file_key}\""));
        }
        list
    }

    pub(super) fn address(&self, key: &'static str) -> SocketAddr {
        self.text(key).parse().unwrap_or_else(|_| {
            let harmless = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            self.problem(key, harmless, "must be an IP address and port, such as \"0.0.0.0:7443\" or \"[::]:7443\"")
        })
    }

    /// An address, or none where it is empty.
    pub(super) fn optional_address(&self, key: &'static str) -> Option<SocketAddr> {
        (!self.text(key).is_empty()).then(|| self.address(key))
    }

    pub(super) fn duration(&self, key: &'static str, at_least: Duration) -> Duration {
        match parse_duration(&self.text(key)) {
            None => self.problem(key, at_least, "must be a time with its unit, such as \"30s\" (ms, s, m, h, d)"),
            Some(duration) if duration < at_least => {
                self.problem(key, at_least, &format!("must be at least {at_least:?}"))
            }
            Some(duration) => duration,
        }
    }

    pub(super) fn duration_within(&self, key: &'static str, limits: RangeInclusive<Duration>) -> Duration {
        match self.duration(key, *limits.start()) {
            duration if duration > *limits.end() => {
                self.problem(key, *limits.start(), &format!("must be at most {:?}", limits.end()))
            }
            duration => duration,
        }
    }

    pub(super) fn size_bytes(&self, key: &'static str, at_least: usize, at_most: usize) -> usize {
        match parse_size_bytes(&self.text(key)).map(usize::try_from) {
            None => self.problem(key, at_least, "must be a size with its unit, such as \"64MiB\" (B, KiB, MiB, GiB)"),
            Some(Ok(size)) if (at_least..=at_most).contains(&size) => size,
            Some(_) => {
                let limits = format!("must be from {at_least}B to {at_most}B");
                self.problem(key, at_least, &limits)
            }
        }
    }

    pub(super) fn one_of<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> T {
        let text = self.text(key);
        choices.iter().find(|(name, _)| *name == text).map_or_else(
            || {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                self.problem(key, choices[0].1, &format!("must be one of {}", names.join(", ")))
            },
            |(_, choice)| *choice,
        )
    }

    fn setting(&self, key: &'static str) -> &'a Setting {
        self.asked.borrow_mut().insert(key);
        self.settings
            .get(key)
            .unwrap_or_else(|| unreachable!("{key} is not in the reference file; a test reads them all"))
    }

    pub(super) fn problem<T>(&self, key: &str, harmless: T, message: &str) -> T {
        if let Some(setting) = self.settings.get(key) {
            let message = format!("\"{key}\" is {}: {message}", setting.value);
            self.problems.borrow_mut().push(Problem { source: setting.source.clone(), message });
        }
        harmless
    }
}
