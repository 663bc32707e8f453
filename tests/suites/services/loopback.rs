//! Node ports on loopback: what the node itself reaches there, and nobody else. What one packet becomes is in `proxy/cases/loopback.cases`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use netd_tests::repeated::{self, Repeated};
use netd_tests::{Context, Outcome, binaries, ensure, eventually, seconds};

use super::ask::{self, Answer, Protocol, Servers};
use super::cases::Settings;
use super::scene::{self, CLIENT, NODE_PORT, Scene};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The node port of the scene's Service.
const PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, NODE_PORT.1);
/// A Service of UDP.
const WORDS: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 30, 0, 53), 53);
const WORDS_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3053);
/// A Service that sends words back.
const ECHO: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 30, 0, 11), 7);
const ECHO_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3007);

/// With node ports on loopback.
fn start(count: u8) -> Outcome<Scene> {
    let mut scene = Scene::start(count, None)?;
    scene.relaunch(&Settings::with_loopback().flags())?;
    Ok(scene)
}

fn ask(scene: &Scene, to: (Ipv4Addr, u16), protocol: Protocol) -> Outcome<Answer> {
    scene.bed.node.within(|| ask::ask(LOOPBACK, to.into(), protocol, ask::PATIENT))?
}

/// Waits until connections of the node go to all of these endpoints, and to no other one.
fn reaches(scene: &Scene, to: (Ipv4Addr, u16), numbers: impl IntoIterator<Item = u8>) -> Outcome {
    let wanted: BTreeSet<SocketAddr> = numbers.into_iter().map(scene::endpoint).collect();
    let reached = eventually(seconds(20), &format!("connections to {to:?} go to {wanted:?}"), || {
        let seen = scene.bed.node.within(|| (0..100).map(|_| scene::once(LOOPBACK, to)).collect::<Outcome<_>>())?;
        let seen: BTreeSet<SocketAddr> = seen?;
        ensure!(seen == wanted, "they go to {seen:?}");
        Ok(())
    });
    reached.map_err(|failure| failure.with("its log", &scene.log()))
}

/// Adds a Service of UDP with a node port.
fn add_words(scene: &mut Scene) -> Outcome {
    let udp = |text: String| text.replace("TCP", "UDP");
    let service = udp(scene::service("words", WORDS, Some(WORDS_PORT.1)));
    scene.bed.objects.apply(&format!("{service}---\n{}", udp(scene::slice("words", [1]))))?;
    scene.bed.publish()?;
    scene.await_programmed()
}

/// Waits until `/metrics` has a line.
fn metric(scene: &Scene, line: &str) -> Outcome {
    let line = format!("kubeproxy_nftables_localhost_nodeport_{line}");
    eventually(seconds(20), &line, || {
        let text = scene.bed.node.run("curl --silent --fail --max-time 10 http://127.0.0.1:10249/metrics")?;
        ensure!(text.lines().any(|known| known == line), "it is not in {text}");
        Ok(())
    })
}

/// What `netd-proxy` prints with these arguments.
fn run(scene: &Scene, arguments: &[&str]) -> Outcome<String> {
    let output = scene.bed.node.output(Command::new(binaries::proxy()?).args(arguments))?;
    netd_tests::namespace::printed(&format!("netd-proxy {arguments:?}"), &output)
}

/// `/metrics` has kube-proxy's names. UDP is rejected, and each packet counts: neither a change nor a restart counts anew.
pub(crate) fn is_counted() -> Outcome {
    let mut scene = Scene::start(2, None)?;
    let mut flags = Settings::with_loopback().flags();
    flags.extend(["--metrics-bind-address=127.0.0.1:10249", "--healthz-bind-address="].map(str::to_owned));
    scene.relaunch(&flags)?;
    add_words(&mut scene)?;
    metric(&scene, r#"listeners{ip_family="IPv4"} 1"#)?;
    metric(&scene, r#"listeners{ip_family="IPv6"} 0"#)?;
    metric(&scene, r#"listener_creation_failures_total{ip_family="IPv4"} 0"#)?;
    metric(&scene, r#"rejected_packets_total{ip_family="IPv4",protocol="UDP"} 0"#)?;
    for count in 1..=3 {
        let answer = ask(&scene, WORDS_PORT, Protocol::Udp)?;
        ensure!(answer == Answer::Refused, "UDP on loopback gets {answer:?}");
        metric(&scene, &format!(r#"rejected_packets_total{{ip_family="IPv4",protocol="UDP"}} {count}"#))?;
    }
    metric(&scene, r#"rejected_packets_total{ip_family="IPv4",protocol="SCTP"} 0"#)?;
    metric(&scene, r#"rejected_packets_total{ip_family="IPv6",protocol="UDP"} 0"#)?;
    scene.set_endpoints([])?;
    scene.await_programmed()?;
    metric(&scene, r#"listeners{ip_family="IPv4"} 0"#)?;
    scene.relaunch(&flags)?;
    metric(&scene, r#"rejected_packets_total{ip_family="IPv4",protocol="UDP"} 3"#)?;
    scene.bed.node.run("nft delete element ip netd-proxy rejected-on-loopback { udp }")?;
    eventually(seconds(20), "the kernel rejects UDP again", || {
        let text = scene.bed.node.run("nft list set ip netd-proxy rejected-on-loopback")?;
        ensure!(text.contains("udp counter"), "{text}");
        Ok(())
    })
}

/// `netd-proxy services` and `netd-proxy trace` say what becomes of connections to loopback.
pub(crate) fn is_seen() -> Outcome {
    let mut scene = start(2)?;
    add_words(&mut scene)?;
    reaches(&scene, PORT, 1..=2)?;
    let table = run(&scene, &["services"])?;
    for line in [
        "    127.0.0.1:3010  is passed on by the proxy",
        "    127.0.0.1:3053  is rejected: loopback has node ports of TCP alone",
    ] {
        ensure!(table.lines().any(|known| known == line), "{line:?} is not in\n{table}");
    }
    let json: serde_json::Value = serde_json::from_str(&run(&scene, &["services", "-ojson"])?).context("read JSON")?;
    let of_web = json["services"].as_array().and_then(|ports| ports.iter().find(|port| port["service"] == "test/web"));
    let shown = of_web.map(|port| port["loopback"].clone());
    ensure!(shown == Some(serde_json::json!({ "address": "127.0.0.1:3010", "served": "Listening" })), "{json:#}");
    let trace = |scene: &Scene, destination| run(scene, &["trace", "127.0.0.1", destination]);
    let (tcp, udp) = (trace(&scene, "127.0.0.1:3010")?, trace(&scene, "127.0.0.1:3053/udp")?);
    let said = "goes to 127.0.0.1:3010, where the proxy listens and passes connections on to an endpoint of test/web\n";
    ensure!(tcp.contains(said), "trace says {tcp}");
    ensure!(udp.contains("is rejected\n") && udp.contains("@rejected-on-loopback"), "trace says {udp}");
    scene.set_endpoints([])?;
    scene.await_programmed()?;
    eventually(seconds(20), "nobody listens", || {
        let (answer, table) = (ask(&scene, PORT, Protocol::Tcp)?, run(&scene, &["services"])?);
        let said = table.contains("127.0.0.1:3010  is refused: no endpoint takes part\n");
        ensure!(answer == Answer::Refused && said, "{answer:?}\n{table}");
        Ok(())
    })?;
    let refused = trace(&scene, "127.0.0.1:3010")?;
    ensure!(refused.contains("where nobody listens: no endpoint of test/web takes part\n"), "trace says {refused}");
    scene.relaunch(&Settings::default().flags())?;
    let absent = trace(&scene, "127.0.0.1:3010")?;
    ensure!(absent.contains("not on loopback unless nodePortAddresses has localhost\n"), "trace says {absent}");
    Ok(())
}

/// A connection goes on while its Service gets other endpoints, other Services come and go, and its own Service goes. New ones never fail.
pub(crate) fn stays() -> Outcome {
    let mut scene = start(4)?;
    let echoed = SocketAddr::new(scene::endpoint(1).ip(), 7);
    repeated::echo(&scene.bed.local, echoed)?;
    let elsewhere = SocketAddr::new(scene::endpoint(2).ip(), 7);
    let _server = Servers::start(&[(&scene.bed.remote, "remote", elsewhere, Protocol::Tcp)])?;
    let to_echo = |numbers: &[u8]| scene::slice("echo", numbers.iter().copied()).replace("port: 8080", "port: 7");
    let service = scene::service("echo", ECHO, Some(ECHO_PORT.1));
    scene.bed.objects.apply(&format!("{service}---\n{}", to_echo(&[1])))?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    let kept = eventually(seconds(20), "the echo Service is there", || {
        let connected = scene.bed.node.within(|| TcpStream::connect_timeout(&ECHO_PORT.into(), ask::PATIENT))?;
        connected.context("connect to the echo Service")
    })?;
    let kept = Repeated::over(&scene.bed.node, kept, ask::PATIENT)?;
    reaches(&scene, PORT, 1..=4)?;
    let new = Repeated::start(&scene.bed.node, || scene::once(LOOPBACK, PORT).map(drop));
    let load = vec![kept, new];
    repeated::go_on(&load)?;
    for numbers in [&[1, 2][..], &[3], &[2, 3, 4], &[1, 2, 3, 4]] {
        scene.set_endpoints(numbers.iter().copied())?;
        add_words(&mut scene)?;
        reaches(&scene, PORT, numbers.iter().copied())?;
        repeated::go_on(&load)?;
        for (kind, name) in [("Service", "test/words"), ("EndpointSlice", "test/words-a")] {
            scene.bed.objects.delete(kind, name)?;
        }
        scene.bed.publish()?;
        scene.await_programmed()?;
        repeated::go_on(&load)?;
    }
    scene.bed.objects.apply(&to_echo(&[2]))?;
    scene.bed.publish()?;
    eventually(seconds(20), "new connections go to the other endpoint", || {
        let reached = scene.bed.node.within(|| scene::once(LOOPBACK, ECHO_PORT))??;
        ensure!(reached == elsewhere, "{reached} has left the Service");
        Ok(())
    })?;
    repeated::go_on(&load)?;
    scene.bed.objects.delete("Service", "test/echo")?;
    scene.bed.publish()?;
    eventually(seconds(20), "nobody listens", || {
        let answer = ask(&scene, ECHO_PORT, Protocol::Tcp)?;
        ensure!(answer == Answer::Refused, "a Service that is gone answers {answer:?}");
        Ok(())
    })?;
    repeated::unharmed(load)
}

/// A port that another program has is a problem by name, harms no other Service, and is opened once it is free.
pub(crate) fn is_taken() -> Outcome {
    let mut scene = Scene::start(2, None)?;
    let taken = scene.bed.node.within(|| TcpListener::bind(PORT))?.context("take the port")?;
    let other = (Ipv4Addr::new(172, 30, 0, 12), 80);
    let objects = format!("{}---\n{}", scene::service("other", other, Some(3012)), scene::slice("other", [2]));
    scene.bed.objects.apply(&objects)?;
    scene.relaunch(&Settings::with_loopback().flags())?;
    let proxy = scene.proxy.as_ref().context("netd-proxy does not run")?;
    proxy.await_log("node port 127.0.0.1:3010 of Service test/web cannot be opened", seconds(20))?;
    reaches(&scene, (Ipv4Addr::LOCALHOST, 3012), [2])?;
    scene.reaches(CLIENT, NODE_PORT, 1..=2)?;
    let table = run(&scene, &["services"])?;
    for part in [
        "127.0.0.1:3010  cannot be opened by the proxy\n",
        "\nPROBLEMS\nnode port 127.0.0.1:3010",
        "ss -ltnp sport = 3010",
    ] {
        ensure!(table.contains(part), "{part:?} is not in\n{table}");
    }
    drop(taken);
    proxy.await_log("over: node port 127.0.0.1:3010 of Service test/web", seconds(30))?;
    reaches(&scene, PORT, 1..=2)?;
    let count = proxy.log().matches("127.0.0.1:3010 of Service test/web cannot be opened").count();
    ensure!(count == 2, "the problem and its end are {count} lines:\n{}", proxy.log());
    Ok(())
}

/// Packets from outside to loopback addresses vanish, also where `route_localnet` lets them in (CVE-2020-8558).
pub(crate) fn is_guarded() -> Outcome {
    let mut scene = Scene::start(1, None)?;
    let listening = (Ipv4Addr::LOCALHOST, 7000);
    let listening6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 7000));
    let outside = SocketAddr::from(([192, 168, 8, 2], 7001));
    let (bed, tcp) = (&scene.bed, Protocol::Tcp);
    let _servers = Servers::start(&[
        (&bed.node, "node", listening.into(), tcp),
        (&bed.node, "node", listening6, tcp),
        (&bed.world, "world", outside, tcp),
    ])?;
    // The client has no loopback addresses of its own, and takes answers from the node's.
    bed.client
        .ip("addr del 127.0.0.1/8 dev lo\naddr del ::1/128 dev lo\nroute add 127.0.0.1 via 192.168.0.2 dev eth0\n\
         route add ::1 via 2001:db8::1 dev eth0")?;
    bed.client.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
    let client6: IpAddr = "2600:5200::1".parse().context("an address")?;
    let from_outside = |scene: &Scene, to: SocketAddr, patience| {
        let from = if to.is_ipv4() { CLIENT } else { client6 };
        scene.bed.client.within(|| ask::ask(from, to, tcp, patience))?
    };
    let is_silent = |scene: &Scene, to: SocketAddr| -> Outcome {
        let answer = from_outside(scene, to, ask::BRIEF)?;
        ensure!(answer == Answer::Silence, "from outside {to} gets {answer:?}");
        Ok(())
    };
    let answers = |scene: &Scene, to: SocketAddr| from_outside(scene, to, ask::PATIENT).and_then(ask::answered);
    is_silent(&scene, listening.into())?;
    is_silent(&scene, listening6)?;
    bed.node.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
    // Without the guard the packets arrive.
    answers(&scene, listening.into())?;
    scene.relaunch(&Settings::with_loopback().flags())?;
    reaches(&scene, PORT, [1])?;
    is_silent(&scene, PORT.into())?;
    is_silent(&scene, listening.into())?;
    is_silent(&scene, listening6)?;
    let (_, server, _) = ask::answered(ask(&scene, listening, tcp)?)?;
    ensure!(server == listening.into(), "the node itself reaches {server}");
    // Answers pass, and so does what another program's rules send to a loopback address.
    scene.bed.node.run(
        "nft add table ip other; add chain ip other post { type nat hook postrouting priority 90; }; \
         add rule ip other post ip saddr 127.0.0.0/8 oifname != lo masquerade; \
         add chain ip other pre { type nat hook prerouting priority -90; }; \
         add rule ip other pre tcp dport 7002 dnat to 127.0.0.1:7000",
    )?;
    let (place, ..) = ask::answered(scene.bed.node.within(|| ask::ask(LOOPBACK, outside, tcp, ask::PATIENT))??)?;
    ensure!(place == "world", "{place} answers what was sent from 127.0.0.1");
    let (_, server, _) = answers(&scene, SocketAddr::from(([192, 168, 0, 2], 7002)))?;
    ensure!(server == listening.into(), "a translated connection reaches {server}");
    Ok(())
}
