//! Listeners and connections, in a namespace.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use dataplane::netns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::fixtures::{resolved, service_port};
use crate::model::Protocol;

/// Of the service port `web`.
const ON_LOOPBACK: &str = "127.0.0.1:3003";

/// A namespace whose loopback device has the endpoints' addresses, and a runtime in it.
fn isolated(body: impl AsyncFnOnce() + Send) {
    netns::scratch(|| {
        let commands = "link set lo up\naddr add 10.180.0.1 dev lo\naddr add 10.180.0.2 dev lo\n";
        for command in commands.lines() {
            let done = std::process::Command::new("ip").args(command.split(' ')).status().expect("ip");
            assert!(done.success(), "{command}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(body());
    })
    .expect("a namespace");
}

/// What runs, with the Service `web` alone.
struct Scene {
    loopback: Loopback,
    metrics: Arc<Metrics>,
    port: ServicePort,
}

impl Scene {
    fn start(name: &str) -> Self {
        let families = BTreeSet::from([Family::V4]);
        let metrics = Arc::new(Metrics::new(&families));
        let loopback = Loopback::start(families, &metrics).expect("a thread");
        Self { loopback, metrics, port: service_port(name, Protocol::Tcp) }
    }

    fn set(&mut self, endpoints: Option<&[u8]>) {
        let resolved = endpoints.map(|endpoints| resolved(self.port.clone(), endpoints));
        self.loopback.update(&[(self.port.key(), resolved)].into());
    }

    /// Waits until the metrics have a line.
    async fn await_metric(&self, line: &str) {
        let line = format!("kubeproxy_nftables_localhost_nodeport_{line}");
        let counted = async {
            while !self.metrics.text().lines().any(|known| known == line) {
                tokio::task::yield_now().await;
            }
        };
        within(&line, counted).await;
    }
}

async fn within<T>(what: &str, done: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), done).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

async fn endpoint(number: u8) -> TcpListener {
    TcpListener::bind(SocketAddr::from(([10, 180, 0, number], 80))).await.expect("an endpoint's address")
}

/// Connects as soon as somebody listens.
async fn connect() -> TcpStream {
    let connected = async {
        loop {
            match TcpStream::connect(ON_LOOPBACK).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    within("a listener", connected).await
}

async fn accept(endpoint: &TcpListener) -> TcpStream {
    within("a connection", endpoint.accept()).await.expect("a connection").0
}

/// Waits until nobody listens.
async fn await_refusal() {
    let refused = async {
        while TcpStream::connect(ON_LOOPBACK).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the end of the listener", refused).await;
}

/// Sends a word each way.
async fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    let mut word = [0; 2];
    client.write_all(b"hi").await.expect("written");
    within("a word", server.read_exact(&mut word)).await.expect("a word");
    server.write_all(&word).await.expect("written");
    within("an answer", client.read_exact(&mut word)).await.expect("an answer");
    assert_eq!(&word, b"hi");
}

#[test]
fn a_connection_outlives_its_endpoint_and_its_service() {
    isolated(async || {
        let (mut scene, one, two) = (Scene::start("web"), endpoint(1).await, endpoint(2).await);
        scene.set(Some(&[1]));
        let mut client = connect().await;
        let mut server = accept(&one).await;
        talk(&mut client, &mut server).await;
        scene.await_metric(r#"listeners{ip_family="IPv4"} 1"#).await;
        scene.set(Some(&[2]));
        // The connection to the first endpoint may still come before the change is taken.
        let reaches_two = async {
            loop {
                let _client = connect().await;
                tokio::select! {
                    _ = two.accept() => return,
                    _ = one.accept() => {}
                }
            }
        };
        within("the other endpoint", reaches_two).await;
        talk(&mut client, &mut server).await;
        scene.set(None);
        await_refusal().await;
        scene.await_metric(r#"listeners{ip_family="IPv4"} 0"#).await;
        talk(&mut client, &mut server).await;
        // The port is free at once for another Service.
        scene.set(Some(&[1]));
        connect().await;
    });
}

#[test]
fn a_connection_outlives_the_proxy_in_its_process() {
    isolated(async || {
        let (mut scene, one) = (Scene::start("web"), endpoint(1).await);
        scene.set(Some(&[1]));
        let mut client = connect().await;
        let mut server = accept(&one).await;
        drop(scene);
        await_refusal().await;
        talk(&mut client, &mut server).await;
    });
}

#[test]
fn each_side_ends_by_itself_and_a_break_is_seen_as_one() {
    isolated(async || {
        let (mut scene, one) = (Scene::start("web"), endpoint(1).await);
        scene.set(Some(&[1]));
        let (mut client, mut rest) = (connect().await, Vec::new());
        let mut server = accept(&one).await;
        client.write_all(b"all").await.expect("written");
        client.shutdown().await.expect("half closed");
        within("the client's end", server.read_to_end(&mut rest)).await.expect("an end");
        assert_eq!(rest, b"all");
        server.write_all(b"answer").await.expect("the other half is open");
        drop(server);
        rest.clear();
        within("the server's end", client.read_to_end(&mut rest)).await.expect("an end");
        assert_eq!(rest, b"answer");

        let mut client = connect().await;
        let server = accept(&one).await;
        server.set_zero_linger().expect("a reset");
        drop(server);
        let error = within("the break", client.read(&mut [0])).await.expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_passed_over() {
    isolated(async || {
        let (mut scene, two) = (Scene::start("web"), endpoint(2).await);
        scene.set(Some(&[1, 2]));
        for _ in 0..20 {
            let mut client = connect().await;
            let mut server = accept(&two).await;
            talk(&mut client, &mut server).await;
        }
        // With nobody left the client sees a reset, as it would from the endpoint.
        drop(two);
        let mut client = connect().await;
        let error = within("the break", client.read(&mut [0])).await.expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_endpoint_that_is_silent_is_passed_over() {
    isolated(async || {
        let rules = "add table ip silent; add chain ip silent input { type filter hook input priority 0; }; \
                     add rule ip silent input ip daddr 10.180.0.1 drop";
        let done = std::process::Command::new("nft").arg(rules).status().expect("nft");
        assert!(done.success(), "endpoint 1 is silent");
        let (mut scene, two) = (Scene::start("web"), endpoint(2).await);
        scene.set(Some(&[1, 2]));
        let mut clients = Vec::new();
        // At the same time: those that begin with endpoint 1 wait for it together.
        for _ in 0..8 {
            clients.push(connect().await);
        }
        for _ in 0..8 {
            accept(&two).await.write_all(b"2").await.expect("written");
        }
        for client in &mut clients {
            let mut word = String::new();
            within("an answer", client.read_to_string(&mut word)).await.expect("an answer");
            assert_eq!(word, "2");
        }
    });
}

#[test]
fn with_affinity_all_connections_go_to_one_endpoint() {
    isolated(async || {
        let (mut scene, one, two) = (Scene::start("sticky-12"), endpoint(1).await, endpoint(2).await);
        scene.port.node_port = Some(3003);
        scene.set(Some(&[1, 2]));
        let mut counts = [0, 0];
        // That one of two is drawn each time by chance: less than 1e-8.
        for _ in 0..30 {
            let _client = connect().await;
            let accepted = async {
                tokio::select! {
                    _ = one.accept() => 0,
                    _ = two.accept() => 1,
                }
            };
            counts[within("a connection", accepted).await] += 1;
        }
        assert!(counts.contains(&30), "{counts:?}");
    });
}

#[test]
fn a_port_that_is_taken_is_a_problem_until_it_is_free() {
    isolated(async || {
        let taken = TcpListener::bind(ON_LOOPBACK).await.expect("the address");
        let (mut scene, one) = (Scene::start("web"), endpoint(1).await);
        assert_eq!(scene.loopback.problems(), []);
        scene.set(Some(&[1]));
        within("the problem", scene.loopback.changed()).await;
        let problems = scene.loopback.problems();
        let text = problems.iter().map(ToString::to_string).collect::<String>();
        for part in ["node port 127.0.0.1:3003 of Service default/web:http cannot be opened", "ss -ltnp sport = 3003"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let served = |scene: &Scene| scene.loopback.state(&scene.port).map(|state| state.served);
        assert_eq!(served(&scene), Some(Served::Unavailable));
        scene.await_metric(r#"listener_creation_failures_total{ip_family="IPv4"} 1"#).await;
        drop(taken);
        // It is tried again without a change.
        within("the end of the problem", scene.loopback.changed()).await;
        assert_eq!((scene.loopback.problems(), served(&scene)), (Vec::new(), Some(Served::Listening)));
        let (mut client, mut end) = (connect().await, accept(&one).await);
        talk(&mut client, &mut end).await;
    });
}

#[test]
fn a_problem_ends_with_its_service() {
    isolated(async || {
        let _taken = TcpListener::bind(ON_LOOPBACK).await.expect("the address");
        let mut scene = Scene::start("web");
        scene.set(Some(&[1]));
        within("the problem", scene.loopback.changed()).await;
        scene.set(None);
        within("the end of the problem", scene.loopback.changed()).await;
        assert_eq!(scene.loopback.problems(), []);
    });
}

#[test]
fn many_node_ports_are_opened_and_one_change_touches_one() {
    isolated(async || {
        let mut scene = Scene::start("web");
        let port = |number: u16| {
            let mut port = service_port("web", Protocol::Tcp);
            port.name = crate::model::PortName::new("default", &format!("web-{number}"), "http", Protocol::Tcp);
            ServicePort { node_port: Some(number), ..port }
        };
        let all = (30_000..32_767).map(|number| (port(number).key(), Some(resolved(port(number), &[1])))).collect();
        scene.loopback.update(&all);
        scene.await_metric(&format!(r#"listeners{{ip_family="IPv4"}} {}"#, all.len())).await;
        let one = [(port(30_500).key(), None)].into();
        let running = scene.loopback.0.as_mut().expect("it runs");
        assert_eq!(running.wanted.update(&one).len(), 1);
        assert_eq!(scene.loopback.problems(), []);
    });
}
