//! Reads the policy and trust files: every fault at once, each with its line and, for a misspelt key, the nearest known one. It never
//! says what the keys mean.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use crate::config::nearest::nearest;

/// The largest file: thousands of grants take less, and a wrong path must not fill the memory.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// One fault of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where one can be told.
    pub line: Option<usize>,
    /// The key's path: `grant[2].filters[0].places[0].un_locode`; empty where the fault is the file's.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

/// All the faults of a file, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.description)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A file being read, and the faults found so far.
#[derive(Debug)]
pub(super) struct TomlFile {
    path: PathBuf,
    text: String,
    faults: Vec<Fault>,
}

impl TomlFile {
    /// Loads a file's text.
    pub(super) fn load(path: &Path) -> Result<Self, Faults> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        let mut file = Self::of(path, text);
        match read {
            Err(error) => file.fault(None, "", format!("cannot be read: {error}")),
            Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => file.fault(None, "", "must be at most 4 MiB".to_owned()),
            Ok(_) => return Ok(file),
        }
        Err(Faults(file.faults))
    }

    /// A file whose text is at hand.
    pub(super) fn of(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text, faults: Vec::new() }
    }

    /// The text, cloned so that values may borrow from it while faults are noted.
    pub(super) fn text(&self) -> String {
        self.text.clone()
    }

    /// The top of the file; none where it is not TOML.
    pub(super) fn top<'t>(&mut self, text: &'t str) -> Option<DeTable<'t>> {
        match DeTable::parse(text) {
            Ok(table) => Some(table.into_inner()),
            Err(error) => {
                let line = error.span().map(|span| self.line_of(span.start));
                self.fault(line, "", error.message().to_owned());
                None
            }
        }
    }

    /// The tables of `[[name]]`, each with its line.
    pub(super) fn tables<'t>(&mut self, top: &DeTable<'t>, name: &str) -> Vec<(usize, Spanned<DeValue<'t>>)> {
        let Some(value) = top.get(name) else { return Vec::new() };
        let line = self.line_of(value.span().start);
        let Some(items) = value.get_ref().as_array() else {
            self.fault(Some(line), name, format!("must be written as [[{name}]]"));
            return Vec::new();
        };
        items.iter().map(|item| (self.line_of(item.span().start), item.clone())).collect()
    }

    /// Notes keys that are not known, each with the nearest known one.
    pub(super) fn check_keys(&mut self, table: &DeTable<'_>, known: &[&str], path: &str) {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let line = self.line_of(key.span().start);
                let hint = nearest(name, known.iter().copied()).map_or_else(
                    || format!("the known ones are {}", known.join(", ")),
                    |near| format!("did you mean {near:?}?"),
                );
                self.fault(Some(line), &join(path, name), format!("is not a known key; {hint}"));
            }
        }
    }

    /// Reads a value as a type.
    pub(super) fn read<T: DeserializeOwned>(&mut self, value: Spanned<DeValue<'_>>, path: &str) -> Option<T> {
        let start = value.span().start;
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(error) => {
                let line = self.line_of(error.span().map_or(start, |span| span.start));
                self.fault(Some(line), path, error.message().to_owned());
                None
            }
        }
    }

    /// Notes a fault.
    pub(super) fn fault(&mut self, line: Option<usize>, field: &str, description: String) {
        self.faults.push(Fault { file: self.path.clone(), line, field: field.to_owned(), description });
    }

    /// The line of a byte, from 1.
    pub(super) fn line_of(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// What was read, unless there are faults.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Faults> {
        if self.faults.is_empty() { Ok(value) } else { Err(Faults(self.faults)) }
    }
}

/// One fault of a whole file.
pub(super) fn whole(file: &Path, description: String) -> Faults {
    Faults(vec![Fault { file: file.to_owned(), line: None, field: String::new(), description }])
}

/// A key's path below another.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
