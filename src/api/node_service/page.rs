//! Pages of lists: sizes, and tokens that fit only the request and the caller that they were given to. What these lists show (grants,
//! refusals, connections, participants) is counted anew by each process, so their tokens end with it. It never keeps a list.

use super::NodeApi;
use crate::{api::Refused, identity::Caller, views::page_token::TokenBinding, wire::violations::Violation};

/// How many entries a page has where the request says nothing.
const PAGE_SIZE_DEFAULT: usize = 100;
/// How many it has at most; asking for more gives this many.
const PAGE_SIZE_MAX: usize = 1_000;

/// One page of a list to give.
pub(super) struct Page {
    pub(super) size: usize,
    /// What the token said: the key of the last entry before this page.
    pub(super) after: Option<String>,
    binding: TokenBinding,
}

impl NodeApi {
    /// Reads what a request says of its page. `narrowing` is every other field of the request: a token fits no other.
    pub(super) fn page(
        &self,
        caller: &Caller,
        method: &str,
        narrowing: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<Page, Refused> {
        let process = self.0.start_time_ns.to_le_bytes();
        let parts = [method.as_bytes(), caller.id.as_str().as_bytes(), &process, narrowing.as_bytes()];
        let binding = TokenBinding::of(&parts);
        let size = if page_size == 0 { PAGE_SIZE_DEFAULT } else { (page_size as usize).min(PAGE_SIZE_MAX) };
        let after = match page_token {
            "" => None,
            token => {
                let opened = self.0.tokens.open(&binding, token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Some(opened.ok_or_else(token_refused)?)
            }
        };
        Ok(Page { size, after, binding })
    }

    /// The token of the page after an entry; empty where there is none.
    pub(super) fn next_token(&self, page: &Page, last: Option<String>, more: bool) -> String {
        last.filter(|_| more).map_or_else(String::new, |key| self.0.tokens.seal(&page.binding, key.as_bytes()))
    }
}

impl Page {
    /// The token's content as a number.
    pub(super) fn after_number(&self) -> Result<Option<u64>, Refused> {
        self.after.as_ref().map(|text| text.parse().map_err(|_| token_refused())).transpose()
    }

    /// Cuts a page out of entries that come after the token's: the page, and whether there are more.
    pub(super) fn cut<T>(&self, entries: impl Iterator<Item = T>) -> (Vec<T>, bool) {
        let mut page: Vec<T> = entries.take(self.size + 1).collect();
        let more = self.size < page.len();
        page.truncate(self.size);
        (page, more)
    }
}

fn token_refused() -> Refused {
    invalid(
        "page_token",
        "PAGE_TOKEN_INVALID",
        "must be the next_page_token of an answer to the same request, unaltered",
    )
}

/// One field of a request is wrong.
pub(super) fn invalid(field: &str, reason: &'static str, description: impl Into<String>) -> Refused {
    Refused::invalid(vec![Violation { field: field.to_owned(), reason, description: description.into() }])
}
