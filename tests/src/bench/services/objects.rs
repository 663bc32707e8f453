//! Services and their endpoints, by number: no two have an address in common.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::ENDPOINTS;

pub(super) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(super) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// The first of the addresses that endpoints have at the beginning, and of those that they change to.
const FIRST: u32 = u32::from_be_bytes([10, 128, 0, 0]);
const NEXT: u32 = u32::from_be_bytes([172, 20, 0, 1]);
/// The port of Services, and of their endpoints.
pub(super) const PORT: u16 = 80;
pub(super) const TARGET: u16 = 8080;

const CREATED: &str = "2026-01-01T00:00:00Z";

/// The cluster IP of a Service. The first 256 are the API server's to give away.
pub(super) fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, 96, 1, 0]) + number)
}

pub(super) fn name(number: u32) -> String {
    format!("service-{number:05}")
}

pub(super) fn service(number: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name(number), "namespace": "default" },
        "spec": {
            "clusterIP": cluster_ip(number),
            "ports": [{ "name": "http", "port": PORT, "targetPort": TARGET, "protocol": "TCP" }],
        },
    })
}

/// A Service with what the API server adds, and its key in etcd.
pub(super) fn stored_service(number: u32) -> (String, Value) {
    let (name, address) = (name(number), cluster_ip(number));
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": "default", "creationTimestamp": CREATED,
            "uid": format!("00000000-0000-4000-8000-{number:012}"),
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{ "name": "http", "port": PORT, "targetPort": TARGET, "protocol": "TCP" }],
        },
    });
    (format!("services/specs/default/{name}"), service)
}

/// That the Service has its cluster IP, which the API server repairs where it is missing.
pub(super) fn stored_address(number: u32) -> (String, Value) {
    let address = cluster_ip(number);
    let claim = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address, "creationTimestamp": CREATED, "uid": format!("00000000-0000-4000-9000-{number:012}"),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": { "parentRef": { "group": "", "resource": "services", "namespace": "default", "name": name(number) } },
    });
    (format!("ipaddresses/{address}"), claim)
}

/// An address that no endpoint has had before: the `change`th.
pub(super) fn changed(change: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(NEXT + change)
}

/// The endpoints of a Service.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) number: u32,
    pub(super) addresses: Vec<Ipv4Addr>,
}

impl Slice {
    pub(super) fn new(number: u32) -> Self {
        Self::of(number, ENDPOINTS)
    }

    /// With so many endpoints, at most sixteen.
    pub(super) fn of(number: u32, count: u32) -> Self {
        let addresses = (0..count).map(|place| Ipv4Addr::from_bits(FIRST + number * 16 + place)).collect();
        Self { number, addresses }
    }

    pub(super) fn path(&self) -> String {
        format!("{SLICES}/{}", name(self.number))
    }

    pub(super) fn endpoints(&self) -> Value {
        let endpoint = |address: &Ipv4Addr| json!({ "addresses": [address], "conditions": { "ready": true } });
        self.addresses.iter().map(endpoint).collect()
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name(self.number), "namespace": "default",
                "labels": { "kubernetes.io/service-name": name(self.number) },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": TARGET, "protocol": "TCP" }],
            "endpoints": self.endpoints(),
        })
    }
}
