//! Section by section: which objects are looked at, and what their fields mean.

use std::time::Duration;

use dataplane::types::Family;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::model::{Node, Policy, Service, ServicePort, Slice};
use crate::services::Services;

fn read<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("an object of the API")
}

/// A Service `ns1/svc1` with a port 80, whose spec has more fields, or others.
fn service(spec: Value) -> Value {
    let mut object = json!({
        "metadata": {"namespace": "ns1", "name": "svc1", "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"clusterIP": "172.30.0.41", "ports": [{"name": "p80", "port": 80}]},
    });
    merge(&mut object["spec"], spec);
    object
}

/// A slice of `ns1/svc1` with a port 8080.
fn slice(fields: Value) -> Value {
    let mut object = json!({
        "metadata": {"namespace": "ns1", "name": "svc1-a", "labels": {"kubernetes.io/service-name": "svc1"}},
        "addressType": "IPv4",
        "ports": [{"name": "p80", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": ["10.180.0.1"]}],
    });
    merge(&mut object, fields);
    object
}

fn merge(object: &mut Value, fields: Value) {
    let (Value::Object(object), Value::Object(fields)) = (object, fields) else { panic!("two objects") };
    object.extend(fields);
}

fn said(converted: &Converted) -> Vec<String> {
    converted.faults.iter().map(ToString::to_string).collect()
}

fn convert_service(object: &Value) -> (Vec<ServicePort>, Vec<String>) {
    let converted = read::<ServiceObject>(object).convert();
    let faults = said(&converted);
    match converted.object {
        Some(Object::Service(Service { ports, .. })) => (ports, faults),
        None => (Vec::new(), faults),
        other => panic!("{other:?}"),
    }
}

/// The only port of a Service without a fault.
fn port_of(spec: Value) -> ServicePort {
    let (mut ports, faults) = convert_service(&service(spec));
    assert_eq!((ports.len(), faults.len()), (1, 0), "{ports:?} {faults:?}");
    ports.remove(0)
}

fn convert_slice(object: &Value) -> (Option<Slice>, Vec<String>) {
    let converted = read::<EndpointSliceObject>(object).convert("test-node");
    let faults = said(&converted);
    match converted.object {
        Some(Object::Slice(slice, _)) => (Some(slice), faults),
        None => (None, faults),
        other => panic!("{other:?}"),
    }
}

fn addresses(slice: &Slice) -> Vec<String> {
    slice.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn labels_exclude_services_and_slices() {
    for label in ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"] {
        let mut object = service(json!({}));
        object["metadata"]["labels"] = json!({label: ""});
        assert_eq!(convert_service(&object), (vec![], vec![]), "case 71: {label}");
        let mut object = slice(json!({}));
        object["metadata"]["labels"][label] = json!("x");
        assert_eq!(convert_slice(&object), (None, vec![]), "{label}");
        assert!(LABEL_SELECTOR.contains(&format!("!{label}")));
    }
}

#[test]
fn headless_and_external_name_are_skipped() {
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"type": "ExternalName", "externalName": "x.example"}),
        json!({"type": "ExternalName", "clusterIP": null}),
    ] {
        assert_eq!(convert_service(&service(spec.clone())), (vec![], vec![]), "case 72: {spec}");
    }
    let (ports, faults) = convert_service(&service(json!({"clusterIP": ""})));
    assert_eq!(
        (ports.len(), &*faults),
        (0, &["spec.clusterIP is missing: give the Service an address, or None if it is headless".to_owned()][..])
    );
}

#[test]
fn a_service_has_each_port_in_each_of_its_families() {
    let spec = json!({
        "clusterIPs": ["fd00:172:30::41", "172.30.0.41"], "clusterIP": "fd00:172:30::41",
        "externalIPs": ["192.168.99.11", "2001:db8::99"], "type": "LoadBalancer",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
    });
    let mut object = service(spec);
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"ip": "2001:db8::1"}]}});
    let (ports, faults) = convert_service(&object);
    assert_eq!(faults, [] as [String; 0]);
    let [v4, v6] = &ports[..] else { panic!("{ports:?}") };
    assert_eq!((v4.family, v4.cluster_ip.to_string()), (Family::V4, "172.30.0.41".into()));
    assert_eq!((v6.family, v6.cluster_ip.to_string()), (Family::V6, "fd00:172:30::41".into()));
    assert_eq!([texts(&v4.external_ips), texts(&v6.external_ips)], [["192.168.99.11"], ["2001:db8::99"]]);
    assert_eq!([texts(&v4.load_balancer_ips), texts(&v6.load_balancer_ips)], [["1.2.3.4"], ["2001:db8::1"]]);
    assert_eq!(
        (v4.source_ranges.as_deref().map(texts), v6.source_ranges.as_ref()),
        (Some(vec!["10.0.0.0/8".into()]), None)
    );
    assert_eq!(v4.created.map(|created| created.to_string()).as_deref(), Some("2026-01-02T03:04:05Z"));
}

#[test]
fn load_balancer_addresses() {
    let mut object = service(json!({"type": "LoadBalancer"}));
    object["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "1.2.3.4", "ipMode": "VIP"}, {"ip": "1.2.3.5"}, {"ip": "1.2.3.6", "ipMode": "Proxy"},
        {"hostname": "lb.example"}, {"ip": "", "hostname": "lb.example"}, {"ip": "1.2.3.004"},
    ]}});
    let (ports, faults) = convert_service(&object);
    assert_eq!(
        (texts(&ports[0].load_balancer_ips), faults.len()),
        (vec!["1.2.3.4".to_owned(), "1.2.3.5".into()], 0),
        "case 73"
    );
    assert_eq!(ports[0].node_port, None, "case 73: served without a node port");
}

#[test]
fn malformed_but_legal_addresses_are_canonical() {
    let mut object = service(json!({
        "clusterIP": "172.30.0.041", "externalIPs": ["192.168.099.022"], "loadBalancerSourceRanges": [" 203.0.113.000/025", "10.0.0.0/8 "],
    }));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.004"}]}});
    let (ports, faults) = convert_service(&object);
    assert_eq!((faults.len(), ports[0].cluster_ip.to_string().as_str()), (0, "172.30.0.41"), "case 74: {faults:?}");
    assert_eq!([texts(&ports[0].external_ips), texts(&ports[0].load_balancer_ips)], [["192.168.99.22"], ["1.2.3.4"]]);
    assert_eq!(ports[0].source_ranges.as_deref().map(texts), Some(vec!["203.0.113.0/25".into(), "10.0.0.0/8".into()]));
    let (slice, faults) = convert_slice(&slice(json!({"endpoints": [{"addresses": ["10.180.00.001"]}]})));
    assert_eq!((addresses(&slice.expect("a slice")), faults.len()), (vec!["10.180.0.1".to_owned()], 0));
}

#[test]
fn a_source_range_that_cannot_be_read_admits_nobody() {
    let (ports, faults) = convert_service(&service(json!({"loadBalancerSourceRanges": ["everybody"]})));
    assert_eq!(ports[0].source_ranges.as_deref(), Some(&[][..]));
    assert!(
        faults[0].starts_with("spec.loadBalancerSourceRanges[0] is \"everybody\": it must be a range"),
        "{faults:?}"
    );
    assert_eq!(port_of(json!({"loadBalancerSourceRanges": []})).source_ranges, None);
}

#[test]
fn policies() {
    let both = |kind: &str| {
        let policies = json!({"type": kind, "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"});
        let port = port_of(policies);
        (port.external_policy, port.internal_policy)
    };
    assert_eq!(both("ClusterIP"), (Policy::Cluster, Policy::Local), "nobody reaches it from outside");
    assert_eq!(
        (both("NodePort"), both("LoadBalancer")),
        ((Policy::Local, Policy::Local), (Policy::Local, Policy::Local))
    );
    let with_external = port_of(json!({"externalTrafficPolicy": "Local", "externalIPs": ["192.168.99.11"]}));
    assert_eq!((with_external.external_policy, with_external.internal_policy), (Policy::Local, Policy::Cluster));
    let (ports, faults) = convert_service(&service(json!({"internalTrafficPolicy": "Node"})));
    assert_eq!(ports[0].internal_policy, Policy::Cluster);
    assert_eq!(faults, ["spec.internalTrafficPolicy is \"Node\": it must be Cluster or Local"]);
}

#[test]
fn the_health_check_is_that_of_a_load_balancer_with_local_policy() {
    let of = |kind: &str, policy: &str| {
        port_of(json!({"type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 30000}))
            .health_check_node_port
    };
    assert_eq!(of("LoadBalancer", "Local"), Some(30000));
    assert_eq!((of("LoadBalancer", "Cluster"), of("NodePort", "Local")), (None, None));
}

#[test]
fn affinity() {
    let seconds = |spec: Value| port_of(spec).affinity.map(|timeout| timeout.as_secs());
    assert_eq!(
        seconds(json!({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}})),
        None
    );
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    assert_eq!(
        seconds(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}})),
        Some(10)
    );
    let wrong = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}});
    let (ports, faults) = convert_service(&service(wrong));
    assert_eq!(ports[0].affinity, Some(Duration::from_hours(3)));
    assert!(faults[0].starts_with("spec.sessionAffinityConfig.clientIP.timeoutSeconds is 0"), "{faults:?}");
}

#[test]
fn ports_of_a_service() {
    let ports = json!([
        {"name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30053},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53, "nodePort": 0},
        {"name": "dns-sctp", "protocol": "SCTP", "port": 53},
        {"name": "dns", "protocol": "TCP", "port": 54},
        {"name": "dns", "protocol": "UDP", "port": 55},
        {"name": "again", "protocol": "UDP", "port": 53},
        {"name": "zero", "port": 0},
        {"name": "large", "port": 65536},
        {"name": "none"},
        {"name": "icmp", "protocol": "ICMP", "port": 1},
        {"name": "bad\nname", "port": 2},
        {"name": "node", "port": 3, "nodePort": -1},
    ]);
    let (ports, faults) = convert_service(&service(json!({"ports": ports})));
    let shown: Vec<_> = ports
        .iter()
        .map(|port| format!("{} {} {} {:?}", port.name, port.name.protocol, port.port, port.node_port))
        .collect();
    assert_eq!(
        shown,
        [
            "ns1/svc1:dns UDP 53 Some(30053)",
            "ns1/svc1:dns-tcp TCP 53 None",
            "ns1/svc1:dns-sctp SCTP 53 None",
            "ns1/svc1:dns TCP 54 None",
            "ns1/svc1:node TCP 3 None",
        ]
    );
    let fields: Vec<_> = faults.iter().filter_map(|fault| fault.split(' ').next()).collect();
    assert_eq!(
        fields,
        [
            "spec.ports[4]",
            "spec.ports[5]",
            "spec.ports[6].port",
            "spec.ports[7].port",
            "spec.ports[8].port",
            "spec.ports[9].protocol",
            "spec.ports[10].name",
            "spec.ports[11].nodePort"
        ]
    );
}

#[test]
fn what_a_service_has_of_foreign_addresses_is_told() {
    let (ports, faults) = convert_service(&service(
        json!({"externalIPs": ["192.168.99.11", "host.example"], "clusterIPs": ["172.30.0.41", "x"]}),
    ));
    assert_eq!((ports.len(), texts(&ports[0].external_ips)), (1, vec!["192.168.99.11".to_owned()]));
    let fields: Vec<_> = faults.iter().filter_map(|fault| fault.split(' ').next()).collect();
    assert_eq!(fields, ["spec.clusterIPs[1]", "spec.externalIPs[1]"]);
}

#[test]
fn objects_without_a_usable_name() {
    for metadata in [
        json!({}),
        json!({"namespace": "ns1"}),
        json!({"namespace": "ns1", "name": "a/b"}),
        json!({"namespace": "ns1", "name": "a".repeat(254)}),
    ] {
        let mut object = service(json!({}));
        object["metadata"] = metadata.clone();
        let (ports, faults) = convert_service(&object);
        assert!(
            ports.is_empty() && faults.iter().all(|fault| fault.starts_with("metadata.") && fault.len() < 200),
            "{metadata}: {faults:?}"
        );
        assert!(!faults.is_empty(), "{metadata}");
    }
    let mut object = service(json!({}));
    object["metadata"]["name"] = json!("a".repeat(253));
    assert_eq!(convert_service(&object).0.len(), 1, "a name at its limit");
}

#[test]
fn slices_that_say_nothing() {
    assert_eq!(
        convert_slice(&slice(json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]}))),
        (None, vec![])
    );
    let (converted, faults) = convert_slice(&slice(json!({"addressType": "IPX"})));
    assert_eq!(
        (converted, &*faults),
        (None, &["addressType is \"IPX\": it must be IPv4, IPv6 or FQDN".to_owned()][..])
    );
    let mut object = slice(json!({}));
    object["metadata"]["labels"] = json!({});
    let (converted, faults) = convert_slice(&object);
    assert!(
        converted.is_none() && faults[0].starts_with("metadata.labels[kubernetes.io/service-name] is missing"),
        "{faults:?}"
    );
}

#[test]
fn ports_of_a_slice() {
    let ports = json!([
        {"name": "", "port": 1}, {"port": 2}, {"name": null, "port": 3}, {"name": "a"}, {"name": "b", "port": 0},
        {"name": "c", "protocol": "SCTP", "port": 4},
    ]);
    let (converted, faults) = convert_slice(&slice(json!({"ports": ports})));
    let ports: Vec<_> = converted
        .expect("a slice")
        .ports
        .iter()
        .map(|port| (port.name.to_string(), port.protocol, port.port))
        .collect();
    assert_eq!(ports, [(String::new(), Protocol::Tcp, 1), ("c".to_owned(), Protocol::Sctp, 4)]);
    let fields: Vec<_> = faults.iter().filter_map(|fault| fault.split(' ').next()).collect();
    assert_eq!(fields, ["ports[1].name", "ports[2].name", "ports[3].port", "ports[4].port"]);
    assert_eq!(convert_slice(&slice(json!({"ports": null}))).0.map(|slice| slice.ports.len()), Some(0));
}

#[test]
fn endpoints_of_a_slice() {
    let endpoints = json!([
        {"addresses": ["10.180.0.1", "10.180.0.2"], "nodeName": "test-node"},
        {"addresses": ["10.180.0.3"], "nodeName": "other", "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["10.180.0.4"], "conditions": {"ready": null},
         "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}, {"name": "n2"}]}},
        {"addresses": []},
        {},
        {"addresses": ["fd00::1"]},
        {"addresses": ["a.example"]},
    ]);
    let (converted, faults) = convert_slice(&slice(json!({"endpoints": endpoints})));
    let converted = converted.expect("a slice");
    assert_eq!(
        addresses(&converted),
        ["10.180.0.1", "10.180.0.3", "10.180.0.4"],
        "the first address alone, where there is one"
    );
    let [first, second, third] = &converted.endpoints[..] else { panic!("{converted:?}") };
    assert!(first.is_local && first.ready && first.serving && !first.terminating, "no conditions: {first:?}");
    assert!(!second.is_local && !second.ready && second.is_serving_terminating(), "{second:?}");
    assert!(!third.is_local && third.ready, "no node is never this one: {third:?}");
    assert_eq!((third.zone_hints.len(), third.node_hints.len()), (1, 2));
    assert_eq!(
        faults,
        [
            "endpoints[5].addresses[0] is \"fd00::1\": it must be of addressType IPv4",
            "endpoints[6].addresses[0] is \"a.example\": it must be an address, like 10.96.0.10 or fd00:10::10",
        ]
    );
}

#[test]
fn a_hundred_thousand_endpoints_with_faults_are_few_faults() {
    let address =
        |n: u32| if n.is_multiple_of(2) { "x".to_owned() } else { format!("10.{}.{}.1", n % 256, n / 256 % 256) };
    let endpoints: Vec<_> = (0..100_000).map(|n| json!({"addresses": [address(n)]})).collect();
    let (converted, faults) = convert_slice(&slice(json!({"endpoints": endpoints})));
    assert_eq!((converted.expect("a slice").endpoints.len(), faults.len()), (50_000, 9));
    assert_eq!(faults[8], "endpoints has 49992 more endpoints with a wrong address");
}

#[test]
fn the_node() {
    let object = json!({
        "metadata": {"name": "test-node", "labels": {"topology.kubernetes.io/zone": "z1"}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:1::/64"], "taints": [{"key": "other"}]},
        "status": {"addresses": [
            {"type": "Hostname", "address": "test-node"}, {"type": "ExternalIP", "address": "2001:db8::1"},
            {"type": "ExternalIP", "address": "203.0.113.9"},
            {"type": "InternalIP", "address": "192.168.0.2"}, {"type": "InternalIP", "address": "192.168.1.2"},
        ]},
    });
    let node = |object: &Value| match read::<NodeObject>(object).convert().object {
        Some(Object::Node(node)) => node,
        other => panic!("{other:?}"),
    };
    let converted = node(&object);
    assert_eq!(converted.zone.as_deref(), Some("z1"));
    assert_eq!(converted.addresses.v4, Some([192, 168, 0, 2].into()), "the first internal one");
    assert_eq!(
        converted.addresses.v6.map(|address| address.to_string()).as_deref(),
        Some("2001:db8::1"),
        "an external one, else"
    );
    assert_eq!(converted.pod_cidrs.v6.map(|range| range.to_string()).as_deref(), Some("fd00:10:1::/64"));
    assert!(!converted.is_leaving);
    let mut tainted = object.clone();
    tainted["spec"]["taints"] = json!([{"key": "ToBeDeletedByClusterAutoscaler"}]);
    let mut deleted = object;
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    assert!(node(&tainted).is_leaving && node(&deleted).is_leaving);
    let bare = node(&json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.244.1.0/24"}}));
    let range = "10.244.1.0/24".parse().ok();
    assert_eq!(
        bare,
        Node { name: "n".into(), pod_cidrs: dataplane::types::PerFamily { v4: range, v6: None }, ..Node::default() }
    );
}

/// Cases 71 and 72: what is excluded goes away, and comes back.
#[test]
fn a_service_that_is_none_for_the_proxy_vanishes_and_comes_back() {
    let mut services = Services::new("test-node");
    let mut labelled = service(json!({}));
    labelled["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
    let external = service(json!({"type": "ExternalName", "clusterIP": null}));
    for excluded in [labelled, external] {
        for (object, count) in [(&service(json!({})), 1), (&excluded, 0), (&service(json!({})), 1)] {
            services.apply(read::<ServiceObject>(object).convert().event(|_| None));
            assert_eq!(services.ports().count(), count, "{object}");
        }
    }
}
