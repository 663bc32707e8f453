//! Clients of UDP that keep their port while endpoints come and go.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_tests::{Context, Namespace, Outcome, ensure, eventually, seconds};

use super::ask::{self, Answer, Protocol, Servers};
use super::scene::{self, CLIENT, POD, Scene};

/// A Service of UDP, its node port, and a Service with `internalTrafficPolicy: Local`, which has the same endpoints.
const WORDS: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 30, 0, 53), 53);
const NODE_PORT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 168, 0, 2), 3053);
const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 30, 0, 54), 53);
/// The node's own address.
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2));
/// How many endpoints there are: 1 and 3 are this node's.
const COUNT: u8 = 3;

/// A client that keeps its port.
struct Client {
    what: String,
    socket: UdpSocket,
}

impl Client {
    fn open(namespace: &Namespace, from: (IpAddr, u16), to: (Ipv4Addr, u16)) -> Outcome<Self> {
        let open = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            Ok(socket)
        };
        let what = format!("the client {}:{} of {}:{}", from.0, from.1, to.0, to.1);
        let socket = namespace.within(open)?.context(format!("open {what}"))?;
        Ok(Self { what, socket })
    }

    /// One word, and what comes back within a time.
    fn ask(&self, patience: Duration) -> Outcome<Answer> {
        self.socket.set_read_timeout(Some(patience)).context("set a time limit")?;
        // An answer, or a refusal, that came too late for the last word.
        self.socket.set_nonblocking(true).context("receive")?;
        let waits =
            || matches!(self.socket.recv(&mut [0; 200]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        while !waits() {}
        self.socket.set_nonblocking(false).context("receive")?;
        let exchange = || -> std::io::Result<String> {
            self.socket.send(b"?")?;
            let mut words = [0; 200];
            let length = self.socket.recv(&mut words)?;
            Ok(String::from_utf8_lossy(&words[..length]).into_owned())
        };
        match exchange() {
            Ok(words) => ask::read(&words),
            // The node refuses its own packets before they leave.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(Answer::Refused),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(Answer::Refused),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(Answer::Silence),
            Err(error) => Err(error).context(self.what.clone()),
        }
    }

    fn server(&self) -> Outcome<SocketAddr> {
        Ok(ask::answered(self.ask(ask::PATIENT)?).context(self.what.clone())?.1)
    }

    /// Waits until the client is answered by an endpoint, or refused where there is none. No later answer may come from elsewhere.
    fn gets(&self, wanted: Option<u8>) -> Outcome {
        let compare = |patience| {
            let answer = self.ask(patience)?;
            let is_right = match (&answer, wanted) {
                (Answer::From { server, .. }, Some(n)) => *server == scene::endpoint(n),
                (answer, None) => *answer == Answer::Refused,
                _ => false,
            };
            ensure!(is_right, "{} gets {answer:?}, not endpoint {wanted:?}", self.what);
            Ok(())
        };
        eventually(seconds(20), "the client's flow is as the endpoints are", || compare(ask::BRIEF))?;
        (0..5).try_for_each(|_| compare(ask::PATIENT))
    }
}

/// A scene with the two Services and servers at all endpoints.
fn scene() -> Outcome<(Scene, Servers)> {
    let mut scene = Scene::start(COUNT, None)?;
    let servers: Vec<_> = (1..=COUNT)
        .map(|n| {
            let (namespace, place) =
                if n % 2 == 1 { (&scene.bed.local, "local") } else { (&scene.bed.remote, "remote") };
            (namespace, place, scene::endpoint(n), Protocol::Udp)
        })
        .collect();
    let servers = Servers::start(&servers)?;
    let words = scene::service("words", WORDS, Some(NODE_PORT.1));
    let local = scene::service("local-words", LOCAL, None) + "  internalTrafficPolicy: Local\n";
    scene.bed.objects.apply(&format!("{words}---\n{local}").replace("TCP", "UDP"))?;
    Ok((scene, servers))
}

fn set_endpoints(scene: &mut Scene, numbers: &[u8]) -> Outcome {
    for service in ["words", "local-words"] {
        let slice = scene::slice(service, numbers.iter().copied()).replace("TCP", "UDP");
        scene.bed.objects.apply(&slice)?;
    }
    scene.bed.publish()?;
    scene.await_programmed()
}

/// A client is answered by the endpoints of the moment and is refused where there are none, whatever its flow was before.
pub(crate) fn follow_endpoints() -> Outcome {
    let (mut scene, _servers) = scene()?;
    set_endpoints(&mut scene, &[])?;
    let clients = [
        Client::open(&scene.bed.pod, (POD, 4001), WORDS)?,
        Client::open(&scene.bed.client, (CLIENT, 4002), NODE_PORT)?,
        Client::open(&scene.bed.node, (NODE, 4003), WORDS)?,
        Client::open(&scene.bed.node, (NODE, 4004), NODE_PORT)?,
        Client::open(&scene.bed.pod, (POD, 4005), LOCAL)?,
    ];
    for wanted in [None, Some(1), Some(3), None, Some(3), Some(1)] {
        set_endpoints(&mut scene, wanted.as_slice())?;
        for client in &clients {
            client.gets(wanted).map_err(|failure| failure.with("its log", &scene.log()))?;
        }
    }
    Ok(())
}

/// Flows stay with their endpoints where netd-proxy ends, by itself or killed, and starts again, and where another endpoint comes.
pub(crate) fn stay() -> Outcome {
    let (mut scene, _servers) = scene()?;
    set_endpoints(&mut scene, &[1, 2])?;
    let clients: Vec<Client> =
        (5000..5012).map(|port| Client::open(&scene.bed.pod, (POD, port), WORDS)).collect::<Outcome<_>>()?;
    let answering = || clients.iter().map(Client::server).collect::<Outcome<Vec<_>>>();
    let before = answering()?;
    for crash in [false, true] {
        scene.restart(crash, |_| Ok(()))?;
        ensure!(answering()? == before, "flows moved by a restart");
    }
    set_endpoints(&mut scene, &[1, 2, 3])?;
    ensure!(answering()? == before, "flows moved by another endpoint");
    Ok(())
}

/// A client of a Service that is deleted while netd-proxy does not run: it goes on sending, and has no answer once netd-proxy runs again.
pub(crate) fn end_with_their_service() -> Outcome {
    let (mut scene, _servers) = scene()?;
    set_endpoints(&mut scene, &[1])?;
    let client = Client::open(&scene.bed.pod, (POD, 4006), WORDS)?;
    client.gets(Some(1))?;
    scene.restart(true, |scene| {
        ensure!(client.server()? == scene::endpoint(1), "the kernel does not serve without netd-proxy");
        scene.bed.objects.delete("Service", "test/words")?;
        scene.bed.objects.delete("EndpointSlice", "test/words-a")
    })?;
    eventually(seconds(20), "the client's flow is deleted", || {
        let answer = client.ask(ask::BRIEF)?;
        ensure!(!matches!(answer, Answer::From { .. }), "the client gets {answer:?}");
        Ok(())
    })
}
