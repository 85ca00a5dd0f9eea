//! One behaviour suite, written once against the contract and run over every log. It never knows how a log keeps what it keeps: what only
//! one engine can do is tested beside that engine. A new engine is a new [`subject::Engine`] and a line below.

mod durability;
mod fixtures;
mod identity;
mod model;
mod reading;
mod revisions;
mod subject;
mod terms;

macro_rules! on_every_log {
    ($($room:ident :: $behaviour:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$room::$behaviour(super::subject::Subject::in_memory()).await;
            })+
        }
        mod sled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$room::$behaviour(super::subject::Subject::on_sled()).await;
            })+
        }
    };
}

on_every_log! {
    durability::returned_means_visible_and_the_tail_never_moves_back,
    durability::a_dropped_append_goes_through,
    durability::what_was_acknowledged_is_there_after_a_restart,
    durability::a_closing_log_says_so,
    durability::a_batch_above_the_limit_is_refused_and_an_empty_one_does_nothing,
    identity::order_is_kept_and_sequences_strictly_increase,
    identity::an_identity_is_stored_once_and_content_decides_over_bytes,
    identity::concurrent_duplicates_take_one_place_and_wait_for_it,
    identity::an_identity_is_known_for_ever,
    identity::one_refusal_withholds_the_whole_batch_and_leaves_nothing,
    identity::each_event_can_stand_for_itself,
    identity::accepted_times_never_run_backwards,
    reading::reads_go_on_where_they_ended,
    reading::terms_skip_and_never_miss_a_match,
    reading::places_that_are_not_there_are_left_out,
    reading::an_event_is_found_by_its_identity_alone,
    reading::epochs_outlive_a_restart,
    reading::the_chain_stands_for_every_record,
    revisions::a_revision_takes_over_its_chains_terms_and_audience,
    revisions::only_the_head_of_a_known_chain_is_revised,
    revisions::a_chain_may_be_long_and_is_followed_only_so_far,
    revisions::terms_that_grow_beyond_a_header_are_refused,
    revisions::an_original_and_its_revisions_share_a_batch,
    revisions::a_refused_original_takes_its_revision_along,
    revisions::a_peers_revision_may_come_before_its_original,
    revisions::a_peers_conflicting_revision_is_kept_and_ends_no_chain,
    revisions::a_peer_brings_only_so_many_revisions_that_fit_nowhere,
    terms::what_is_added_is_found_within_bounds_and_in_order,
    terms::after_a_restart_the_rest_can_be_added_again,
    terms::the_next_generation_takes_the_place_at_once,
}
