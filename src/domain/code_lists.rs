//! Code lists that age faster than software: UN/LOCODE, the Harmonized System, units of measure. An operator supplies them as text; each
//! is off, warns or refuses. Shapes and check digits are not its matter: they never age and are always strict. It never reads a file.

use std::collections::HashSet;

/// The most codes of one list: UN/LOCODE has about 116,000.
pub const CODES_MAX: usize = 1_000_000;

/// What happens to a code that is not on its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListMode {
    /// Nobody looks.
    #[default]
    Off,
    /// The event is taken, and the code is reported to the operator.
    Warn,
    /// The event is refused.
    Enforce,
}

/// The lists of one node.
#[derive(Debug, Clone, Default)]
pub struct CodeLists {
    /// UN/LOCODE: five characters each.
    pub un_locode: CodeList,
    /// HS codes; the chapters and headings of a listed subheading count as listed.
    pub hs: CodeList,
    /// Units of UN/ECE Recommendation 20.
    pub unit: CodeList,
}

/// One list.
#[derive(Debug, Clone, Default)]
pub struct CodeList {
    mode: ListMode,
    codes: HashSet<Box<str>>,
}

/// Why a list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeListMalformed {
    /// A line's code has another shape than the list's codes.
    #[error("line {line}: {code:?} is no code of this list, such as {example}")]
    Code {
        /// The line's number, from 1.
        line: usize,
        /// What stands there.
        code: String,
        /// What should.
        example: &'static str,
    },
    /// There is no code in it.
    #[error("the list has no codes")]
    Empty,
    /// It is longer than [`CODES_MAX`].
    #[error("the list has more than {CODES_MAX} codes")]
    TooLong,
}

/// Which list a text holds: the shape of its codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// UN/LOCODE.
    UnLocode,
    /// Harmonized System.
    Hs,
    /// Units of measure.
    Unit,
}

impl CodeList {
    /// Reads a list: one code a line, alone or before a comma and its name. Empty lines, lines that begin with `#` and a first line that
    /// begins with the word "code" are passed over; spaces inside a code and quotation marks around it are dropped.
    ///
    /// # Errors
    /// A line without a code of the list's shape, no code at all, or too many.
    pub fn from_csv(kind: ListKind, mode: ListMode, text: &str) -> Result<Self, CodeListMalformed> {
        let mut codes = HashSet::new();
        for (line, row) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let row = row.trim();
            if row.is_empty() || row.starts_with('#') || (line == 1 && row.to_ascii_lowercase().starts_with("code")) {
                continue;
            }
            let field = row.split(',').next().unwrap_or(row);
            let code: String = field.chars().filter(|character| !matches!(character, ' ' | '"')).collect();
            if !kind.is_shaped(&code) {
                return Err(CodeListMalformed::Code { line, code: field.to_owned(), example: kind.example() });
            }
            if kind == ListKind::Hs {
                for digits in [2, 4].into_iter().filter(|digits| *digits < code.len()) {
                    codes.insert(code[..digits].into());
                }
            }
            codes.insert(code.into_boxed_str());
            if CODES_MAX < codes.len() {
                return Err(CodeListMalformed::TooLong);
            }
        }
        if codes.is_empty() { Err(CodeListMalformed::Empty) } else { Ok(Self { mode, codes }) }
    }

    /// How the list is used.
    #[must_use]
    pub const fn mode(&self) -> ListMode {
        self.mode
    }

    /// What becomes of a code: `Off` where nothing is to be said of it, since it is listed or nobody looks.
    #[must_use]
    pub fn verdict(&self, code: &str) -> ListMode {
        if self.mode == ListMode::Off || self.codes.contains(code) { ListMode::Off } else { self.mode }
    }

    /// How many codes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether it has no codes, as a list that is off.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }
}

impl ListKind {
    fn is_shaped(self, code: &str) -> bool {
        match self {
            // Three codes of the published list break the rule of its own manual (a digit 0, 1 or 9): membership decides, not the rule.
            Self::UnLocode => {
                code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            }
            Self::Hs => super::freight::goods::is_hs_code(code),
            Self::Unit => super::freight::goods::is_unit_code(code),
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::UnLocode => "PKKHI",
            Self::Hs => "870323",
            Self::Unit => "KGM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_becomes_of_a_code() {
        let text = "code,name\n# ports\nPKKHI,\"Karachi\"\n\n\"CN SHA\"\n";
        for mode in [ListMode::Off, ListMode::Warn, ListMode::Enforce] {
            let list = CodeList::from_csv(ListKind::UnLocode, mode, text).expect("a good list");
            assert_eq!((list.len(), list.verdict("PKKHI"), list.verdict("CNSHA")), (2, ListMode::Off, ListMode::Off));
            assert_eq!(list.verdict("PKBQM"), mode);
        }
    }

    #[test]
    fn chapters_and_headings_of_a_listed_subheading_are_listed() {
        let list = CodeList::from_csv(ListKind::Hs, ListMode::Enforce, "870323\n").expect("a good list");
        assert_eq!(
            ["87", "8703", "870323", "8704"].map(|code| list.verdict(code) == ListMode::Off),
            [true, true, true, false]
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        let malformed = CodeList::from_csv(ListKind::Unit, ListMode::Warn, "KGM\nkilogram\n").expect_err("a bad line");
        assert_eq!(malformed.to_string(), "line 2: \"kilogram\" is no code of this list, such as KGM");
        assert_eq!(CodeList::from_csv(ListKind::Hs, ListMode::Warn, "# none\n").err(), Some(CodeListMalformed::Empty));
    }
}
