//! What the operator wrote: every setting as text with the place that it came from. Four layers, each over the one before: the reference
//! file (compiled in: it is the list of all settings and their defaults), a file, the environment, the command line. It never knows what
//! a setting means.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::nearest::nearest;

/// The reference file.
pub const REFERENCE: &str = include_str!("../../config/tradelane.toml");

/// What every environment variable of a setting begins with; section and key are told apart by two underscores.
const ENVIRONMENT_PREFIX: &str = "TRADELANE_";

/// A value as written. Its kind is that of the setting's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(u64),
    /// True or false.
    Boolean(bool),
    /// A list of strings.
    List(Vec<String>),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The reference file.
    Default,
    /// A place in a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What is in force.
    pub value: Value,
    /// Who said so.
    pub source: Source,
}

/// One fault of the configuration, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub source: Source,
    /// What is wrong and what would be right.
    pub message: String,
}

/// All settings by key (`section.name`).
#[derive(Debug, Clone)]
pub struct Settings(BTreeMap<String, Setting>);

impl Settings {
    /// Every setting with its default.
    #[must_use]
    pub fn defaults() -> Self {
        let mut settings = BTreeMap::new();
        let table = DeTable::parse(REFERENCE).expect("the reference file is compiled in and a test parses it");
        for (key, _, value) in flatten(table.get_ref()) {
            let value = read_value(value).expect("the reference file is compiled in and a test reads every value");
            settings.insert(key, Setting { value, source: Source::Default });
        }
        Self(settings)
    }

    /// Puts a file over what is there. `path` names it in messages.
    pub fn apply_file(&mut self, path: &Path, text: &str, problems: &mut Vec<Problem>) {
        let path: Arc<Path> = path.into();
        let place = |offset: usize| {
            let before = &text[..offset.min(text.len())];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            let line = before.matches('\n').count() + 1;
            Source::File { path: path.clone(), line, column: before[line_start..].chars().count() + 1 }
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        problems.extend(errors.into_iter().map(|error| Problem {
            source: place(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        }));
        for (key, key_offset, value) in flatten(table.get_ref()) {
            let source = place(value.span().start);
            match self.0.get_mut(&key) {
                None => problems.push(self.unknown(place(key_offset), &key)),
                Some(setting) => match read_value(value).filter(|value| same_kind(value, &setting.value)) {
                    Some(value) => *setting = Setting { value, source },
                    None => problems.push(Problem { source, message: wrong_kind(&key, &setting.value) }),
                },
            }
        }
    }

    /// Puts environment variables over what is there. Variables without two underscores after the prefix are other parts' of the program.
    pub fn apply_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        problems: &mut Vec<Problem>,
    ) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX).filter(|rest| rest.contains("__")) else { continue };
            let key = rest.replacen("__", ".", 1).to_ascii_lowercase();
            self.apply_text(&key, &text, Source::Environment(name), problems);
        }
    }

    /// Puts one flag over what is there.
    pub fn apply_flag(&mut self, flag: &str, key: &str, text: &str, problems: &mut Vec<Problem>) {
        self.apply_text(key, text, Source::Flag(flag.to_owned()), problems);
    }

    /// Every setting in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// One setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.0.get(key)
    }

    fn apply_text(&mut self, key: &str, text: &str, source: Source, problems: &mut Vec<Problem>) {
        match self.0.get_mut(key) {
            None => problems.push(self.unknown(source, key)),
            Some(setting) => match text_as(text, &setting.value) {
                Some(value) => *setting = Setting { value, source },
                None => problems.push(Problem { source, message: wrong_kind(key, &setting.value) }),
            },
        }
    }

    fn unknown(&self, source: Source, key: &str) -> Problem {
        let suggestion = nearest(key, self.0.keys().map(String::as_str));
        let hint = suggestion.map_or_else(String::new, |known| format!("; did you mean \"{known}\"?"));
        Problem { source, message: format!("unknown setting \"{key}\"{hint}") }
    }
}

impl Setting {
    /// The folder that a relative path of this setting starts at.
    #[must_use]
    pub fn base_dir(&self) -> PathBuf {
        match &self.source {
            Source::File { path, .. } => path.parent().map(Path::to_owned).unwrap_or_default(),
            Source::Default | Source::Environment(_) | Source::Flag(_) => PathBuf::new(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl fmt::Display for Value {
    /// As TOML writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", toml::Value::String(text.clone())),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(truth) => write!(f, "{truth}"),
            Self::List(items) => write!(f, "{}", toml::Value::from(items.clone())),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}

/// Every value below the sections, as (`section.name`, offset of the name, value). A value outside any section, or a table inside one, is
/// named as it stands, so that it is found unknown.
fn flatten<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(String, usize, &'t Spanned<DeValue<'i>>)> {
    let mut found = Vec::new();
    for (section, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) => {
                let named = |(name, value): (&Spanned<_>, &'t Spanned<_>)| {
                    let name: &Spanned<std::borrow::Cow<'_, str>> = name;
                    (format!("{}.{}", section.get_ref(), name.get_ref()), name.span().start, value)
                };
                found.extend(inner.iter().map(named));
            }
            _ => found.push((section.get_ref().to_string(), section.span().start, value)),
        }
    }
    found
}

fn read_value(value: &Spanned<DeValue<'_>>) -> Option<Value> {
    match value.get_ref() {
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Integer),
        DeValue::Boolean(truth) => Some(Value::Boolean(*truth)),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
            items.iter().map(text).collect::<Option<_>>().map(Value::List)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// Reads the text of a variable or flag as the kind of the setting's default; lists are separated by commas.
fn text_as(text: &str, kind: &Value) -> Option<Value> {
    match kind {
        Value::Text(_) => Some(Value::Text(text.to_owned())),
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::List(_) => Some(Value::List(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
        )),
    }
}

fn same_kind(one: &Value, other: &Value) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

fn wrong_kind(key: &str, default: &Value) -> String {
    let kind = match default {
        Value::Text(_) => "a string",
        Value::Integer(_) => "a whole number from 0",
        Value::Boolean(_) => "true or false",
        Value::List(_) => "a list of strings",
    };
    format!("\"{key}\" must be {kind}, such as {default}")
}
