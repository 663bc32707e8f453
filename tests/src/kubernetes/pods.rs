//! Pods that a kubelet runs, and their network namespaces, so that the harness's own packets can go from one to another.

use std::net::{IpAddr, Ipv4Addr, TcpStream};

use dataplane::types::{Family, PerFamily};
use serde_json::{Value, json};

use super::images::CLIENT;
use super::machine::Machine;
use crate::apiserver::ApiServer;
use crate::deadline::seconds;
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// Where a [`client`] serves HTTP.
const CLIENT_PORT: u16 = 8080;

/// Where pods are that name no other place.
pub(super) const PODS: &str = "/api/v1/namespaces/default/pods";

/// A pod of agnhost, bound to this node: it serves HTTP on 8080 until it is deleted.
pub fn client(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "client", "image": CLIENT, "imagePullPolicy": "Never",
                "args": ["netexec", format!("--http-port={CLIENT_PORT}"), "--udp-port=8081"],
            }],
        },
    })
}

/// Fails unless the program of a [`client`] in this namespace accepts connections.
///
/// The kubelet starts the program when the plugin's ADD has returned: from then on the pod must be reachable. The pod's
/// address is visible earlier, in the middle of ADD, when the pod has no default route yet and no answer of the pod leaves.
///
/// # Errors
/// Where the program does not accept a connection yet.
pub fn serves(pod: &Namespace) -> Outcome {
    let connected =
        pod.within(|| TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, CLIENT_PORT).into(), seconds(5)))?;
    connected.map(drop).context("the pod's program accepts no connection")
}

/// A pod that is ready.
#[derive(Debug)]
pub struct RealPod {
    name: String,
    addresses: PerFamily<IpAddr>,
    namespace: Namespace,
}

impl RealPod {
    pub(super) fn await_ready(server: &ApiServer, machine: &Machine, name: &str) -> Outcome<Self> {
        let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        // A kubelet that has lost the API server tries again after up to a minute (client-go: 30 s and as much by chance), and once more
        // where etcd has gone meanwhile.
        let pod = server.await_object(PODS, name, "the pod is ready", seconds(240), |pod| {
            pod["status"]["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(ready))
        })?;
        let mut addresses = PerFamily::none();
        for ip in pod["status"]["podIPs"].as_array().context(format!("the pod has no addresses: {pod}"))? {
            let text = ip["ip"].as_str().unwrap_or_default();
            let address: IpAddr = text.parse().context(format!("read a pod's address {text}"))?;
            *addresses.slot(Family::of(address)) = Some(address);
        }
        let first = addresses.iter().next().map(|(_, address)| *address).context("the pod has no address")?;
        let namespace = machine.pod_namespace(first)?;
        Ok(Self { name: name.to_owned(), addresses, namespace })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses, as the cluster knows them.
    pub fn addresses(&self) -> &PerFamily<IpAddr> {
        &self.addresses
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address of one family.
    ///
    /// # Errors
    /// Where the cluster knows none.
    pub fn address(&self, family: Family) -> Outcome<IpAddr> {
        self.addresses.get(family).copied().context(format!("pod {} has no {family} address", self.name))
    }
}
