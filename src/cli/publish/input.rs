//! Cuts what is to be published into one JSON text an event, with its line: NDJSON, JSON documents one after the other, or a JSON array.
//! It never reads events themselves, and never holds more of an NDJSON input than one line.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Read},
};

/// How the input is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum InputFormat {
    /// By its beginning: a first line that is a whole JSON object means NDJSON.
    #[default]
    Auto,
    /// One event a line.
    Ndjson,
    /// A JSON array of events, or events one after the other, over any number of lines.
    Json,
}

/// The longest line: an event takes at most 64 KiB, and JSON writes it several times longer.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// The largest JSON document, which is held whole. More is to come as NDJSON, which is not.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// One event's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The column at which it begins there, or where it is wrong, from 1.
    pub column: usize,
    /// The text, or why there is none.
    pub text: Result<String, String>,
    /// How much of the input was read when it ended.
    pub read_bytes: u64,
}

/// The pieces of an input.
#[derive(Debug)]
pub struct Pieces<R> {
    reader: R,
    line: usize,
    read_bytes: u64,
    ready: VecDeque<Piece>,
    ended: bool,
}

impl<R: BufRead> Pieces<R> {
    /// Begins to cut an input.
    ///
    /// # Errors
    /// The input cannot be read, or is no text: said once, and not of each of its lines.
    pub fn new(mut reader: R, format: InputFormat) -> io::Result<Self> {
        if let Some(words) = other_than_text(reader.fill_buf()?) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        let mut pieces = Self { reader, line: 0, read_bytes: 0, ready: VecDeque::new(), ended: false };
        match format {
            InputFormat::Ndjson => {}
            InputFormat::Json => pieces.read_document(String::new(), 1)?,
            InputFormat::Auto => pieces.look_at_first_line()?,
        }
        Ok(pieces)
    }

    fn look_at_first_line(&mut self) -> io::Result<()> {
        let Some(first) = self.next_line()? else { return Ok(()) };
        let whole = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        match &first.text {
            Ok(text) if text.trim_start().starts_with('{') && whole(text) => self.ready.push_back(first),
            Ok(text) if text.trim_start().starts_with(['{', '[']) => self.read_document(text.clone(), first.line)?,
            _ => self.ready.push_back(first),
        }
        Ok(())
    }

    /// The next line that is not blank.
    fn next_line(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let mut bytes = Vec::new();
            let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? as u64;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            self.read_bytes += read;
            let too_long = read == LINE_BYTES_MAX && bytes.last() != Some(&b'\n');
            if too_long {
                self.skip_line()?;
            }
            let mut column = 1;
            let text = if too_long {
                Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
            } else {
                String::from_utf8(bytes).map_err(|error| {
                    let at = error.utf8_error().valid_up_to();
                    column = at + 1;
                    format!("found the byte {:#04x}, expected text in UTF-8", error.as_bytes()[at])
                })
            };
            if text.as_ref().is_ok_and(|text| text.trim_start_matches('\u{feff}').trim().is_empty()) {
                continue;
            }
            // Some programs begin their files with a byte order mark, which JSON does not allow.
            let text = text.map(|text| text.trim_start_matches('\u{feff}').trim_end().to_owned());
            return Ok(Some(Piece { line: self.line, column, text, read_bytes: self.read_bytes }));
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n').map(|found| found + 1);
            let length = end.unwrap_or(buffer.len());
            self.reader.consume(length);
            self.read_bytes += length as u64;
            if end.is_some() || length == 0 {
                return Ok(());
            }
        }
    }

    /// Reads the rest as JSON documents, after what was read already.
    fn read_document(&mut self, mut text: String, first_line: usize) -> io::Result<()> {
        if !text.is_empty() {
            text.push('\n');
        }
        self.ended = true;
        let read = self.reader.by_ref().take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text)? as u64;
        self.read_bytes += read;
        if read > DOCUMENT_BYTES_MAX {
            let words =
                format!("a JSON document of more than {DOCUMENT_BYTES_MAX} bytes; give it as NDJSON, one event a line");
            self.ready.push_back(Piece { line: first_line, column: 1, text: Err(words), read_bytes: self.read_bytes });
            return Ok(());
        }
        let mut cut = Cut { text: &text, at: 0, line: first_line, line_start: 0 };
        while let Some((line, column, text)) = cut.next_object() {
            self.ready.push_back(Piece { line, column, text, read_bytes: self.read_bytes });
        }
        Ok(())
    }
}

impl<R: BufRead> Iterator for Pieces<R> {
    type Item = io::Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.ready.pop_front() {
            Some(piece) => Some(Ok(piece)),
            None if self.ended => None,
            None => self.next_line().transpose(),
        }
    }
}

/// What people have in its place, by how it begins.
const fn other_than_text(beginning: &[u8]) -> Option<&'static str> {
    match beginning {
        [0x1f, 0x8b, ..] => Some("it is compressed by gzip: gunzip -c FILE | tradelane publish"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("it is compressed by zstd: zstd -dc FILE | tradelane publish"),
        [b'P', b'K', 3, 4, ..] => Some("it is a ZIP archive: unzip -p FILE | tradelane publish"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(
            "it is in UTF-16, as some programs of Windows write it: iconv -f UTF-16 -t UTF-8 FILE | tradelane publish",
        ),
        _ => None,
    }
}

/// Finds the objects of JSON documents by their braces; whether each is sound is for the JSON reader to say.
struct Cut<'text> {
    text: &'text str,
    at: usize,
    line: usize,
    /// Where the line begins.
    line_start: usize,
}

impl Cut<'_> {
    /// The next object with its line and column.
    fn next_object(&mut self) -> Option<(usize, usize, Result<String, String>)> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            let (line, column) = (self.line, self.at - self.line_start + 1);
            match byte {
                b'{' => return Some((line, column, self.object())),
                b'\n' => self.begin_line(self.at + 1),
                // The array around the events, if there is one.
                b' ' | b'\t' | b'\r' | b'[' | b']' | b',' => {}
                _ => {
                    let rest = self.text[self.at..].lines().next().unwrap_or_default();
                    let found: String = rest.chars().take(20).collect();
                    self.at = bytes.len();
                    let words = format!("found {found}, expected an event: {{...}}; nothing after it was read");
                    return Some((line, column, Err(words)));
                }
            }
            self.at += 1;
        }
        None
    }

    const fn begin_line(&mut self, start: usize) {
        self.line += 1;
        self.line_start = start;
    }

    fn object(&mut self) -> Result<String, String> {
        let start = self.at;
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        for (offset, byte) in self.text.as_bytes()[start..].iter().enumerate() {
            match byte {
                b'\n' => self.begin_line(start + offset + 1),
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' if !in_string => depth += 1,
                b'}' if !in_string => {
                    depth -= 1;
                    if depth == 0 {
                        self.at = start + offset + 1;
                        return Ok(self.text[start..self.at].to_owned());
                    }
                }
                _ => {}
            }
        }
        self.at = self.text.len();
        Err("the event that begins here has no end: a closing brace or quote is missing".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, format: InputFormat) -> Vec<(usize, Result<String, String>)> {
        Pieces::new(text.as_bytes(), format)
            .unwrap()
            .map(|piece| piece.map(|piece| (piece.line, piece.text)).unwrap())
            .collect()
    }

    fn good(line: usize, text: &str) -> (usize, Result<String, String>) {
        (line, Ok(text.to_owned()))
    }

    #[test]
    fn every_layout_is_cut_into_events_with_their_lines() {
        let auto = InputFormat::Auto;
        assert_eq!(cut("", auto), []);
        assert_eq!(cut("\u{feff}{\"a\":1}\r\n\n{\"b\":2}", auto), [good(1, "{\"a\":1}"), good(3, "{\"b\":2}")]);
        assert_eq!(cut("[{\"a\":1},{\"b\":\"}\"}]", auto), [good(1, "{\"a\":1}"), good(1, "{\"b\":\"}\"}")]);
        assert_eq!(
            cut("[\n {\n  \"a\": 1\n },\n {\"b\":\"\\\"{\"}\n]\n", auto),
            [good(2, "{\n  \"a\": 1\n }"), good(5, "{\"b\":\"\\\"{\"}")]
        );
        assert_eq!(cut("{\n\"a\":1}\n{\n}", auto), [good(1, "{\n\"a\":1}"), good(3, "{\n}")]);
    }

    #[test]
    fn a_broken_line_of_ndjson_does_not_hide_the_next() {
        let pieces = cut("{\"a\":1}\n{\"b\":\n{\"c\":3}\n", InputFormat::Auto);
        assert_eq!(pieces, [good(1, "{\"a\":1}"), good(2, "{\"b\":"), good(3, "{\"c\":3}")]);
    }

    #[test]
    fn what_is_no_event_is_named_with_its_line() {
        let unfinished = cut("[\n{\"a\": {\n", InputFormat::Auto);
        assert_eq!(unfinished.len(), 1);
        assert!(unfinished[0].0 == 2 && unfinished[0].1.as_ref().unwrap_err().contains("has no end"), "{unfinished:?}");
        let other = cut("[{}, 7]", InputFormat::Json);
        assert!(other[1].1.as_ref().unwrap_err().starts_with("found 7], expected an event: {...}"), "{other:?}");
        let places = |text: &str| -> Vec<(usize, usize)> {
            let pieces = Pieces::new(text.as_bytes(), InputFormat::Json).unwrap();
            pieces.map(|piece| piece.map(|piece| (piece.line, piece.column)).unwrap()).collect()
        };
        assert_eq!(places("[{},\n  {\n}, {} ,\n 7]"), [(1, 2), (2, 3), (3, 4), (4, 2)]);
        let long = format!("{{\"a\":\"{}\"}}\n{{}}\n", "x".repeat(LINE_BYTES_MAX as usize));
        let pieces = cut(&long, InputFormat::Ndjson);
        assert!(pieces[0].1.as_ref().unwrap_err().contains("longer than"), "{:?}", pieces[0].1.is_ok());
        assert_eq!(pieces[1], good(2, "{}"));
    }

    #[test]
    fn what_is_no_text_is_said_once_with_what_to_do() {
        let utf_16: Vec<u8> = "\u{feff}{}\n{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (input, words) in [
            (&utf_16[..], "UTF-16"),
            (b"\xfe\xff\0{\0}", "UTF-16"),
            (b"\x1f\x8b\x08\0\n\n", "gunzip"),
            (b"\x28\xb5\x2f\xfd\0\n", "zstd"),
            (b"PK\x03\x04\0\n", "unzip"),
        ] {
            for format in [InputFormat::Auto, InputFormat::Ndjson, InputFormat::Json] {
                let refused = Pieces::new(input, format).unwrap_err().to_string();
                assert!(refused.contains(words), "{refused}");
            }
        }
    }
}
