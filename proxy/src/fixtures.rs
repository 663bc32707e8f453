//! What several tests need.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::types::{Family, Prefix};

use crate::model::{Policy, PortName, Protocol, ServicePort};
use crate::ruleset::{LocalPods, NodePorts, Settings};
use crate::topology::Resolved;

/// Pods have addresses of `10.0.0.0/8`, Services of `172.30.0.0/16`.
pub(crate) fn settings() -> Settings {
    Settings {
        family: Family::V4,
        table: "netd-proxy".to_owned(),
        local_pods: Some(LocalPods::Range("10.0.0.0/8".parse::<Prefix>().expect("a range"))),
        masquerade_all: false,
        masquerade_mark: 0x4000,
        node_ports: NodePorts::All,
        has_loopback: false,
        node_address: None,
        service_cidrs: ["172.30.0.0/16".parse().expect("a range")].into(),
    }
}

/// Port 80 of a Service whose cluster IP and node port end with the length of its name. One whose name begins with `sticky` has affinity.
pub(crate) fn service_port(name: &str, protocol: Protocol) -> ServicePort {
    let length = u8::try_from(name.len()).expect("a short name");
    ServicePort {
        name: PortName::new("default", name, "http", protocol),
        family: Family::V4,
        cluster_ip: [172, 30, 0, length].into(),
        port: 80,
        node_port: Some(3000 + u16::from(length)),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
        affinity: name.starts_with("sticky").then_some(Duration::from_mins(1)),
        health_check_node_port: None,
        created: None,
    }
}

/// The port with the endpoints `10.180.0.1:80` and so on.
pub(crate) fn resolved(port: ServicePort, endpoints: &[u8]) -> Resolved {
    let cluster: Vec<SocketAddr> = endpoints.iter().map(|number| ([10, 180, 0, *number], 80).into()).collect();
    let has_any = !cluster.is_empty();
    Resolved { port: Arc::new(port), cluster, local: Vec::new(), local_ready: 0, has_any }
}
