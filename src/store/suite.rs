//! What every store must do, whatever it is made of. It never looks behind the contract.

use std::sync::Arc;

use bytes::Bytes;

use super::{Change, StateStore, Table, WriteError};
use crate::storage::state::VALUE_BYTES_MAX;

/// Sets an entry.
#[must_use]
pub fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change { table, key: key.to_vec().into(), value: Some(value.to_vec().into()) }
}

/// Removes an entry.
#[must_use]
pub fn removed(table: Table, key: &[u8]) -> Change {
    Change { table, key: key.to_vec().into(), value: None }
}

/// Runs the suite over an empty store.
pub async fn keeps_the_contract(store: Arc<dyn StateStore>) {
    let (cursors, letters) = (Table::Cursors, Table::DeadLetters);
    assert_eq!(store.load(cursors, b""), []);
    store.write(vec![put(cursors, b"b", b"1"), put(letters, b"a", b"2"), put(cursors, b"a", b"3")]).await.unwrap();
    let entry = |key: &[u8], value: &[u8]| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    assert_eq!(store.load(cursors, b""), [entry(b"a", b"3"), entry(b"b", b"1")], "a table shows its own, in order");
    assert_eq!(store.load(cursors, b"b"), [entry(b"b", b"1")], "a prefix shows what begins so");
    assert_eq!(store.load(Table::Subscriptions, b""), []);
    store.write(vec![removed(cursors, b"b"), put(cursors, b"a", b""), removed(cursors, b"never")]).await.unwrap();
    assert_eq!(store.load(cursors, b""), [entry(b"a", b"")], "an empty value is a value");
    assert_eq!(store.get(letters, b"a"), Some(Bytes::from_static(b"2")));
    assert_eq!(store.get(letters, b"b"), None);

    // Of writes asked for one after the other, the last decides, though nobody waited in between; a dropped future cancels nothing.
    let writes: Vec<_> = (0..50_u8).map(|number| store.write(vec![put(cursors, b"a", &[number])])).collect();
    let (last, others) = writes.into_iter().rev().enumerate().partition::<Vec<_>, _>(|(index, _)| *index == 0);
    drop(others);
    for (_, write) in last {
        write.await.unwrap();
    }
    assert_eq!(store.get(cursors, b"a"), Some(Bytes::from_static(&[49])));

    let large = store.write(vec![put(cursors, b"c", b"4"), put(cursors, b"a", &vec![0; VALUE_BYTES_MAX + 1])]).await;
    assert!(matches!(large, Err(WriteError::TooLarge { .. })), "{large:?}");
    let many = (0..5_u8).map(|key| put(cursors, &[key], &vec![key; VALUE_BYTES_MAX])).collect();
    let many = store.write(many).await;
    assert!(matches!(many, Err(WriteError::TooLarge { .. })), "{many:?}");
    assert_eq!(store.load(cursors, b"").len(), 1, "a refused write leaves nothing behind");
    store.write(vec![removed(cursors, b"a"), removed(letters, b"a")]).await.unwrap();
}
