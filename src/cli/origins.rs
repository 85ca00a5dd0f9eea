//! What a reader is told of the nodes whose events come to hers: while one is not heard, its silence is no news. It only speaks where
//! something is missing, and once when that ends.

use std::collections::BTreeSet;

use super::{
    terminal::{note, printable},
    words::{self, short_id},
};
use crate::wire::proto::{OriginFreshness, OriginLink};

/// Which nodes were missing when last told.
#[derive(Debug, Default)]
pub struct Missing(BTreeSet<String>);

impl Missing {
    /// Tells of the nodes that are missing since the last time, and of those that are heard again.
    pub fn tell(&mut self, origins: &[OriginFreshness]) {
        for line in self.news(origins) {
            note(&line);
        }
    }

    fn news(&mut self, origins: &[OriginFreshness]) -> Vec<String> {
        let mut news = Vec::new();
        for origin in origins {
            if origin.link() == OriginLink::Down {
                if self.0.insert(origin.node.clone()) {
                    news.push(format!("what happens there since does not come here: {}", in_words(origin)));
                }
            } else if self.0.remove(&origin.node) {
                news.push(format!("heard again: {}", in_words(origin)));
            }
        }
        news.into_iter().map(|line| printable(&line).into_owned()).collect()
    }
}

/// How fresh the events of one node are, in words.
#[must_use]
pub fn in_words(origin: &OriginFreshness) -> String {
    let mut words = vec![match origin.complete_time.as_ref() {
        Some(time) => format!("{}: all as of {}", short_id(&origin.node), words::time(Some(time))),
        None => format!("{}: not heard since this node started", short_id(&origin.node)),
    }];
    if origin.link() == OriginLink::Down {
        words.push("its link is down".to_owned());
    }
    if origin.lag_events > 0 {
        words.push(format!("{} positions behind", origin.lag_events));
    }
    if origin.quarantined_count > 0 {
        words.push(format!("{} of its events are in quarantine", origin.quarantined_count));
    } else if !origin.is_whole {
        words.push("not all of its clearances, holds and associations are forwarded here".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_heard_is_told_once_and_so_is_its_return() {
        let origin = |node: &str, link: OriginLink| OriginFreshness {
            node: format!("spiffe://exchange.{node}/node/1"),
            link: link.into(),
            is_whole: true,
            ..OriginFreshness::default()
        };
        let mut missing = Missing::default();
        let all_up = [origin("pk", OriginLink::Own), origin("cl", OriginLink::Up)];
        assert!(missing.news(&all_up).is_empty());
        let down = [origin("pk", OriginLink::Own), origin("cl", OriginLink::Down)];
        let told = missing.news(&down);
        assert!(told.len() == 1 && told[0].contains("exchange.cl") && told[0].contains("down"), "{told:?}");
        assert!(missing.news(&down).is_empty(), "once");
        let told = missing.news(&all_up);
        assert!(told.len() == 1 && told[0].contains("heard again"), "{told:?}");
        assert_eq!(missing.news(&down).len(), 1, "each time anew");
    }
}
