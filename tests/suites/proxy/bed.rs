//! A node with netd-proxy, an API server, a pod of the node, and endpoints on another node.
//!
//! ```text
//!   pod 10.244.1.2 ── n1 192.168.1.11 ──┬── n2 .12, with the endpoints 10.244.2.N
//!                                       ├── n3 .13, a client outside
//!                                       └── api .14
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use netd_tests::apiserver::{ApiServer, PROXY_ACCOUNT, node_object};
use netd_tests::daemon::Daemon;
use netd_tests::{
    Context, Fabric, Failure, Namespace, Outcome, Stack, Topology, binaries, ensure, eventually, seconds,
};
use serde_json::{Value, json};

use crate::ask::{self, Answer, Protocol, Servers};

/// The node's address, and another one that it gets.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 21);
/// A pod of the node, and a client outside.
pub(crate) const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 2));
pub(crate) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 13));
/// The Service `web`, and its node port.
pub(crate) const WEB: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 80), 80);
pub(crate) const NODE_PORT: u16 = 30080;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Endpoint number `n`.
pub(crate) fn endpoint(n: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 244, 2, n).into(), 8080)
}

pub(crate) struct Bed {
    pub(crate) pod: Namespace,
    pub(crate) token: String,
    /// They end with this.
    _servers: Servers,
    pub(crate) server: ApiServer,
    pub(crate) fabric: Fabric,
}

impl Bed {
    /// With the Service `web` and its endpoints 1 and 2.
    pub(crate) fn start() -> Outcome<Self> {
        let fabric = Topology::one_segment(Stack::V4).with("api", 1).build()?;
        let (n1, n2) = (fabric.node("n1").namespace(), fabric.node("n2").namespace());
        let pod = Namespace::new("pod")?;
        n1.ip(&format!(
            "link add pod type veth peer name eth0 netns {}\naddr add 10.244.1.1/24 dev pod\naddr add {OTHER}/24 dev eth0\n\
             link set pod up\nroute add 10.244.2.0/24 via 192.168.1.12",
            pod.name()
        ))?;
        n1.sysctl("net/ipv4/ip_forward", "1")?;
        // One refusal after the other to the same client.
        n1.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        pod.ip("addr add 10.244.1.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.244.1.1")?;
        let addresses = (1..=4).fold(String::new(), |mut lines, n| {
            let _ = writeln!(lines, "addr add {} dev lo", endpoint(n).ip());
            lines
        });
        n2.ip(&format!("{addresses}route add 10.244.1.0/24 via {NODE}"))?;
        fabric.node("api").namespace().ip(&format!("route add 10.244.1.0/24 via {NODE}"))?;
        let both = [Protocol::Tcp, Protocol::Udp];
        let wanted: Vec<_> = (1..=4).flat_map(|n| both.map(|protocol| (n2, "n2", endpoint(n), protocol))).collect();
        let servers = Servers::start(&wanted)?;
        let server = ApiServer::start(&fabric, "api", Stack::V4)?;
        let token = server.admit_proxy()?;
        let bed = Self { pod, token, _servers: servers, server, fabric };
        bed.add_objects()?;
        Ok(bed)
    }

    fn add_objects(&self) -> Outcome {
        let mut node = node_object("n1", &["10.244.1.0/24"], &json!({}), 1);
        node["status"]["addresses"] = json!([{ "type": "InternalIP", "address": NODE }]);
        self.server.create("/api/v1/nodes", &node)?;
        let ports = json!([
            { "name": "http", "protocol": "TCP", "port": WEB.1, "targetPort": 8080, "nodePort": NODE_PORT },
            { "name": "words", "protocol": "UDP", "port": WEB.1, "targetPort": 8080, "nodePort": NODE_PORT },
        ]);
        let web = json!({ "metadata": { "name": "web" },
            "spec": { "type": "NodePort", "clusterIP": WEB.0, "ports": ports } });
        self.server.create(SERVICES, &web)?;
        self.server.create(SLICES, &slice("web", &[("http", "TCP"), ("words", "UDP")], 8080, &[1, 2])).map(drop)
    }

    pub(crate) fn node(&self) -> &Namespace {
        self.fabric.node("n1").namespace()
    }

    pub(crate) fn outside(&self) -> &Namespace {
        self.fabric.node("n3").namespace()
    }

    /// Adds a Service with one TCP port and one endpoint.
    pub(crate) fn add_service(&self, name: &str, (address, port): (Ipv4Addr, u16), n: u8) -> Outcome {
        let ports = json!([{ "name": "http", "protocol": "TCP", "port": port }]);
        let service = json!({ "metadata": { "name": name }, "spec": { "clusterIP": address, "ports": ports } });
        self.server.create(SERVICES, &service)?;
        self.server.create(SLICES, &slice(name, &[("http", "TCP")], port, &[n])).map(drop)
    }

    /// Gives `web` these endpoints.
    pub(crate) fn set_endpoints(&self, numbers: &[u8]) -> Outcome {
        self.change_slice(&json!({ "endpoints": endpoints(numbers) }))
    }

    pub(crate) fn change_slice(&self, change: &Value) -> Outcome {
        self.server.patch(&format!("{SLICES}/web"), change).map(drop)
    }

    pub(crate) fn change_service(&self, change: &Value) -> Outcome {
        self.server.patch(&format!("{SERVICES}/web"), change).map(drop)
    }

    pub(crate) fn change_service_status(&self, status: &Value) -> Outcome {
        self.server.patch(&format!("{SERVICES}/web/status"), &json!({ "status": status })).map(drop)
    }

    pub(crate) fn create_service(&self, service: &Value) -> Outcome {
        self.server.create(SERVICES, service).map(drop)
    }

    pub(crate) fn delete_slice(&self) -> Outcome {
        self.server.delete(&format!("{SLICES}/web"))
    }

    pub(crate) fn delete_service(&self) -> Outcome {
        self.server.delete(&format!("{SERVICES}/web"))
    }

    /// A kubeconfig of the manifest's account.
    pub(crate) fn kubeconfig(&self) -> Outcome<PathBuf> {
        self.server.kubeconfig("netd-proxy", &self.token)
    }

    /// `netd-proxy` with these words behind it, to be run on the node.
    pub(crate) fn netd_proxy(&self, words: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(binaries::proxy()?);
        command.arg("--kubeconfig").arg(self.kubeconfig()?);
        command.args(["--hostname-override=n1", "--cluster-cidr=10.244.0.0/16"]).args(words);
        Ok(command)
    }

    /// Starts a program on the node.
    pub(crate) fn launch(&self, command: Command, name: &str) -> Outcome<Daemon> {
        let disk = self.fabric.disk().join(name);
        std::fs::create_dir_all(&disk).context("make a program's folder")?;
        Daemon::launch(self.node(), command, name, &disk)
    }

    /// What a client gets.
    fn once(&self, from: IpAddr, to: SocketAddr, protocol: Protocol, patience: Duration) -> Outcome<Answer> {
        let namespace = match from {
            POD => &self.pod,
            from if from == NODE => self.node(),
            _ => self.outside(),
        };
        namespace.within(|| ask::ask(from, to, protocol, patience))?
    }

    /// Waits until connections go to all of these endpoints and to no other one.
    pub(crate) fn reaches(&self, from: IpAddr, to: (Ipv4Addr, u16), protocol: Protocol, numbers: &[u8]) -> Outcome {
        self.all_go(from, to, protocol, numbers, if from == POD { from } else { NODE.into() })
    }

    /// The same over TCP, where the endpoints see the node's address.
    pub(crate) fn reaches_masqueraded(&self, from: IpAddr, to: (Ipv4Addr, u16), numbers: &[u8]) -> Outcome {
        self.all_go(from, to, Protocol::Tcp, numbers, NODE.into())
    }

    fn all_go(&self, from: IpAddr, to: (Ipv4Addr, u16), protocol: Protocol, numbers: &[u8], shown: IpAddr) -> Outcome {
        let wanted: BTreeSet<SocketAddr> = numbers.iter().copied().map(endpoint).collect();
        let what = format!("connections from {from} to {to:?} go to {wanted:?}");
        eventually(seconds(30), &what, || {
            let seen = self.sees(from, to, protocol, 30)?;
            ensure!(seen.values().all(|client| *client == shown), "clients as the endpoints see them: {seen:?}");
            ensure!(seen.keys().eq(&wanted), "they go to {seen:?}");
            Ok(())
        })
    }

    /// Who answers so many connections, and the client's address as that endpoint saw it last.
    pub(crate) fn sees(
        &self,
        from: IpAddr,
        to: (Ipv4Addr, u16),
        protocol: Protocol,
        count: usize,
    ) -> Outcome<BTreeMap<SocketAddr, IpAddr>> {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let (_, server, client) = ask::answered(self.once(from, to.into(), protocol, ask::PATIENT)?)?;
            seen.insert(server, client);
        }
        Ok(seen)
    }

    /// Waits until a client gets this instead of an endpoint.
    pub(crate) fn gets(&self, from: IpAddr, to: (Ipv4Addr, u16), answer: &Answer) -> Outcome {
        eventually(seconds(30), &format!("{from} gets {answer:?} from {to:?}"), || {
            // A refusal that comes while the kernel still connects counts when the client sends again, after a second.
            let patience = if *answer == Answer::Silence { ask::BRIEF } else { ask::PATIENT };
            let got = self.once(from, to.into(), Protocol::Tcp, patience)?;
            ensure!(got == *answer, "it gets {got:?}");
            Ok(())
        })
    }

    /// Both ways to `web` lead to these endpoints.
    pub(crate) fn serves(&self, numbers: &[u8]) -> Outcome {
        self.reaches(POD, WEB, Protocol::Tcp, numbers)?;
        self.reaches(OUTSIDE, (NODE, NODE_PORT), Protocol::Tcp, numbers)
    }

    /// Nothing beyond the manifest's rights was asked for.
    pub(crate) fn nothing_was_refused(&self) -> Outcome {
        self.server.nothing_was_refused(PROXY_ACCOUNT)
    }

    /// A failure with what the node has.
    pub(crate) fn with_logs(&self, failure: Failure, daemon: &Daemon) -> Failure {
        let table = self.node().run("nft list tables").unwrap_or_else(|failure| failure.to_string());
        failure.with("netd-proxy", &daemon.log()).with("the tables", &table)
    }
}

fn endpoints(numbers: &[u8]) -> Value {
    let endpoint = |n: &u8| json!({ "addresses": [endpoint(*n).ip()], "nodeName": "n2", "conditions": {} });
    numbers.iter().map(endpoint).collect()
}

fn slice(service: &str, ports: &[(&str, &str)], port: u16, numbers: &[u8]) -> Value {
    let port = |(name, protocol): &(&str, &str)| json!({ "name": *name, "protocol": *protocol, "port": port });
    json!({
        "metadata": { "name": service, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": ports.iter().map(port).collect::<Vec<_>>(),
        "endpoints": endpoints(numbers),
    })
}
