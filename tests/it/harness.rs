//! A node in this process with a development PKI, and clients of it: a port, a customs agency, an operator, and a stranger whose domain is
//! not recognised. Everything lives in a temporary folder and on loopback ports that the system chooses.

use std::time::Duration;

use tempfile::TempDir;
use tonic::transport::Channel;
use tradelane::{
    cli::connect::{ConnectError, ConnectOptions, Credentials, ExpectedServer, Pem, connect},
    clock::{Clock, SystemClock},
    config::Config,
    identity::dev_pki::{CERTIFICATE_LIFE_NS, Issued},
    node::{Node, RunningNode, StopReport},
    testing::pki::{CUSTOMS, NODE, OPERATOR, PkiWorld, TERMINAL, id},
    wire::proto::{event_service_client::EventServiceClient, node_service_client::NodeServiceClient},
};

/// How long a test waits for what is to come. Generous, since a busy machine takes its time; what does not come fails the test then.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whose domain no trust file names.
pub const STRANGER: &str = "spiffe://stranger.example/somebody";

/// The grants of the tests: the port publishes and reads everything, customs too, the operator operates and reads nothing.
pub const POLICY: &str = r#"
[[grant]]
id = "port"
who = ["spiffe://port.valparaiso.cl/*"]
actions = ["publish", "read", "share"]
all = true

[[grant]]
id = "customs"
who = ["spiffe://customs.gov.pk/*"]
actions = ["publish", "read", "share"]
all = true

[[grant]]
id = "operators"
who = ["spiffe://exchange.gov.pk/operator/*"]
actions = ["operate"]
"#;

/// The node with its files.
pub struct Harness {
    /// Authorities and files; change them and reload.
    pub world: PkiWorld,
    /// The node.
    pub node: RunningNode,
    /// A terminal's certificate.
    pub port: Issued,
    /// A customs agency's certificate.
    pub customs: Issued,
    /// An operator's certificate.
    pub operator: Issued,
    /// A stranger's certificate.
    pub stranger: Issued,
    /// Gone with the harness.
    folder: TempDir,
}

/// A node that was stopped, whose files are still there.
pub struct Stopped {
    /// How the stop went.
    pub report: StopReport,
    world: PkiWorld,
    issued: [Issued; 4],
    folder: TempDir,
}

impl Harness {
    /// Starts a node with the policy of the tests.
    pub async fn start() -> Self {
        Self::start_with(POLICY, |_| {}).await
    }

    /// Starts a node with another policy or other settings.
    pub async fn start_with(policy: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now_ns = SystemClock.now_ns();
        let mut world = PkiWorld::create(folder.path(), now_ns).expect("a development PKI");
        world.write_policy(policy).expect("a policy file");
        let mut issue = |pki: &str, name: &str| {
            let domain = match pki {
                "port" => &mut world.port,
                "customs" => &mut world.customs,
                "exchange" => &mut world.exchange,
                _ => &mut world.stranger,
            };
            domain.issue_participant(&id(name), now_ns, CERTIFICATE_LIFE_NS).expect("a certificate")
        };
        let issued = [
            issue("port", TERMINAL),
            issue("customs", CUSTOMS),
            issue("exchange", OPERATOR),
            issue("stranger", STRANGER),
        ];
        Self::launch(world, issued, folder, change).await
    }

    async fn launch(world: PkiWorld, issued: [Issued; 4], folder: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = world.config();
        config.node.stop_timeout = Duration::from_secs(5);
        change(&mut config);
        let node = Node::start(config).await.expect("the node starts");
        let [port, customs, operator, stranger] = issued;
        Self { world, node, port, customs, operator, stranger, folder }
    }

    /// Connects as somebody.
    pub async fn connect(&self, who: &Issued) -> Result<Channel, ConnectError> {
        connect(&self.options(who)).await
    }

    /// How somebody connects.
    pub fn options(&self, who: &Issued) -> ConnectOptions {
        ConnectOptions {
            address: self.node.address.into(),
            credentials: Credentials {
                authorities: Pem::File(self.world.node_bundle()),
                certificate: Pem::File(who.certificate_file.clone()),
                key: Pem::File(who.key_file.clone()),
            },
            expected_server: ExpectedServer::Id(id(NODE)),
        }
    }

    /// The event service as somebody.
    pub async fn events(&self, who: &Issued) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.connect(who).await.expect("a connection"))
    }

    /// The node service as the operator.
    pub async fn operate(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.connect(&self.operator).await.expect("a connection"))
    }

    /// Stops the node; its files stay.
    pub async fn stop(self) -> Stopped {
        let report = self.node.stop().await;
        let issued = [self.port, self.customs, self.operator, self.stranger];
        Stopped { report, world: self.world, issued, folder: self.folder }
    }
}

impl Stopped {
    /// Starts the node again over the same data.
    pub async fn start_again(self) -> Harness {
        Box::pin(Harness::launch(self.world, self.issued, self.folder, |_| {})).await
    }
}
