//! The services of a node and what they share: views, door, subscriptions, queries. It never binds a socket.

use std::{path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::start::{durable_limits, session_limits};
use crate::{
    api::{
        LiveCalls, NodeApi, NodeParts, PeerApi, Published, Recorder, StreamQuota,
        clearance::{ClearanceApi, ClearanceServiceParts},
        events::{EventApi, EventServiceParts},
        queries::{Queries, QueriesParts},
        reflection,
        subscriptions::{SubscriptionApi, SubscriptionServiceParts},
    },
    clock::Clock,
    config::Config,
    domain::code_lists::CodeLists,
    federation::{Federation, FederationParts, PeerTable},
    identity::Identity,
    log::{LastAcknowledged, Lookout, sled_log::OpenedLog},
    publish::{Door, DoorParts, EventQuota, PublishLimits},
    subscribe::{
        Sessions, Subscriptions, SubscriptionsParts,
        durable::{DurableParts, DurableSubscriptions},
    },
    tasks::{OnFailure, Tasks},
    views::{
        Associations, AssociationsView, Runner, SearchView, ViewHandle,
        page_token::{PageKey, PageTokens},
    },
    wire::proto::{
        clearance_service_server::ClearanceServiceServer, event_service_server::EventServiceServer,
        node_service_server::NodeServiceServer, peer_service_server::PeerServiceServer,
        subscription_service_server::SubscriptionServiceServer,
    },
};

/// What every service works with.
pub(super) struct Shared<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) identity: &'a Identity,
    pub(super) code_lists: Arc<CodeLists>,
    pub(super) opened: &'a OpenedLog,
    pub(super) peer_table: Arc<PeerTable>,
    pub(super) tasks: &'a Tasks,
    pub(super) live: &'a LiveCalls,
    pub(super) draining: &'a CancellationToken,
    pub(super) page_key: PageKey,
}

/// The services, and what the node's gauges read.
pub(super) struct Services {
    /// Everything that is served, health left out.
    pub(super) routes: Routes,
    /// The views.
    pub(super) views: Vec<ViewHandle>,
    /// Live readers.
    pub(super) sessions: Arc<Sessions>,
    /// Durable readers.
    pub(super) durable: Arc<DurableSubscriptions>,
    /// Links to other nodes, not yet started.
    pub(super) federation: Arc<Federation>,
}

impl Shared<'_> {
    /// Starts the views and builds the services.
    ///
    /// # Errors
    /// What is stored of durable subscriptions cannot be read, in words.
    pub(super) fn build(self, routes: Routes) -> Result<Services, String> {
        let node = self.identity.own_id();
        let log = &self.opened.log;
        let index = &self.opened.search_index;
        let associations = Arc::new(Associations::default());
        let lookout = Lookout::new(log.clone(), self.tasks.clone());
        let durable = Arc::new(self.durable(associations.clone(), lookout.clone())?);
        let search = SearchView::new(index.clone(), node.clone());
        let bound = AssociationsView::new(associations.clone(), log.clone(), index.clone());
        let search_view = run_view(self.tasks, "view search", Runner::new(Arc::new(search), log.clone()));
        let associations_view = run_view(self.tasks, "view associations", Runner::new(Arc::new(bound), log.clone()));
        let views = vec![search_view.clone(), associations_view.clone()];

        let subscriptions = Arc::new(Subscriptions::new(SubscriptionsParts {
            log: log.clone(),
            lookout,
            access: self.identity.access().clone(),
            bindings: associations.clone(),
            clock: self.clock.clone(),
            node: node.clone(),
            tasks: self.tasks.clone(),
            draining: self.draining.clone(),
            limits: session_limits(self.config),
        }));
        let sessions = subscriptions.sessions();
        let federation = Arc::new(Federation::new(FederationParts {
            log: log.clone(),
            access: self.identity.access().clone(),
            peers: self.identity.peers(),
            bindings: associations.clone(),
            clock: self.clock.clone(),
            node: node.clone(),
            table: self.peer_table.clone(),
            draining: self.draining.clone(),
        }));
        let acknowledged = Arc::new(LastAcknowledged::default());
        let tokens = Arc::new(PageTokens::new(&self.page_key, &**self.clock));
        let queries = Arc::new(Queries::new(QueriesParts {
            log: log.clone(),
            search_index: index.clone(),
            associations: associations.clone(),
            search_view,
            associations_view,
            access: self.identity.access().clone(),
            acknowledged: acknowledged.clone(),
            sessions: sessions.clone(),
            durable: durable.clone(),
            federation: federation.clone(),
            clock: self.clock.clone(),
            node: node.clone(),
            tokens: tokens.clone(),
        }));
        let published = Arc::new(Published::default());
        let recorder = Recorder::new(node, &**log);
        let streams = StreamQuota::new(self.config.quotas.streams_max);
        let durable_api =
            self.durable_api(&queries, durable.clone(), recorder.clone(), streams.clone(), tokens.clone());
        let clearances = ClearanceApi::new(ClearanceServiceParts {
            queries: queries.clone(),
            subscriptions: subscriptions.clone(),
            recorder: recorder.clone(),
            streams: streams.clone(),
            audit: self.identity.audit().clone(),
            clock: self.clock.clone(),
        });
        let events = EventApi::new(EventServiceParts {
            door: Arc::new(self.door(associations.clone(), acknowledged, &federation)),
            subscriptions,
            log: log.clone(),
            recorder,
            queries,
            published: published.clone(),
            streams,
            audit: self.identity.audit().clone(),
            clock: self.clock.clone(),
            draining: self.draining.clone(),
        });
        let readers = (sessions.clone(), durable.clone());
        let node_api = self.node_api(&views, associations, readers, published, tokens, federation.clone());
        let api = &self.config.api;
        let routes = routes
            .add_service(EventServiceServer::new(events).max_decoding_message_size(api.publish_request_bytes_max))
            .add_service(
                ClearanceServiceServer::new(clearances).max_decoding_message_size(api.control_request_bytes_max),
            )
            .add_service(
                SubscriptionServiceServer::new(durable_api).max_decoding_message_size(api.control_request_bytes_max),
            )
            .add_service(NodeServiceServer::new(node_api).max_decoding_message_size(api.control_request_bytes_max))
            .add_service(
                PeerServiceServer::new(PeerApi::new(federation.clone(), self.tasks.clone()))
                    .max_decoding_message_size(api.control_request_bytes_max),
            );
        let routes = if api.reflection { reflection::add_to(routes) } else { routes };
        Ok(Services { routes, views, sessions, durable, federation })
    }

    /// The service of durable subscriptions.
    fn durable_api(
        &self,
        queries: &Queries,
        durable: Arc<DurableSubscriptions>,
        recorder: Recorder,
        streams: Arc<StreamQuota>,
        tokens: Arc<PageTokens>,
    ) -> SubscriptionApi {
        SubscriptionApi::new(SubscriptionServiceParts {
            durable,
            access: self.identity.access().clone(),
            recorder,
            origins: queries.freshness().clone(),
            streams,
            tokens,
            audit: self.identity.audit().clone(),
            tasks: self.tasks.clone(),
            clock: self.clock.clone(),
            draining: self.draining.clone(),
        })
    }

    fn durable(&self, associations: Arc<Associations>, lookout: Arc<Lookout>) -> Result<DurableSubscriptions, String> {
        DurableSubscriptions::open(DurableParts {
            log: self.opened.log.clone(),
            lookout,
            store: self.opened.state.clone(),
            access: self.identity.access().clone(),
            bindings: associations,
            clock: self.clock.clone(),
            node: self.identity.own_id(),
            tasks: self.tasks.clone(),
            draining: self.draining.clone(),
            limits: durable_limits(self.config),
        })
    }

    fn door(
        &self,
        associations: Arc<Associations>,
        acknowledged: Arc<LastAcknowledged>,
        federation: &Federation,
    ) -> Door {
        let quotas = &self.config.quotas;
        Door::new(DoorParts {
            log: self.opened.log.clone(),
            acknowledged,
            access: self.identity.access().clone(),
            bindings: associations,
            lists: self.code_lists.clone(),
            clock: self.clock.clone(),
            node: self.identity.own_id(),
            quota: EventQuota::new(quotas.events_per_second_max, quotas.events_burst_max),
            limits: PublishLimits::default(),
            closed: federation.closed(),
        })
    }

    fn node_api(
        &self,
        views: &[ViewHandle],
        associations: Arc<Associations>,
        (sessions, durable): (Arc<Sessions>, Arc<DurableSubscriptions>),
        published: Arc<Published>,
        tokens: Arc<PageTokens>,
        federation: Arc<Federation>,
    ) -> NodeApi {
        let data_dir: &Path = &self.config.node.data_dir;
        NodeApi::new(NodeParts {
            identity: self.identity.clone(),
            log: self.opened.log.clone(),
            admin: self.opened.admin.clone(),
            views: views.to_vec(),
            associations,
            sessions,
            durable,
            live: self.live.clone(),
            published,
            federation,
            code_lists: self.code_lists.clone(),
            tokens,
            tasks: self.tasks.clone(),
            clock: self.clock.clone(),
            data_dir: data_dir.to_owned(),
            start_time_ns: self.clock.now_ns(),
        })
    }
}

/// A view that cannot go on would answer with ever older state, so the node stops: its log cannot be read.
fn run_view(tasks: &Tasks, name: &'static str, (runner, handle): (Runner, ViewHandle)) -> ViewHandle {
    tasks.spawn(name, OnFailure::StopNode, runner.run(tasks.stopping()));
    handle
}
