//! Keeps the tree as `src/lib.rs` describes it: who imports whom, what every file opens with, how long it gets, which words it avoids.
//! Reads source text only; it never compiles or changes anything.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A file may have so many lines of code: without blanks, comments and tests.
const CODE_LINES_MAX: usize = 350;

/// Rooms that anybody may import, since they know nothing of ours.
const GROUND: [&str; 4] = ["clock", "domain", "tasks", "telemetry"];

/// Which rooms a room may import besides itself and the ground. `identity::policy` stands for what a room needs to ask for rights.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("domain", &[]),
    ("tasks", &[]),
    ("telemetry", &[]),
    ("config", &[]),
    ("wire", &[]),
    ("identity", &["config"]),
    ("storage", &[]),
    ("store", &["storage"]),
    ("log", &["storage", "store"]),
    ("publish", &["log", "wire", "identity::policy"]),
    ("subscribe", &["log", "store", "wire", "identity::policy"]),
    ("views", &["log", "wire", "identity::policy"]),
    ("federation", &["wire", "identity", "log", "storage"]),
    ("api", &["config", "wire", "identity", "log", "publish", "subscribe", "views", "federation"]),
    ("cli", &["config", "wire", "identity", "node", "log"]),
    (
        "node",
        &[
            "config",
            "wire",
            "identity",
            "storage",
            "store",
            "log",
            "publish",
            "subscribe",
            "views",
            "federation",
            "api",
        ],
    ),
    ("testing", &["config", "wire", "identity", "log"]),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// What `identity::policy` stands for: names that say who calls and what she may do, and nothing of TLS.
const POLICY_NAMES: [&str; 7] = ["Access", "Action", "Caller", "Narrowing", "Policy", "Rights", "policy"];

/// Crates that only some rooms may name.
const CRATES: &[(&str, &[&str])] = &[
    ("sled", &["storage"]),
    ("tonic", &["api", "federation", "cli", "wire", "identity::acceptor", "node"]),
    ("rustls", &["identity", "cli", "testing"]),
    ("axum", &["api"]),
    ("clap", &["cli", "main"]),
];

/// Words that no code outside tests says, and why.
const BANNED: &[(&str, &str)] = &[
    ("todo!", "unfinished code does not land"),
    ("unimplemented!", "unfinished code does not land"),
    ("dbg!", "left from a search for a fault"),
    (".unwrap()", "say the invariant with expect, or answer an error"),
    ("println!", "output goes through a writer that may fail"),
    ("process::exit", "only main ends the process, by returning"),
];

/// One file without its comments and tests.
struct Source {
    path: PathBuf,
    /// The first folder or file below `src`.
    room: String,
    first_line: String,
    code: String,
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let without: Vec<_> = sources(true).into_iter().filter(|source| !source.first_line.starts_with("//! ")).collect();
    assert!(without.is_empty(), "no //! on the first line:\n{}", paths(&without));
}

#[test]
fn no_file_grows_too_long() {
    let long: Vec<_> = sources(false)
        .into_iter()
        .map(|source| (source.code.lines().filter(|line| !line.trim().is_empty()).count(), source))
        .filter(|(lines, _)| CODE_LINES_MAX < *lines)
        .map(|(lines, source)| format!("{}: {lines}", source.path.display()))
        .collect();
    assert!(long.is_empty(), "more than {CODE_LINES_MAX} lines of code:\n{}", long.join("\n"));
}

#[test]
fn what_measures_keeps_the_same_form() {
    let mut files = Vec::new();
    for folder in ["benches", "tests/compare/src"] {
        walk(&root().join(folder), &mut files);
    }
    for path in files {
        let text = fs::read_to_string(&path).expect("a source file");
        assert!(text.starts_with("//! "), "{}: no //! on the first line", path.display());
        let code = without_tests(&without_comments(&text));
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= CODE_LINES_MAX, "{}: {lines} lines of code", path.display());
    }
}

#[test]
fn rooms_import_only_whom_they_may() {
    let mut faults = Vec::new();
    for source in sources(false) {
        let allowed = MAY_IMPORT
            .iter()
            .find_map(|(room, allowed)| (*room == source.room).then_some(*allowed))
            .unwrap_or_else(|| panic!("{}: the room {:?} is not in the table", source.path.display(), source.room));
        for (room, name) in imports(&source.code) {
            let may = room == source.room
                || GROUND.contains(&room.as_str())
                || allowed.contains(&room.as_str())
                || (room == "identity"
                    && allowed.contains(&"identity::policy")
                    && name.as_deref().is_some_and(|name| POLICY_NAMES.contains(&name)));
            if !may {
                faults.push(format!("{}: crate::{room}::{}", source.path.display(), name.unwrap_or_default()));
            }
        }
    }
    assert!(faults.is_empty(), "imports against the table:\n{}", faults.join("\n"));
}

#[test]
fn the_ground_knows_nothing_of_ours() {
    let mut faults = Vec::new();
    for source in sources(false).into_iter().filter(|source| GROUND.contains(&source.room.as_str())) {
        for (room, _) in imports(&source.code).into_iter().filter(|(room, _)| *room != source.room) {
            faults.push(format!("{}: crate::{room}", source.path.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn some_crates_are_named_in_their_rooms_only() {
    let mut faults = Vec::new();
    for source in sources(false) {
        for (name, rooms) in CRATES {
            let module = format!("{}::{}", source.room, source.path.file_stem().unwrap_or_default().to_string_lossy());
            let inside =
                source.path.iter().any(|part| part == "acceptor").then(|| format!("{}::acceptor", source.room));
            let may =
                rooms.iter().any(|room| *room == source.room || *room == module || Some((*room).to_owned()) == inside);
            if !may && names_crate(&source.code, name) {
                faults.push(format!("{}: {name}", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "crates named outside their rooms:\n{}", faults.join("\n"));
}

#[test]
fn banned_words_are_not_said() {
    let mut faults = Vec::new();
    for source in sources(false) {
        for (word, why) in BANNED {
            if says(&source.code, word) {
                faults.push(format!("{}: {word} ({why})", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_readers_of_this_test_see_what_it_sees() {
    let code = "use crate::{clock::Clock, identity::{Caller, trust::TrustStore}, log::EventLog};\nlet x = crate::wire::proto::Event::default();";
    let found: Vec<_> =
        imports(code).into_iter().map(|(room, name)| format!("{room}::{}", name.unwrap_or_default())).collect();
    assert_eq!(found, ["clock::Clock", "identity::Caller", "identity::trust", "log::EventLog", "wire::proto"]);
    let text = "//! x\nuse a::B; // says todo!\n/* dbg! */ fn f() {}\n#[cfg(test)]\nmod tests {\n x.unwrap();\n}\n";
    let code = without_tests(&without_comments(text));
    assert!(!code.contains("todo!") && !code.contains("dbg!") && !code.contains("unwrap") && code.contains("fn f()"));
    assert_eq!(without_comments("a(\"http://x\") // y"), "a(\"http://x\") ");
}

/// All files below `src`; files of tests only where asked for.
fn sources(with_tests: bool) -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    assert!(files.len() > 20, "the tree was not found");
    let texts: Vec<(PathBuf, String)> =
        files.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("a source file"))).collect();
    let test_files: BTreeSet<PathBuf> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test =
        |path: &Path| test_files.iter().any(|test| path.starts_with(test) || path == test.with_extension("rs"));
    texts
        .into_iter()
        .filter(|(path, _)| with_tests || !is_test(path))
        .map(|(path, text)| {
            let inside = path.strip_prefix(&src).expect("below src").to_owned();
            let room = inside.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
            let first_line = text.lines().next().unwrap_or_default().to_owned();
            Source { path: inside, room, first_line, code: without_tests(&without_comments(&text)) }
        })
        .collect()
}

/// The folders (without extension) of modules that a file declares for tests only.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let parent = path.parent().expect("a folder");
    let stem = path.file_stem().expect("a name");
    let folder =
        if ["mod", "lib", "main"].iter().any(|name| stem == *name) { parent.to_owned() } else { parent.join(stem) };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].starts_with("#[cfg(test)]") || pair[0].starts_with("#[cfg(any(test"))
        .filter_map(|pair| {
            pair[1].trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';')
        })
        .map(|name| folder.join(name))
        .collect()
}

/// The rooms that code names: (room, next name where there is one), also out of `use crate::{..}`.
fn imports(code: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` of a macro and names that only end in "crate" are not ours.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        read_path(&code[at + "crate::".len()..], &mut Vec::new(), &mut found);
    }
    found
}

/// Reads a path or a group of paths; answers how many bytes it took.
fn read_path(text: &str, before: &mut Vec<String>, found: &mut Vec<(String, Option<String>)>) -> usize {
    let mut at = text.len() - text.trim_start().len();
    if text[at..].starts_with('{') {
        at += 1;
        loop {
            at += read_path(&text[at..], before, found);
            at += text[at..].len() - text[at..].trim_start().len();
            match text[at..].chars().next() {
                Some(',') => at += 1,
                Some('}') => return at + 1,
                _ => return at,
            }
            let rest = text[at..].trim_start();
            if rest.starts_with('}') {
                return at + (text[at..].len() - rest.len()) + 1;
            }
        }
    }
    let name: String =
        text[at..].chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    at += name.len();
    before.push(name);
    if before.len() < 2 && text[at..].starts_with("::") {
        at += 2 + read_path(&text[at + 2..], before, found);
    } else {
        found.push((before[0].clone(), before.get(1).cloned()));
        // Skip what follows below the second name, so that a group goes on with its next entry.
        at += skip_tail(&text[at..]);
    }
    before.pop();
    at
}

fn skip_tail(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' | ';' | '(' | ')' | '<' | '>' if depth == 0 => return at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let boundary = !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':');
        let rest = &code[at + name.len()..];
        boundary && (rest.starts_with("::") || (code[..at].ends_with("use ") && rest.starts_with(';')))
    })
}

/// Whether code says a word that is not only the end of a longer one, as `println!` is of `eprintln!`.
fn says(code: &str, word: &str) -> bool {
    let inside = |before: char| before.is_alphanumeric() || before == '_';
    code.match_indices(word).any(|(at, _)| word.starts_with('.') || !code[..at].ends_with(inside))
}

/// The text without `//` and `/* */`; what stands in a string stays.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = &rest[rest.find("*/").map_or(rest.len(), |end| end + 2)..];
        } else if character == '"' {
            let length = string_length(rest);
            code.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            code.push_str("' '");
            rest = &rest[rest.find("\"'").map_or(rest.len(), |end| end + 2)..];
        } else {
            code.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The code before the first module of tests, which stands last in a file.
fn without_tests(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let end = lines.windows(2).position(|pair| {
        let declares = pair[1].trim_start().trim_start_matches("pub ").starts_with("mod ");
        pair[0].trim() == "#[cfg(test)]" && declares && pair[1].trim_end().ends_with('{')
    });
    lines[..end.unwrap_or(lines.len())].join("\n")
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn paths(sources: &[Source]) -> String {
    sources.iter().map(|source| source.path.display().to_string()).collect::<Vec<_>>().join("\n")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
#[test]
fn every_metric_is_counted_somewhere() {
    let all = sources(false);
    let list = fs::read_to_string(root().join("src/telemetry.rs")).expect("telemetry");
    let constants = list.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" = ")?;
        ["Counter ", "Gauge ", "Histogram "].iter().any(|kind| rest.starts_with(kind)).then_some(name)
    });
    let unused: Vec<_> = constants
        .filter(|constant| !all.iter().any(|source| source.code.contains(&format!("telemetry::{constant}"))))
        .filter(|constant| *constant != "BUILD_INFO")
        .collect();
    assert!(unused.is_empty(), "metrics that nobody counts: {unused:?}");
}
