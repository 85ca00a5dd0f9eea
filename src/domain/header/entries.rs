//! Reading the entries of a header's list one after the other, in place. It never trusts a length: damaged bytes end the list early.

use std::marker::PhantomData;

use super::{PartyRef, PlaceRef, SubjectRef, TypeStep, layout};

/// The entries of one list of a header, in their stored order.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a, T> {
    cursor: Cursor<'a>,
    entry: PhantomData<T>,
}

impl<'a, T> Entries<'a, T> {
    /// So many entries, whose plain bytes and lengths begin with `bytes` and whose texts with `text`.
    pub(super) fn new(bytes: &'a [u8], text: &'a str, count: u32) -> Self {
        Self { cursor: Cursor { bytes, text, left: count }, entry: PhantomData }
    }
}

#[derive(Debug, Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    text: &'a str,
    left: u32,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn text(&mut self) -> Option<&'a str> {
        let (length, taken) = layout::read_number(self.bytes)?;
        let (text, rest) = self.text.split_at_checked(length)?;
        self.bytes = self.bytes.get(taken..)?;
        self.text = rest;
        Some(text)
    }
}

/// What a list of a header holds.
trait Entry<'a>: Sized {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self>;
}

impl<'a> Entry<'a> for TypeStep {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        Some(Self { body: cursor.byte()?, step: cursor.byte()? })
    }
}

impl<'a> Entry<'a> for i64 {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let (number, rest) = cursor.bytes.split_first_chunk()?;
        cursor.bytes = rest;
        Some(Self::from_le_bytes(*number))
    }
}

impl<'a> Entry<'a> for &'a str {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        cursor.text()
    }
}

impl<'a> Entry<'a> for SubjectRef<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let (kind, role) = (cursor.byte()?, cursor.byte()?);
        Some(Self { kind, role, value: cursor.text()?, issuer: cursor.text()?, date: cursor.text()? })
    }
}

impl<'a> Entry<'a> for PlaceRef<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let (role, kind, facility_scheme) = (cursor.byte()?, cursor.byte()?, cursor.byte()?);
        let (un_locode, country_code, facility_code) = (cursor.text()?, cursor.text()?, cursor.text()?);
        Some(Self { role, kind, facility_scheme, un_locode, country_code, facility_code })
    }
}

impl<'a> Entry<'a> for PartyRef<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let role = cursor.byte()?;
        Some(Self { role, participant: cursor.text()?, scheme: cursor.text()?, id: cursor.text()? })
    }
}

#[allow(private_bounds, reason = "the entries' own reading is nobody else's business")]
impl<'a, T: Entry<'a>> Iterator for Entries<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.cursor.left = self.cursor.left.checked_sub(1)?;
        T::read(&mut self.cursor)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.cursor.left as usize))
    }
}
