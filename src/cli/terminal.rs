//! Where a command writes: data to standard output, everything else to standard error, with colours and widths only where a person
//! looks on. It never lets text from elsewhere steer the terminal.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
};

use prost::Message;

use crate::cli::json;

/// Lines longer than this are cut where the terminal's width is not known to be less.
const WIDTH_DEFAULT: usize = 120;

/// How a command shows what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Tables and lines for people.
    #[default]
    Table,
    /// One JSON document, indented; streams give one document after the other.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// A colour or weight with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Of less interest.
    Dim,
    /// Good news.
    Good,
    /// Worth a look.
    Warning,
    /// Bad news.
    Bad,
    /// A name, code or number to recognise.
    Name,
}

/// The process's standard output as one command uses it.
#[derive(Debug)]
pub struct Terminal {
    out: BufWriter<Stdout>,
    /// How to show things.
    pub format: OutputFormat,
    colours: bool,
    width: Option<usize>,
}

impl Terminal {
    /// Standard output, with colours where it is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn new(format: OutputFormat) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let colours =
            is_terminal && colours_wanted(std::env::var_os("NO_COLOR").as_deref(), std::env::var_os("TERM").as_deref());
        let width = is_terminal.then(|| terminal_width().unwrap_or(WIDTH_DEFAULT));
        Self { out: BufWriter::new(stdout), format, colours, width }
    }

    /// Writes one line of data.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Writes one JSON document, indented or on one line as the format says.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        write_json(&mut self.out, self.format, value)
    }

    /// Says what a node has done: to people in words on standard error, to programs as the node answered it, a message of this name.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn done(&mut self, name: &str, answer: &impl Message, words: &str) -> io::Result<()> {
        if self.for_people() {
            note(words);
            return Ok(());
        }
        self.json(&json::from_message(name, answer))
    }

    /// Hands everything written so far to whoever reads it.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Text with its style, where styles are shown.
    #[must_use]
    pub fn style<'text>(&self, style: Style, text: &'text str) -> Cow<'text, str> {
        paint(self.colours, style, text)
    }

    /// Whether styles are shown.
    #[must_use]
    pub const fn colours(&self) -> bool {
        self.colours
    }

    /// The width in columns, where a person looks on; none for a file or pipe, which gets everything.
    #[must_use]
    pub const fn width(&self) -> Option<usize> {
        self.width
    }

    /// Whether people read this, rather than programs.
    #[must_use]
    pub fn for_people(&self) -> bool {
        self.format == OutputFormat::Table
    }
}

/// Writes one JSON document, indented or on one line as the format says.
///
/// # Errors
/// The output is closed or full.
pub fn write_json(out: &mut impl Write, format: OutputFormat, value: &serde_json::Value) -> io::Result<()> {
    if format == OutputFormat::Json {
        serde_json::to_writer_pretty(&mut *out, value)?;
    } else {
        serde_json::to_writer(&mut *out, value)?;
    }
    writeln!(out)
}

/// Writes a line for the user to standard error: progress, warnings, what will happen next.
#[allow(clippy::print_stderr)] // The one place where the client's commands speak beside their data.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Text with the codes of its style around it.
#[must_use]
pub fn paint(colours: bool, style: Style, text: &str) -> Cow<'_, str> {
    let code = match style {
        Style::Plain => return text.into(),
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Good => "32",
        Style::Warning => "33",
        Style::Bad => "31",
        Style::Name => "36",
    };
    if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m").into() } else { text.into() }
}

/// Text of others as it is safe to show: without control characters and without marks that reverse the reading direction, which can
/// make a line say something else than it says.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().any(steers) {
        text.chars().map(|letter| if steers(letter) { '\u{fffd}' } else { letter }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// <https://no-color.org>: any value but the empty one.
fn colours_wanted(no_color: Option<&std::ffi::OsStr>, term: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(std::ffi::OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // Some terminals say 0 where they do not know.
    (size.ws_col > 0).then_some(size.ws_col as usize)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        assert_eq!(printable("Karachi – کراچی"), "Karachi – کراچی");
        assert_eq!(printable("a\u{1b}[31mb\nc\u{9b}d\u{202e}e"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d\u{fffd}e");
    }

    #[test]
    fn colours_follow_the_convention() {
        assert!(colours_wanted(None, Some(OsStr::new("xterm"))));
        assert!(colours_wanted(Some(OsStr::new("")), None));
        assert!(!colours_wanted(Some(OsStr::new("1")), None));
        assert!(!colours_wanted(None, Some(OsStr::new("dumb"))));
        assert_eq!(paint(true, Style::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(paint(false, Style::Bad, "x"), "x");
    }
}
