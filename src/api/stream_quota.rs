//! How many streams each participant may hold open, over all its connections. It never ends one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tonic::Code;

use super::Refused;
use crate::domain::SpiffeId;

/// Counts the streams of every participant. Only those who hold one are remembered.
#[derive(Debug)]
pub struct StreamQuota {
    streams_max: usize,
    open: Mutex<HashMap<SpiffeId, usize>>,
}

/// A stream that counts until it is dropped.
#[derive(Debug)]
pub struct OpenStream {
    quota: Arc<StreamQuota>,
    who: SpiffeId,
}

impl StreamQuota {
    /// So many streams for each.
    #[must_use]
    pub fn new(streams_max: usize) -> Arc<Self> {
        Arc::new(Self { streams_max, open: Mutex::default() })
    }

    /// Counts one more.
    ///
    /// # Errors
    /// The participant holds as many as it may.
    pub fn open(self: &Arc<Self>, who: &SpiffeId) -> Result<OpenStream, Refused> {
        let mut open = self.counts();
        let count = open.get(who).copied().unwrap_or(0);
        if self.streams_max <= count {
            let message = format!("you hold {count} open streams, and may hold no more; end one first");
            let refused = Refused::new(Code::ResourceExhausted, "STREAM_QUOTA_EXCEEDED", message)
                .with("streams_max", self.streams_max.to_string())
                .retry_after(super::status::SHORTAGE_RETRY);
            return Err(refused);
        }
        open.insert(who.clone(), count + 1);
        Ok(OpenStream { quota: Arc::clone(self), who: who.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<SpiffeId, usize>> {
        // Every change is one step, so that a panic with the lock held leaves the counts right.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.quota.counts();
        match open.get_mut(&self.who) {
            Some(count) if 1 < *count => *count -= 1,
            Some(_) => {
                open.remove(&self.who);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_participant_has_its_own_count_and_ended_streams_count_no_more() {
        let quota = StreamQuota::new(2);
        let (a, b) = ("spiffe://port.example/a", "spiffe://port.example/b");
        let [a, b] = [a, b].map(|text| SpiffeId::parse(text).expect("a good name"));
        let first = quota.open(&a).expect("the first");
        let _second = quota.open(&a).expect("the second");
        let refused = quota.open(&a).expect_err("the third is one too many");
        assert_eq!((refused.code, refused.reason), (Code::ResourceExhausted, "STREAM_QUOTA_EXCEEDED"));
        assert!(refused.retry_after.is_some());
        let other = quota.open(&b).expect("another's first");
        drop(first);
        let _third = quota.open(&a).expect("there is room again");
        drop(other);
        assert_eq!(quota.counts().len(), 1, "who holds none is forgotten");
    }
}
