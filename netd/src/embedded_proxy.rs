//! The proxy for Services inside netd: a thread of its own with a runtime of its own, so that neither keeps the other waiting.
//!
//! A proxy that fails is tried again, and is a problem in the status. The pod network goes on without it.

mod api_access;

use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use apiserver::{Address, ApiServer};
use dataplane::types::{PerFamily, Prefix};
use network::chain;
use proxy::app::{AppError, Proxy, Status};
use proxy::config::{Config as ProxyConfig, ConfigError, DetectLocal, Flags, Loaded};
use proxy::kube_proxy::{self, Observer, Presence};
use proxy::source::{api, directory};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::config::{Config, ProxyMode, ServicesSource};
use crate::node::Node;
use crate::problem::{Kind, Problem, Problems};
use crate::status::ProxyState;
use crate::status::publisher::StatusPublisher;

/// The program's name in requests.
const USER_AGENT: &str = concat!("netd/", env!("CARGO_PKG_VERSION"));
/// How long the proxy waits after a failure, and between two looks for a kube-proxy that ends.
const RETRY: Duration = Duration::from_secs(5);
/// How long the end of the proxy may take.
const END: Duration = Duration::from_secs(5);

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("cannot read --proxy-config {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error("the source of Services has ended")]
    SourceEnded,
}

/// What the proxy needs to know of netd.
#[derive(Debug, Clone)]
pub struct Settings {
    mode: ProxyMode,
    source: ServicesSource,
    /// kube-proxy's configuration file.
    file: Option<PathBuf>,
    node: String,
    /// The pods' ranges of the cluster: `clusterCIDR` where the file does not have it.
    pods: PerFamily<Prefix>,
    /// The node's addresses where no Node object has them: those that node ports are on by default.
    addresses: PerFamily<IpAddr>,
}

impl Settings {
    /// The settings on a node; `None` where the proxy is off.
    pub fn of(config: &Config, node: &Node) -> Option<Self> {
        let mode = config.proxy.mode();
        let source = config.services_source().filter(|_| mode != ProxyMode::Off)?;
        let (file, pods, addresses) = (config.proxy.file.clone(), node.identity.networks, node.underlay.addresses);
        Some(Self { mode, source, file, node: node.name.to_string(), pods, addresses })
    }

    /// Reads kube-proxy's file, and completes it with what netd knows. Gives what is to be logged too.
    fn read(&self) -> Result<Loaded, ProxyError> {
        let text = self
            .file
            .as_ref()
            .map(|path| std::fs::read_to_string(path).map_err(|error| ProxyError::File(path.clone(), error)));
        let text = text.transpose()?;
        let name = self.file.as_ref().map(|path| path.display().to_string());
        let file = name.as_deref().zip(text.as_deref());
        let mut loaded = ProxyConfig::read(&Flags::default(), file)?;
        loaded.config.node_addresses = self.addresses;
        if let DetectLocal::ClusterCidr(ranges) = &mut loaded.config.detect_local {
            for (family, range) in self.pods.iter() {
                ranges.slot(family).get_or_insert(*range);
            }
        }
        Ok(loaded)
    }
}

/// The running proxy. It ends where this is dropped.
#[derive(Debug)]
pub struct EmbeddedProxy {
    /// Dropped to end it.
    end: watch::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl EmbeddedProxy {
    /// Starts it, in the network namespace of the calling thread.
    pub fn start(settings: Settings, publisher: StatusPublisher) -> Self {
        let ((end, ended), (sender, done)) = (watch::channel(()), oneshot::channel());
        publisher.set_proxy(ProxyState::Starting, None, &Problems::new());
        let failed = publisher.clone();
        let run = move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => run(runtime, &settings, &publisher, ended),
                Err(error) => publish_failure(&publisher, format!("its thread cannot start: {error}")),
            }
            // netd may have ended without waiting.
            let _ = sender.send(());
        };
        if let Err(error) = thread::Builder::new().name("proxy".to_owned()).spawn(run) {
            publish_failure(&failed, format!("its thread cannot start: {error}"));
        }
        Self { end, done }
    }

    /// Ends it, and waits for the end. What is in the kernel stays.
    pub async fn end(self) {
        drop(self.end);
        let _ = timeout(END, self.done).await;
    }
}

fn run(runtime: Runtime, settings: &Settings, publisher: &StatusPublisher, ended: watch::Receiver<()>) {
    runtime.block_on(keep_running(settings, publisher, ended));
    // A file system that does not answer must not keep netd from ending.
    runtime.shutdown_timeout(Duration::from_secs(2));
}

/// Runs the proxy until `ended`, again after each failure.
async fn keep_running(settings: &Settings, publisher: &StatusPublisher, mut ended: watch::Receiver<()>) {
    let is_auto = settings.mode == ProxyMode::Auto;
    let mut observer = Observer::default();
    let mut logged = None;
    loop {
        let left = if is_auto { left(&mut observer).await } else { None };
        let why = if let Some((state, why)) = left {
            publisher.set_proxy(state, Some(why.clone()), &Problems::new());
            if logged.as_ref() != Some(&why) {
                tracing::info!("Services are left to kube-proxy: {why}");
            }
            why
        } else {
            match run_once(settings, publisher, ended.clone()).await {
                Ok(End::Asked) => return,
                Ok(End::KubeProxy) => {
                    tracing::info!("kube-proxy has begun: netd leaves Services to it and removes its own rules");
                    observer.rules_made();
                    continue;
                }
                Err(error @ ProxyError::App(AppError::Another(_))) if is_auto => {
                    let why = "a netd-proxy runs on the node".to_owned();
                    publisher.set_proxy(ProxyState::LeftToNetdProxy, Some(why.clone()), &Problems::new());
                    if logged.as_ref() != Some(&why) {
                        tracing::info!("Services are left to netd-proxy: {error}");
                    }
                    why
                }
                Err(error) => {
                    let error = chain(&error);
                    if logged.as_ref() != Some(&error) {
                        tracing::error!("the proxy for Services does not run: {error}; trying again");
                    }
                    publish_failure(publisher, error.clone());
                    error
                }
            }
        };
        logged = Some(why);
        tokio::select! {
            _ = ended.changed() => return,
            () = sleep(RETRY) => {}
        }
    }
}

/// Whether Services are left to a kube-proxy, and why. Rules of netd's that nobody follows would send connections to endpoints that are
/// gone, so they are removed where a kube-proxy has its own.
async fn left(observer: &mut Observer) -> Option<(ProxyState, String)> {
    let signs = kube_proxy::signs().await;
    match observer.judge(&signs, Instant::now()) {
        Presence::Absent => None,
        Presence::Running(why) => {
            let removed = if signs.has_rules { proxy::cleanup::remove_unused() } else { Ok(()) };
            let fault =
                removed.err().map(|error| format!("; netd's rules stay: {}", chain(&error))).unwrap_or_default();
            Some((ProxyState::LeftToKubeProxy, why + &fault))
        }
        // Its rules serve.
        Presence::Returning(why) => Some((ProxyState::LeftToKubeProxy, why)),
        Presence::Beginning(why) => Some((ProxyState::Starting, why)),
    }
}

/// Why the proxy has ended without a failure.
enum End {
    /// netd ends.
    Asked,
    /// A kube-proxy has begun and has the Services.
    KubeProxy,
}

/// Runs the proxy until `ended`.
async fn run_once(
    settings: &Settings,
    publisher: &StatusPublisher,
    mut ended: watch::Receiver<()>,
) -> Result<End, ProxyError> {
    let Loaded { config, warnings } = settings.read()?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let of_file = config.kubeconfig.clone();
    let mut own_problems = Problems::new();
    let mut proxy = Proxy::open(config, &settings.node)?;
    let events = match &settings.source {
        ServicesSource::Directory(dir) => directory::follow(dir.clone(), &settings.node, directory::POLL),
        ServicesSource::Api { url, kubeconfig } => {
            let address = Address { url: url.clone(), kubeconfig: kubeconfig.clone().or(of_file) };
            if address.url.is_none() && address.kubeconfig.is_none() {
                let variable = |name| std::env::var(name).ok();
                let (host, service) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_PORT"));
                own_problems.extend(api_access::problem(host.as_deref(), service.as_deref()));
            }
            let server = ApiServer::new(address, USER_AGENT);
            proxy.set_server(&server);
            api::follow(&server, &settings.node)
        }
    };
    let (status, mut begun) = (proxy.status(), proxy.status());
    let is_ended = ended.clone();
    let end = async {
        // An error says that the sender is dropped, which is the end.
        let _ = ended.changed().await;
    };
    let end = pin!(end);
    let is_auto = settings.mode == ProxyMode::Auto;
    tokio::select! {
        () = proxy.run(events, end) => {}
        () = follow(status, publisher, &own_problems) => {}
        Ok(_) = begun.wait_for(|status| status.has_kube_proxy_begun), if is_auto => return Ok(End::KubeProxy),
    }
    if is_ended.has_changed().is_err() { Ok(End::Asked) } else { Err(ProxyError::SourceEnded) }
}

/// Shows what the proxy says in netd's status, with problems of its surroundings.
async fn follow(mut status: watch::Receiver<Status>, publisher: &StatusPublisher, own_problems: &Problems) {
    for problem in own_problems {
        tracing::warn!("{problem}");
    }
    loop {
        let Status { is_programmed, problems, .. } = status.borrow_and_update().clone();
        let state = if is_programmed { ProxyState::Programmed } else { ProxyState::NotProgrammed };
        let convert = |problem: proxy::problem::Problem| Problem {
            kind: Kind::Service(problem.kind),
            subject: problem.subject,
            detail: problem.detail,
            remedy: problem.remedy,
        };
        let problems = problems.into_iter().map(convert).chain(own_problems.iter().cloned());
        publisher.set_proxy(state, None, &problems.collect());
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn publish_failure(publisher: &StatusPublisher, why: String) {
    let problem = Problem::new(Kind::ProxyFailed, "the proxy for Services", format!("does not run: {why}"));
    publisher.set_proxy(ProxyState::Failed, Some(why), &Problems::from([problem]));
}
