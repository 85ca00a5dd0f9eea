//! A search index of an earlier program, whose terms were fewer: it answers nothing any more, and nothing of it stays.

use super::*;
use crate::{
    domain::term::TermHash,
    storage::{durable::SyncReason, fatal::FatalHook, keys, runs::RunFamily, store::Store},
};

/// The family that an earlier program used.
const FORMER: u32 = 2;

fn with_former<T>(
    case: &Case,
    look: impl FnOnce(&Store, Arc<RunFamily>, &mut crate::storage::store::Writer) -> T,
) -> T {
    let options = case.options();
    let (store, mut writer) = Store::open(&options.data_dir, options.page_cache_bytes).unwrap();
    let family = RunFamily::open(&store, FORMER, 500, FatalHook::abort()).unwrap();
    look(&store, family, &mut writer)
}

#[tokio::test]
async fn an_index_of_an_earlier_program_is_built_anew_and_nothing_of_it_stays() {
    let case = Case::new();
    let opened = case.open().unwrap();
    append(&opened, 0..300).await;
    close(opened).await;
    with_former(&case, |_, family, writer| {
        family.add(&[(TermHash(7), Sequence(3))], Sequence(300));
        family.freeze();
        while family.maintain(writer).unwrap() {}
        writer.put(keys::FAMILIES, &FORMER.to_be_bytes()).unwrap();
        writer.sync(SyncReason::Blocks).unwrap();
        assert_eq!(family.run_numbers().len(), 1);
    });
    let opened = case.open().unwrap();
    assert_eq!(opened.search_index.complete_through(), Sequence::ZERO, "the view begins anew");
    opened.search_index.add(vec![(TermHash(9), Sequence(4))], Sequence(300)).await.unwrap();
    let found = opened.search_index.lookup(TermHash(7), Sequence::ZERO, Sequence(301), false, 9).await.unwrap();
    assert_eq!(found, [], "the former one is not asked");
    check(&opened, 300).await;
    close(opened).await;
    with_former(&case, |store, family, _| {
        assert_eq!((family.run_numbers().len(), family.complete_through()), (0, Sequence::ZERO));
        assert!(store.get(&keys::run_part(FORMER, 0, 0)).unwrap().is_none(), "its parts are gone");
    });
}
