//! One Service with several endpoints, for the tests of what goes on over time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netd_tests::daemon::Daemon;
use netd_tests::{Context, Namespace, Outcome, ensure};

use super::ask::{self, Protocol, Servers};
use super::bed::Bed;
use super::cases::Settings;

/// The cluster IP of the Service.
pub(crate) const CLUSTER: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 30, 0, 10), 80);
/// Its node port.
pub(crate) const NODE_PORT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 168, 0, 2), 3010);
/// Both.
pub(crate) const DESTINATIONS: [(Ipv4Addr, u16); 2] = [CLUSTER, NODE_PORT];

/// A client outside.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2));
/// A pod of the node.
pub(crate) const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// Endpoint number `n`; those with an odd number are this node's.
pub(crate) fn endpoint(n: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 180, n % 2, n).into(), 8080)
}

/// A running netd-proxy with the Service and its endpoints.
pub(crate) struct Scene {
    pub(crate) bed: Bed,
    /// By the endpoint's number.
    pub(crate) servers: BTreeMap<u8, Servers>,
    pub(crate) proxy: Option<Daemon>,
    affinity: Option<u32>,
}

impl Scene {
    /// With the endpoints 1 to `count`, and affinity for so many seconds.
    pub(crate) fn start(count: u8, affinity: Option<u32>) -> Outcome<Self> {
        let addresses = (1..=count).map(|n| endpoint(n).ip()).collect();
        let bed = Bed::build(&addresses)?;
        let mut scene = Self { bed, servers: BTreeMap::new(), proxy: None, affinity };
        for n in 1..=count {
            scene.serve(n)?;
        }
        scene.set_endpoints(1..=count)?;
        scene.launch()?;
        Ok(scene)
    }

    /// Starts the server of an endpoint, unless it runs.
    pub(crate) fn serve(&mut self, n: u8) -> Outcome {
        if !self.servers.contains_key(&n) {
            let (namespace, place) = if n % 2 == 1 { (&self.bed.local, "local") } else { (&self.bed.remote, "remote") };
            self.servers.insert(n, Servers::start(&[(namespace, place, endpoint(n), Protocol::Tcp)])?);
        }
        Ok(())
    }

    /// Writes the Service with these endpoints.
    pub(crate) fn set_endpoints(&mut self, numbers: impl IntoIterator<Item = u8>) -> Outcome {
        let affinity = self.affinity.map_or(String::new(), |seconds| {
            format!(
                "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}\n"
            )
        });
        let mut text = service("web", CLUSTER, Some(NODE_PORT.1));
        text.push_str(&affinity);
        text.push_str("---\n");
        text.push_str(&slice("web", numbers));
        self.bed.objects.apply(&text)?;
        self.bed.publish()
    }

    /// Gives cluster IPs these ranges.
    pub(crate) fn set_cluster(&mut self, ranges: &str) -> Outcome {
        self.bed.objects.apply(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: kubernetes}}\nspec: {{cidrs: [{ranges}]}}\n"
        ))?;
        self.bed.publish()?;
        self.await_programmed()
    }

    /// Starts netd-proxy and waits until the last change is in the kernel.
    pub(crate) fn launch(&mut self) -> Outcome {
        self.proxy = Some(self.bed.start(&Settings::default().flags())?);
        self.await_programmed()
    }

    /// Ends netd-proxy, or kills it; `meanwhile` runs before it starts again.
    pub(crate) fn restart(&mut self, crash: bool, meanwhile: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let proxy = self.take_proxy()?;
        if crash {
            proxy.crash()?
        } else {
            proxy.terminate()?
        };
        meanwhile(self)?;
        // Another marker, by which the end of the first run is seen.
        self.bed.publish()?;
        self.launch()
    }

    /// Ends netd-proxy, and starts it with other flags.
    pub(crate) fn relaunch(&mut self, flags: &[String]) -> Outcome {
        self.take_proxy()?.terminate()?;
        // Another marker, by which the end of the first run is seen.
        self.bed.publish()?;
        self.proxy = Some(self.bed.start(flags)?);
        self.await_programmed()
    }

    /// Waits until the last change is in the kernel.
    pub(crate) fn await_programmed(&self) -> Outcome {
        let programmed = self.bed.objects.await_programmed(&self.bed.node);
        programmed.map_err(|failure| failure.with("its log", &self.log()))
    }

    /// What netd-proxy has logged.
    pub(crate) fn log(&self) -> String {
        self.proxy.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// The running netd-proxy, to end it.
    pub(crate) fn take_proxy(&mut self) -> Outcome<Daemon> {
        self.proxy.take().context("netd-proxy does not run")
    }

    /// The endpoints that answer a number of connections, with how many each.
    pub(crate) fn count(
        &self,
        from: IpAddr,
        to: (Ipv4Addr, u16),
        connections: u32,
    ) -> Outcome<BTreeMap<SocketAddr, u32>> {
        let mut counts = BTreeMap::new();
        let namespace = if from == POD { &self.bed.pod } else { &self.bed.client };
        namespace.within(|| -> Outcome {
            for _ in 0..connections {
                *counts.entry(once(from, to)?).or_default() += 1;
            }
            Ok(())
        })??;
        Ok(counts)
    }

    /// Fails unless connections go to all of these endpoints, and to no other one.
    pub(crate) fn reaches(&self, from: IpAddr, to: (Ipv4Addr, u16), numbers: impl IntoIterator<Item = u8>) -> Outcome {
        let wanted: BTreeSet<SocketAddr> = numbers.into_iter().map(endpoint).collect();
        let seen: BTreeSet<SocketAddr> = self.count(from, to, 150)?.into_keys().collect();
        ensure!(seen == wanted, "connections from {from} to {to:?} go to {seen:?}, not to {wanted:?}");
        Ok(())
    }

    /// The words of the kernel's table, sorted, since it lists elements in any order.
    pub(crate) fn words(&self) -> Outcome<Vec<String>> {
        let text = self.bed.node.run("nft list table ip netd-proxy")?;
        let mut words: Vec<String> = text.split([' ', ',', '\n', '\t']).map(str::to_owned).collect();
        words.retain(|word| !word.is_empty());
        words.sort();
        Ok(words)
    }
}

/// The endpoint that answers one connection. To be called in the client's namespace.
pub(crate) fn once(from: IpAddr, to: (Ipv4Addr, u16)) -> Outcome<SocketAddr> {
    let answer = ask::ask(from, to.into(), Protocol::Tcp, ask::PATIENT)?;
    Ok(ask::answered(answer).context(format!("{from} asks {}:{}", to.0, to.1))?.1)
}

/// More addresses of clients outside.
pub(crate) fn clients(namespace: &Namespace) -> Outcome<Vec<IpAddr>> {
    let addresses: Vec<Ipv4Addr> = (10..40).map(|n| Ipv4Addr::new(203, 0, 113, n)).collect();
    let lines = addresses.iter().fold(String::new(), |mut lines, address| {
        let _ = writeln!(lines, "addr replace {address} dev lo");
        lines
    });
    namespace.ip(&lines)?;
    Ok(addresses.into_iter().map(IpAddr::V4).collect())
}

/// A Service of type `NodePort`, or without one.
pub(crate) fn service(name: &str, (address, port): (Ipv4Addr, u16), node_port: Option<u16>) -> String {
    let (kind, node_port) =
        node_port.map_or(("ClusterIP", String::new()), |port| ("NodePort", format!(", nodePort: {port}")));
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: test}}\nspec:\n  type: {kind}\n  clusterIP: \"{address}\"\n  \
         clusterIPs: [\"{address}\"]\n  ipFamilies: [IPv4]\n  ports: [{{protocol: TCP, port: {port}{node_port}}}]\n"
    )
}

/// The endpoints of a Service.
pub(crate) fn slice(name: &str, numbers: impl IntoIterator<Item = u8>) -> String {
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-a, namespace: test, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{name: \"\", protocol: TCP, port: 8080}}]\nendpoints:\n"
    );
    for n in numbers {
        let node = if n % 2 == 1 { "test-node" } else { "node2" };
        let address = endpoint(n).ip();
        let _ = writeln!(text, "  - {{addresses: [\"{address}\"], conditions: {{ready: true}}, nodeName: {node}}}");
    }
    text
}
