//! The cases of `proxy/cases`, with packets. Those of SCTP are left to the tracer where the kernel has no such sockets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use netd_tests::daemon::Daemon;
use netd_tests::{Context, Namespace, Outcome, ensure, eventually, fail, seconds};

use super::ask::{self, Answer, Protocol, Servers};
use super::bed::{Bed, TOWARDS_LOCAL, TOWARDS_REMOTE};

/// After so many connections each of a few endpoints has been drawn: the chance that one of three has not is below 1e-30.
const MOST: usize = 200;
/// So many connections at least, so that an endpoint which must not be drawn would be.
const LEAST: usize = 20;

/// What netd-proxy is started with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    local_pods: Option<String>,
    node_ports: String,
    masquerade_all: bool,
    loopback: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let local_pods = Some("10.0.0.0/8,fd00:10::/32".to_owned());
        Self { local_pods, node_ports: "primary".to_owned(), masquerade_all: false, loopback: false }
    }
}

impl Settings {
    /// With node ports on loopback.
    pub(crate) fn with_loopback() -> Self {
        Self { loopback: true, ..Self::default() }
    }

    /// As flags.
    pub(crate) fn flags(&self) -> Vec<String> {
        let loopback = if self.loopback { ",localhost" } else { "" };
        let mut flags = vec![format!("--nodeport-addresses={}{loopback}", self.node_ports)];
        flags.extend(self.local_pods.iter().map(|ranges| format!("--cluster-cidr={ranges}")));
        flags.push(format!("--masquerade-all={}", self.masquerade_all));
        flags
    }

    fn set(&mut self, name: &str, values: &[&str]) -> Outcome {
        match (name, values) {
            ("local-pods", ["none"]) => self.local_pods = None,
            ("local-pods", [range]) => self.local_pods = Some((*range).to_owned()),
            ("loopback", [value]) => self.loopback = *value == "true",
            ("masquerade-all", [value]) => self.masquerade_all = *value == "true",
            ("node-ports", ["all"]) => "all".clone_into(&mut self.node_ports),
            ("node-ports", addresses) => {
                let of_one = |address: &&str| format!("{address}/{}", if address.contains(':') { 128 } else { 32 });
                self.node_ports = addresses.iter().map(of_one).collect::<Vec<_>>().join(",");
            }
            other => fail!("there is no setting {other:?}"),
        }
        Ok(())
    }
}

/// One packet, and what is to become of it.
#[derive(Debug, Clone)]
struct Case {
    source: String,
    destination: SocketAddr,
    /// `None` for SCTP.
    protocol: Option<Protocol>,
    expected: Vec<String>,
}

impl Case {
    fn read(source: &str, destination: &str, expected: &[&str]) -> Outcome<Self> {
        let (destination, protocol) = destination.split_once('/').context("a case has no protocol")?;
        let protocol = match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        let expected = expected.iter().map(|word| (*word).to_owned()).collect();
        Ok(Self { source: source.to_owned(), destination: socket_address(destination)?, protocol, expected })
    }

    /// Whether netd-proxy itself listens decides.
    fn is_of_listener(&self) -> bool {
        self.expected.last().is_some_and(|last| ["listener", "closed"].contains(&last.as_str()))
    }

    /// The endpoints that the case names.
    fn endpoints(&self) -> BTreeSet<SocketAddr> {
        self.expected.iter().filter_map(|word| word.parse().ok()).collect()
    }
}

fn address(name: &str) -> Outcome<IpAddr> {
    let text = match name {
        "P" => "10.0.0.2",
        "N" => "192.168.0.2",
        "N2" => "192.168.1.2",
        "X" => "203.0.113.2",
        "XB" => "203.0.113.130",
        "N6" => "2001:db8::1",
        "N26" => "2001:db8:1::2",
        "X6" => "2600:5200::1",
        other => other,
    };
    text.parse().context(format!("read the address {name}"))
}

fn socket_address(text: &str) -> Outcome<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (name, port) = text.rsplit_once(':').context(format!("{text} has no port"))?;
    Ok(SocketAddr::new(address(name)?, port.parse().context(format!("read the port of {text}"))?))
}

/// The file of this name in `proxy/cases`.
pub(crate) fn file(name: &str) -> Outcome<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy/cases").join(name);
    std::fs::read_to_string(&path).context(format!("read {}", path.display()))
}

/// Sends the packets of one file of cases.
pub(crate) fn run(name: &str) -> Outcome {
    let text = file(name)?;
    let mut cases = Vec::new();
    for line in text.lines() {
        if let [_, source, "->", destination, "=>", expected @ ..] = words(line).as_slice() {
            cases.push(Case::read(source, destination, expected)?);
        }
    }
    let endpoints: BTreeSet<IpAddr> = cases.iter().flat_map(Case::endpoints).map(|endpoint| endpoint.ip()).collect();
    let mut world = World { bed: Bed::build(&endpoints)?, settings: Settings::default(), proxy: None, is_stale: true };
    let _servers = world.serve(&cases)?;
    let (mut cases, mut faults) = (cases.iter(), Vec::new());
    for line in text.lines() {
        match words(line).as_slice() {
            ["apply", name] => world.bed.objects.apply(&file(name)?)?,
            ["delete", kind, name] => world.bed.objects.delete(kind, name)?,
            ["set", name, values @ ..] => {
                world.settings.set(name, values)?;
                world.proxy = None;
            }
            _ => {
                let case = cases.next().context(format!("no such line: {line}"))?;
                world.settle()?;
                if let Err(failure) = world.send(case) {
                    faults.push(format!("{line}\n    {failure}"));
                }
                continue;
            }
        }
        world.is_stale = true;
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The bed as the lines so far have made it.
struct World {
    bed: Bed,
    settings: Settings,
    proxy: Option<Daemon>,
    /// True where the kernel does not have it yet.
    is_stale: bool,
}

impl World {
    /// Endpoints wherever they may be; and at each destination itself somebody who answers where nothing is done to packets.
    fn serve(&self, cases: &[Case]) -> Outcome<Servers> {
        let (mut servers, bed) = (BTreeSet::new(), &self.bed);
        for case in cases {
            let Some(protocol) = case.protocol else { continue };
            for place in ["local", "remote"] {
                servers.extend(case.endpoints().into_iter().map(|endpoint| (place, endpoint, protocol)));
            }
            if case.is_of_listener() {
                continue;
            }
            let ip = case.destination.ip();
            let own = ["N", "N2", "N6", "N26", "127.0.0.1", "::1"].map(address);
            let place = if own.contains(&Ok(ip)) { "node" } else { "world" };
            servers.insert((place, case.destination, protocol));
        }
        let namespace = |place| match place {
            "local" => &bed.local,
            "remote" => &bed.remote,
            "node" => &bed.node,
            _ => &bed.world,
        };
        let servers: Vec<_> = servers
            .into_iter()
            .map(|(place, address, protocol)| (namespace(place), place, address, protocol))
            .collect();
        Servers::start(&servers)
    }

    /// Waits until the kernel has the last change.
    fn settle(&mut self) -> Outcome {
        if !std::mem::take(&mut self.is_stale) {
            return Ok(());
        }
        self.bed.publish()?;
        if self.proxy.is_none() {
            self.proxy = Some(self.bed.start(&self.settings.flags())?);
        }
        let log = || self.proxy.as_ref().map(Daemon::log).unwrap_or_default();
        self.bed.objects.await_programmed(&self.bed.node).map_err(|failure| failure.with("its log", &log()))
    }

    fn source(&self, name: &str) -> &Namespace {
        match name {
            "P" => &self.bed.pod,
            "X" | "XB" | "X6" => &self.bed.client,
            "N" | "N6" => &self.bed.node,
            name if name.starts_with("10.180.") => &self.bed.local,
            // The node itself, from an address of a load balancer.
            _ => &self.bed.node,
        }
    }

    fn send(&self, case: &Case) -> Outcome {
        let Some(protocol) = case.protocol else { return Ok(()) };
        let (namespace, source) = (self.source(&case.source), address(&case.source)?);
        let is_foreign = source == case.destination.ip();
        if is_foreign {
            namespace.ip(&format!("addr add {source} dev lo"))?;
        }
        let sent = namespace.within(|| self.compare(case, source, protocol))?;
        if is_foreign {
            namespace.ip(&format!("addr del {source} dev lo"))?;
        }
        sent
    }

    /// Sends from the namespace of the calling thread. Listeners follow the table.
    fn compare(&self, case: &Case, source: IpAddr, protocol: Protocol) -> Outcome {
        let once = || self.compare_once(case, source, protocol);
        if case.is_of_listener() { eventually(seconds(20), "the listener is as it should be", once) } else { once() }
    }

    fn compare_once(&self, case: &Case, source: IpAddr, protocol: Protocol) -> Outcome {
        let expected: Vec<&str> = case.expected.iter().map(String::as_str).collect();
        let ask = |patience| ask::ask(source, case.destination, protocol, patience);
        match expected.as_slice() {
            ["reject" | "closed"] => {
                let answer = ask(ask::PATIENT)?;
                ensure!(answer == Answer::Refused, "{answer:?}");
            }
            ["drop"] => {
                let answer = ask(ask::BRIEF)?;
                ensure!(answer == Answer::Silence, "{answer:?}");
            }
            ["untouched"] => {
                let (place, server, client) = ask::answered(ask(ask::PATIENT)?)?;
                let is_endpoint = place == "local" || place == "remote";
                ensure!(
                    !is_endpoint && server == case.destination && client == source,
                    "{place} {server} saw {client}"
                );
            }
            _ => {
                let wanted = case.endpoints();
                let mut seen = BTreeSet::new();
                for count in 0..MOST {
                    if count >= LEAST && seen.len() == wanted.len() {
                        break;
                    }
                    let (place, server, client) = ask::answered(ask(ask::PATIENT)?)?;
                    ensure!(wanted.contains(&server), "{server} answered, which is none of {wanted:?}");
                    self.compare_source(&place, server, client, source, expected.last() == Some(&"keep"))?;
                    seen.insert(server);
                }
                ensure!(seen == wanted, "of {MOST} connections all went to {seen:?}");
            }
        }
        Ok(())
    }

    fn compare_source(&self, place: &str, server: SocketAddr, client: IpAddr, source: IpAddr, keeps: bool) -> Outcome {
        let is_local = self.bed.objects.endpoints().any(|(address, local)| local && server.ip().to_string() == address);
        let (wanted_place, own) = if is_local { ("local", TOWARDS_LOCAL) } else { ("remote", TOWARDS_REMOTE) };
        ensure!(place == wanted_place, "{server} answered in {place}");
        let wanted = if keeps { source } else { address(own[usize::from(server.is_ipv6())])? };
        ensure!(client == wanted, "{server} saw {client}, not {wanted}");
        Ok(())
    }
}
