//! A Service of the API.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::types::{Family, Prefix};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{Converted, Faults, expected_name, ip, is_excluded, is_name, names, port, protocol, range};
use crate::model::{Object, ObjectName, Policy, PortName, Service, ServiceName, ServicePort};

/// The API's default of `timeoutSeconds`, and its highest value.
const AFFINITY: (u64, u64) = (10_800, 86_400);

/// A Service, as the API has it.
#[derive(Debug, Clone, Deserialize, kube_derive::Resource)]
#[resource(inherit = core::Service)]
pub struct ServiceObject {
    #[serde(default, deserialize_with = "apiserver::metadata::slim")]
    pub(in crate::source) metadata: ObjectMeta,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<PortObject>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    external_traffic_policy: Option<String>,
    internal_traffic_policy: Option<String>,
    health_check_node_port: Option<i64>,
    load_balancer_source_ranges: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortObject {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
    node_port: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Clone, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

impl ServiceObject {
    /// Converts the Service. A headless one, one of another proxy and an `ExternalName` are none for this proxy.
    pub fn convert(self) -> Converted {
        let mut faults = Faults::default();
        let (namespace, name) = names(&self.metadata, &mut faults);
        let name = ServiceName { namespace, name };
        let is_usable = faults.0.is_empty() && !is_excluded(&self.metadata);
        let ports = if is_usable { self.ports(&name, &mut faults) } else { Vec::new() };
        let object = (!ports.is_empty()).then(|| Object::Service(Service { name: name.clone(), ports }));
        Converted { name: ObjectName::Service(name), object, faults: faults.0 }
    }

    fn ports(self, name: &ServiceName, faults: &mut Faults) -> Vec<ServicePort> {
        let spec = self.spec.unwrap_or_default();
        let cluster_ips = spec.cluster_ips(faults);
        if cluster_ips.is_empty() {
            return Vec::new();
        }
        let ingress = self.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
        let addresses = Addresses {
            external: addresses("spec.externalIPs", spec.external_ips.as_deref().unwrap_or_default(), faults),
            load_balancer: ingress_ips(&ingress.unwrap_or_default(), faults),
            source_ranges: spec.source_ranges(faults),
        };
        let (external_policy, internal_policy) = spec.policies(faults);
        let affinity = spec.affinity(faults);
        let health_check = spec.health_check_node_port.filter(|number| *number != 0);
        let health_check_node_port = health_check
            .filter(|_| spec.kind.as_deref() == Some("LoadBalancer") && external_policy == Policy::Local)
            .and_then(|number| faults.take("spec.healthCheckNodePort", port(Some(number))));
        let mut ports: Vec<ServicePort> = Vec::new();
        for (place, one) in spec.ports.iter().flatten().enumerate() {
            let Some((port_name, number, node_port)) = one.read(place, name, faults) else { continue };
            let same = ports.iter().find(|former| {
                former.name == port_name || (former.port, former.name.protocol) == (number, port_name.protocol)
            });
            if same.is_some() {
                let detail = "has the name, or the port number, of another one of this protocol: remove one of the two";
                faults.add(format!("spec.ports[{place}]"), detail);
                continue;
            }
            ports.extend(cluster_ips.iter().map(|cluster_ip| {
                let family = Family::of(*cluster_ip);
                ServicePort {
                    name: port_name.clone(),
                    family,
                    cluster_ip: *cluster_ip,
                    port: number,
                    node_port,
                    external_ips: of_family(&addresses.external, family),
                    load_balancer_ips: of_family(&addresses.load_balancer, family),
                    source_ranges: addresses.source_ranges(family),
                    external_policy,
                    internal_policy,
                    affinity,
                    health_check_node_port,
                    created: self.metadata.creation_timestamp.as_ref().map(|time| time.0),
                }
            }));
        }
        ports
    }
}

impl PortObject {
    /// The name, the port and the node port.
    fn read(&self, place: usize, service: &ServiceName, faults: &mut Faults) -> Option<(PortName, u16, Option<u16>)> {
        let field = |name: &str| format!("spec.ports[{place}].{name}");
        let name = self.name.as_deref().unwrap_or_default();
        if !name.is_empty() && !is_name(name) {
            faults.add(field("name"), expected_name(name));
            return None;
        }
        let protocol = faults.take(&field("protocol"), protocol(self.protocol.as_deref()))?;
        let number = faults.take(&field("port"), port(self.port))?;
        let node_port = self.node_port.filter(|number| *number != 0);
        let node_port = node_port.and_then(|number| faults.take(&field("nodePort"), port(Some(number))));
        Some((PortName { service: service.clone(), port: Arc::from(name), protocol }, number, node_port))
    }
}

impl Spec {
    /// The cluster IP of each family; none where the Service has none.
    fn cluster_ips(&self, faults: &mut Faults) -> Vec<IpAddr> {
        let listed = self.cluster_ips.as_deref().unwrap_or_default();
        let first = self.cluster_ip.as_deref().or(listed.first().map(String::as_str)).unwrap_or_default();
        if first == "None" || self.kind.as_deref() == Some("ExternalName") {
            return Vec::new();
        }
        if first.is_empty() {
            faults.add("spec.clusterIP", "is missing: give the Service an address, or None if it is headless");
            return Vec::new();
        }
        let read = if listed.is_empty() {
            faults.take("spec.clusterIP", ip(first)).into_iter().collect()
        } else {
            addresses("spec.clusterIPs", listed, faults)
        };
        Family::BOTH.iter().filter_map(|family| read.iter().find(|ip| Family::of(**ip) == *family).copied()).collect()
    }

    /// The external and the internal policy. An external one counts only where the Service can be reached from outside.
    fn policies(&self, faults: &mut Faults) -> (Policy, Policy) {
        let mut policy = |field: &str, text: &Option<String>| match text.as_deref() {
            None | Some("" | "Cluster") => Policy::Cluster,
            Some("Local") => Policy::Local,
            Some(other) => {
                faults.add(field, format!("is {other:?}: it must be Cluster or Local"));
                Policy::Cluster
            }
        };
        let external = policy("spec.externalTrafficPolicy", &self.external_traffic_policy);
        let internal = policy("spec.internalTrafficPolicy", &self.internal_traffic_policy);
        let is_external = match self.kind.as_deref() {
            Some("NodePort" | "LoadBalancer") => true,
            _ => self.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        };
        (if is_external { external } else { Policy::Cluster }, internal)
    }

    fn affinity(&self, faults: &mut Faults) -> Option<Duration> {
        match self.session_affinity.as_deref() {
            None | Some("" | "None") => return None,
            Some("ClientIP") => {}
            Some(other) => {
                faults.add("spec.sessionAffinity", format!("is {other:?}: it must be None or ClientIP"));
                return None;
            }
        }
        let client_ip = self.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let (default, highest) = AFFINITY;
        let seconds = client_ip.and_then(|client_ip| client_ip.timeout_seconds).map(|seconds| {
            let read = u64::try_from(seconds).ok().filter(|seconds| (1..=highest).contains(seconds));
            read.ok_or_else(|| format!("is {seconds}: it must be from 1 to {highest}; {default} is used"))
        });
        let seconds =
            seconds.and_then(|seconds| faults.take("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds));
        Some(Duration::from_secs(seconds.unwrap_or(default)))
    }

    /// The ranges that can be read, and whether there are others.
    fn source_ranges(&self, faults: &mut Faults) -> (Vec<Prefix>, bool) {
        let texts = self.load_balancer_source_ranges.as_deref().unwrap_or_default();
        let mut read = |(place, text): (usize, &String)| {
            faults.take(&format!("spec.loadBalancerSourceRanges[{place}]"), range(text.trim()))
        };
        let ranges: Vec<Prefix> = texts.iter().enumerate().filter_map(&mut read).collect();
        let is_partial = ranges.len() < texts.len();
        (ranges, is_partial)
    }
}

/// Addresses of both families.
struct Addresses {
    external: Vec<IpAddr>,
    load_balancer: Vec<IpAddr>,
    source_ranges: (Vec<Prefix>, bool),
}

impl Addresses {
    /// Ranges of the other family alone leave this one open, as with kube-proxy. A range that cannot be read admits nobody: it may have
    /// been one of this family.
    fn source_ranges(&self, family: Family) -> Option<Vec<Prefix>> {
        let (ranges, is_partial) = &self.source_ranges;
        let ranges: Vec<Prefix> = ranges.iter().copied().filter(|range| range.family() == family).collect();
        (*is_partial || !ranges.is_empty()).then_some(ranges)
    }
}

fn of_family(addresses: &[IpAddr], family: Family) -> Vec<IpAddr> {
    addresses.iter().copied().filter(|address| Family::of(*address) == family).collect()
}

/// The addresses that can be read, each once.
fn addresses(field: &str, texts: &[String], faults: &mut Faults) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let address = faults.take(&format!("{field}[{place}]"), ip(text));
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    addresses
}

/// The load balancer's addresses that the node serves. A load balancer with `ipMode: Proxy` takes the packets itself; one with a host
/// name alone has no address (KEP-1860).
fn ingress_ips(ingress: &[Ingress], faults: &mut Faults) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (place, Ingress { ip: text, ip_mode }) in ingress.iter().enumerate() {
        let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { continue };
        if ip_mode.as_deref() == Some("Proxy") {
            continue;
        }
        let address = faults.take(&format!("status.loadBalancer.ingress[{place}].ip"), ip(text));
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    addresses
}
