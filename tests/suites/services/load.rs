//! Connections that go on while netd-proxy ends, starts and changes the table: none may fail.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use netd_tests::repeated::{self, Repeated};
use netd_tests::{Context, Outcome, ensure, eventually, seconds};

use super::ask::{self, Answer, Protocol};
use super::objects::MARKER;
use super::scene::{self, CLIENT, CLUSTER, NODE_PORT, POD, Scene, once};

/// Where words are sent back.
const ECHO: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 30, 0, 11), 7);

/// New connections from a pod and from outside, to the cluster IP and to the node port, and one that is kept.
struct Load(Vec<Repeated>);

impl Load {
    fn start(scene: &Scene) -> Outcome<Self> {
        let new = |namespace, from: IpAddr| {
            Repeated::start(namespace, move || {
                for to in [CLUSTER, NODE_PORT] {
                    once(from, to)?;
                }
                Ok(())
            })
        };
        let kept = scene
            .bed
            .client
            .within(|| TcpStream::connect_timeout(&SocketAddr::from(ECHO), ask::PATIENT))?
            .context("connect to the echo Service")?;
        let kept = Repeated::over(&scene.bed.client, kept, ask::PATIENT)?;
        Ok(Self(vec![new(&scene.bed.client, CLIENT), new(&scene.bed.pod, POD), kept]))
    }

    /// Waits until all connections of before are over and new ones have been made.
    fn goes_on(&self) -> Outcome {
        repeated::go_on(&self.0)
    }

    fn unharmed(self) -> Outcome {
        repeated::unharmed(self.0)
    }
}

/// A scene with a Service that sends words back.
fn with_echo(count: u8) -> Outcome<Scene> {
    let mut scene = Scene::start(count, None)?;
    let echoed = SocketAddr::new(scene::endpoint(1).ip(), 7);
    repeated::echo(&scene.bed.local, echoed)?;
    let slice = scene::slice("echo", [1]).replace("port: 8080", "port: 7");
    scene.bed.objects.apply(&format!("{}---\n{slice}", scene::service("echo", ECHO, None)))?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    Ok(scene)
}

/// `nft monitor` in a namespace.
struct Monitor {
    child: Child,
    said: std::path::PathBuf,
}

impl Monitor {
    fn start(scene: &Scene) -> Outcome<Self> {
        let said = scene.bed.disk.path().join("monitor");
        let file = std::fs::File::create(&said).context("make a file for nft monitor")?;
        let mut command = Command::new("nft");
        command.arg("monitor").stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
        let monitor = Self { child: scene.bed.node.spawn(&mut command)?, said };
        eventually(seconds(20), "nft monitor begins", || {
            scene.bed.node.run("nft add table ip probe")?;
            scene.bed.node.run("nft delete table ip probe")?;
            ensure!(monitor.text()?.contains("probe"), "it says nothing");
            Ok(())
        })?;
        Ok(monitor)
    }

    fn text(&self) -> Outcome<String> {
        std::fs::read_to_string(&self.said).context("read what nft monitor said")
    }

    /// The changes up to now, but for those of the marker.
    fn changes(&self, scene: &Scene) -> Outcome<Vec<String>> {
        scene.bed.node.run("nft add table ip last")?;
        let text = eventually(seconds(20), "nft monitor says all", || {
            let text = self.text()?;
            ensure!(text.contains("table ip last"), "it has said {text}");
            Ok(text)
        })?;
        let is_ours = |line: &&str| {
            !line.trim().is_empty()
                && !line.starts_with('#')
                && !["probe", "table ip last", MARKER].iter().any(|word| line.contains(word))
        };
        Ok(text.lines().filter(is_ours).map(str::to_owned).collect())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// netd-proxy ends, killed or not, and starts again: no connection fails, and nothing is written but what has changed meanwhile.
pub(crate) fn restarts(crash: bool) -> Outcome {
    let mut scene = with_echo(3)?;
    let load = Load::start(&scene)?;
    load.goes_on()?;
    let monitor = Monitor::start(&scene)?;
    for _ in 0..3 {
        scene.restart(crash, |_| load.goes_on())?;
        load.goes_on()?;
    }
    let changes = monitor.changes(&scene)?;
    ensure!(changes.is_empty(), "the restarts have written: {changes:?}");
    ensure!(monitor.text()?.contains(MARKER), "nft monitor has not seen the markers");
    load.unharmed()
}

/// Endpoints come and go. Each ends once the table does not have it.
pub(crate) fn endpoints_change() -> Outcome {
    let mut scene = with_echo(4)?;
    let load = Load::start(&scene)?;
    for numbers in [&[1, 2, 4][..], &[1, 2], &[2], &[2, 3], &[4, 3, 1], &[1], &[1, 2, 3, 4], &[3]] {
        load.goes_on()?;
        for n in numbers {
            scene.serve(*n)?;
        }
        scene.set_endpoints(numbers.iter().copied())?;
        scene.await_programmed()?;
        load.goes_on()?;
        // Whatever goes elsewhere is refused from now on.
        scene.servers.retain(|n, _| numbers.contains(n));
        scene.reaches(CLIENT, CLUSTER, numbers.iter().copied())?;
    }
    load.unharmed()
}

/// The cluster gets more ranges of cluster IPs and has fewer again.
pub(crate) fn settings_change() -> Outcome {
    let mut scene = with_echo(3)?;
    let load = Load::start(&scene)?;
    let unused = (Ipv4Addr::new(172, 31, 0, 1), 80);
    for _ in 0..3 {
        for (ranges, patience, expected) in [
            ("172.30.0.0/16, 172.31.0.0/16", ask::BRIEF, Answer::Silence),
            // The world has the address and no server there.
            ("172.30.0.0/16", ask::PATIENT, Answer::Refused),
        ] {
            scene.set_cluster(ranges)?;
            let ask = || ask::ask(CLIENT, unused.into(), Protocol::Tcp, patience);
            let answer = scene.bed.client.within(ask)??;
            ensure!(answer == expected, "with the ranges {ranges}, {unused:?} answers with {answer:?}");
            load.goes_on()?;
        }
    }
    load.unharmed()
}

/// Endpoints move from one slice to another. The slice that they leave comes first by name in one half of the moves, and last in the other.
pub(crate) fn endpoints_move() -> Outcome {
    let mut scene = with_echo(2)?;
    let load = Load::start(&scene)?;
    for _ in 0..5 {
        for [a, b] in [[&[][..], &[1, 2]], [&[1, 2], &[]], [&[2], &[1]], [&[1], &[2]], [&[1, 2], &[]]] {
            let other = scene::slice("web", b.iter().copied()).replace("web-a", "web-b");
            scene.bed.objects.apply(&format!("{}---\n{other}", scene::slice("web", a.iter().copied())))?;
            scene.bed.publish()?;
            scene.await_programmed()?;
            load.goes_on()?;
        }
    }
    scene.reaches(CLIENT, CLUSTER, 1..=2)?;
    load.unharmed()
}

/// A connection goes on where its endpoint leaves the Service, and where the Service goes. New ones go elsewhere.
pub(crate) fn connections_stay() -> Outcome {
    let mut scene = with_echo(2)?;
    let elsewhere = SocketAddr::new(scene::endpoint(2).ip(), ECHO.1);
    let _server = ask::Servers::start(&[(&scene.bed.remote, "remote", elsewhere, Protocol::Tcp)])?;
    let load = Load::start(&scene)?;
    load.goes_on()?;
    scene.bed.objects.apply(&scene::slice("echo", [2]).replace("port: 8080", "port: 7"))?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    for _ in 0..20 {
        let reached = scene.bed.client.within(|| once(CLIENT, ECHO))??;
        ensure!(reached == elsewhere, "{reached} has left the Service and gets new connections");
    }
    load.goes_on()?;
    scene.bed.objects.delete("EndpointSlice", "test/echo-a")?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    let answer = scene.bed.client.within(|| ask::ask(CLIENT, ECHO.into(), Protocol::Tcp, ask::PATIENT))??;
    ensure!(answer == Answer::Refused, "a Service without endpoints answers a new connection with {answer:?}");
    load.goes_on()?;
    scene.bed.objects.delete("Service", "test/echo")?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    load.unharmed()
}

/// Many Services come at once and go at once: the whole table is compared then, and the other Services are served.
pub(crate) fn many_change_at_once() -> Outcome {
    let mut scene = with_echo(3)?;
    let load = Load::start(&scene)?;
    let address = |n: u16| Ipv4Addr::from_bits(Ipv4Addr::new(172, 30, 100, 0).to_bits() + u32::from(n));
    for (numbers, gone) in [(0..700, 0..0), (700..1500, 0..700), (0..0, 700..1500)] {
        for n in gone.clone() {
            scene.bed.objects.delete("Service", &format!("test/many-{n}"))?;
            scene.bed.objects.delete("EndpointSlice", &format!("test/many-{n}-a"))?;
        }
        for n in numbers.clone() {
            let name = format!("many-{n}");
            let slice = scene::slice(&name, 1..=2);
            scene.bed.objects.apply(&format!("{}---\n{slice}", scene::service(&name, (address(n), 80), None)))?;
        }
        scene.bed.publish()?;
        scene.await_programmed()?;
        load.goes_on()?;
        let elements = scene.bed.node.run("nft list set ip netd-proxy cluster-ips")?;
        let count = elements.matches("172.30.1").count();
        // The addresses of the two Services of the scene do not begin so.
        ensure!(count == numbers.len(), "of {} Services {count} are in the kernel", numbers.len());
        if let Some(last) = numbers.last() {
            scene.reaches(POD, (address(last), 80), 1..=2)?;
        }
        for n in gone.take(2) {
            let answer =
                scene.bed.pod.within(|| ask::ask(POD, (address(n), 80).into(), Protocol::Tcp, ask::BRIEF))??;
            ensure!(answer == Answer::Silence, "a Service that is gone answers with {answer:?}");
        }
    }
    load.unharmed()
}
