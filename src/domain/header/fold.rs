//! Headers beside their events in little room: nearly every text of a header stands in its event too, and is kept as the place where it
//! stands there. It never changes a header: what is folded comes back byte for byte, or is not folded.
//!
//! ```text
//! how long the header is up to its texts number | the header up to there | for each text that is not empty, a number:
//!   0: it stands nowhere in the event, and its bytes follow
//!   n: it stands so far from the cursor (n - 1: 0, -1, 1, -2, 2, ...)
//! ```
//! The cursor is where the last text ended that was found near it. Numbers are LEB128 of at most three bytes, as everywhere in a header.

use super::layout::{self, SHAPES, section};

/// A text moves the cursor where it begins less than so far behind it: texts mostly come in the event's order, with their keys and lengths
/// in between, and the few that do not leave the cursor where the next one is looked for.
const NEAR: usize = 64;

/// So many places are looked at one by one.
const CLOSE: usize = 24;

/// Folds headers one after the other.
#[derive(Debug, Default)]
pub struct Folder {
    /// How far from the cursor each text of the last header stood: those of the next one mostly stand as far, and are not looked for then.
    numbers: Vec<usize>,
}

impl Folder {
    /// Appends the folded form of a header that stands beside these bytes of its event. False where that cannot be done or makes it longer,
    /// and nothing was appended.
    #[must_use]
    pub fn fold(&mut self, header: &[u8], event: &[u8], into: &mut Vec<u8>) -> bool {
        let before = into.len();
        let folded = self.fold_texts(header, event, into).is_some() && into.len() - before <= header.len();
        if !folded {
            into.truncate(before);
        }
        folded
    }

    fn fold_texts(&mut self, header: &[u8], event: &[u8], into: &mut Vec<u8>) -> Option<()> {
        let text_at = each_text(header, |_| Some(()))?;
        let (entries, mut rest) = header.split_at_checked(text_at)?;
        layout::put_number(into, text_at);
        into.extend_from_slice(entries);
        let (mut cursor, mut index) = (Cursor::default(), 0);
        each_text(entries, |length| {
            let (text, after) = rest.split_at_checked(length)?;
            rest = after;
            if let Some(place) = self.find(&cursor, index, text, event) {
                layout::put_number(into, 1 + cursor.number(place));
                cursor.moved(place, length);
            } else {
                layout::put_number(into, 0);
                into.extend_from_slice(text);
            }
            index += 1;
            Some(())
        })?;
        rest.is_empty().then_some(())
    }

    /// Where the text of this number among a header's texts stands.
    fn find(&mut self, cursor: &Cursor, index: usize, text: &[u8], event: &[u8]) -> Option<usize> {
        let stands = |place: &usize| event.get(*place..).is_some_and(|event| event.starts_with(text));
        if let Some(place) = self.numbers.get(index).and_then(|number| cursor.place(*number)).filter(stands) {
            return Some(place);
        }
        let place = cursor.find(text, event)?;
        self.numbers.resize(self.numbers.len().max(index + 1), 0);
        self.numbers[index] = cursor.number(place);
        Some(place)
    }
}

/// Appends the header whose folded form these bytes begin with, and answers how many of them it takes. None: nobody folded them beside this
/// event; what was appended then is nothing.
#[must_use]
pub fn unfold(folded: &[u8], event: &[u8], into: &mut Vec<u8>) -> Option<usize> {
    let (text_at, taken) = layout::read_number(folded)?;
    let (entries, texts) = folded.get(taken..)?.split_at_checked(text_at)?;
    into.extend_from_slice(entries);
    let (mut at, mut cursor) = (0, Cursor::default());
    let walked = each_text(entries, |length| {
        let (number, taken) = layout::read_number(texts.get(at..)?)?;
        at += taken;
        if let Some(number) = number.checked_sub(1) {
            let place = cursor.place(number)?;
            into.extend_from_slice(event.get(place..place.checked_add(length)?)?);
            cursor.moved(place, length);
        } else {
            into.extend_from_slice(texts.get(at..at.checked_add(length)?)?);
            at += length;
        }
        Some(())
    })?;
    (walked == text_at).then_some(taken + text_at + at)
}

/// The bytes of the id in what a folded header begins with.
#[must_use]
pub fn id_of(folded: &[u8]) -> Option<[u8; 16]> {
    let (_, taken) = layout::read_number(folded)?;
    folded.get(taken + 2..)?.first_chunk().copied()
}

/// Where the next text is looked for.
#[derive(Debug, Default)]
struct Cursor {
    at: usize,
    /// Where the text began that was found last.
    last: usize,
}

impl Cursor {
    fn find(&self, text: &[u8], event: &[u8]) -> Option<usize> {
        // A country begins the location that it was taken from.
        if event.get(self.last..).is_some_and(|event| event.starts_with(text)) {
            return Some(self.last);
        }
        find(text, event, self.at).or_else(|| find(text, &event[..(self.at + text.len()).min(event.len())], 0))
    }

    fn moved(&mut self, place: usize, length: usize) {
        self.last = place;
        if (self.at..self.at + NEAR).contains(&place) {
            self.at = place + length;
        }
    }

    /// A place as a number: how far it is from here, forwards or backwards.
    const fn number(&self, place: usize) -> usize {
        if place < self.at { (self.at - place) * 2 - 1 } else { (place - self.at) * 2 }
    }

    const fn place(&self, number: usize) -> Option<usize> {
        if number % 2 == 1 { self.at.checked_sub(number / 2 + 1) } else { self.at.checked_add(number / 2) }
    }
}

/// Where a text begins in some bytes, from a place on.
fn find(text: &[u8], bytes: &[u8], from: usize) -> Option<usize> {
    let bytes = bytes.get(from..)?;
    // Mostly it is close, and preparing a search costs as much as looking at so many places.
    let first = text.first()?;
    let close = (0..CLOSE.min(bytes.len())).find(|at| bytes[*at] == *first && bytes[*at..].starts_with(text));
    close.or_else(|| memchr::memmem::find(bytes, text)).map(|found| from + found)
}

/// Tells `each` the length of every text of a header that is not empty, and answers where the first of them begins. None where `each` says
/// so, or the bytes are not a header of the version that this program writes, as far as that is seen before the texts.
fn each_text(header: &[u8], mut each: impl FnMut(usize) -> Option<()>) -> Option<usize> {
    let [version, flags, ..] = *header else { return None };
    if version != layout::VERSION {
        return None;
    }
    let mut at = if flags & layout::FLAG_REVISES == 0 { 18 } else { 34 };
    let mut counts = [1; section::COUNT];
    for count in &mut counts[section::TYPES..] {
        let (number, taken) = layout::read_number(header.get(at..)?)?;
        *count = number;
        at += taken;
    }
    for (count, shape) in counts.into_iter().zip(SHAPES) {
        if shape.texts == 0 {
            at += shape.bytes * count;
            continue;
        }
        for _ in 0..count {
            at += shape.bytes;
            for _ in 0..shape.texts {
                let (length, taken) = layout::read_number(header.get(at..)?)?;
                at += taken;
                if length > 0 {
                    each(length)?;
                }
            }
        }
    }
    (at <= header.len()).then_some(at)
}
