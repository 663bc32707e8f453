//! Everything that strangers write, changed at random: no parser may panic or think long, and what it accepts must
//! keep its promises.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane::address::Address;
use dataplane::link::Link;
use dataplane::neighbour::{Fdb, Neighbour};
use dataplane::netlink;
use dataplane::nft;
use dataplane::route::Route;
use dataplane::types::{IfName, Mac, Prefix};
use libtest_mimic::Trial;
use netd::subnet_env;
use netd_cni::conf::{self, plugin_conf::PluginConf};
use netd_tests::fuzz::{self, recorded};
use netd_tests::suite::test;
use netd_tests::{Outcome, ensure};
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use network::model::NodeName;
use network::net_conf::NetConf;
use network::record;

#[path = "fuzz/services.rs"]
mod services;

const NET_CONF: &str = r#"{ "Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56",
  "SubnetLen": 24, "SubnetMin": "10.244.1.0", "SubnetMax": "10.244.99.0", "IPv6SubnetLen": 64, "EnableNFTables": false,
  "Backend": { "Type": "vxlan", "VNI": 1, "Port": 8472, "MTU": 1500, "GBP": true, "Learning": false, "DirectRouting": true } }"#;
const RECORD: &str = r#"{ "Subnet": "10.244.1.0/24", "IPv6Subnet": "fd00:10:244:1::/64", "PublicIP": "192.168.1.11",
  "PublicIPv6": "fd00:a:1::11", "BackendType": "vxlan", "BackendData": { "VNI": 1, "VtepMAC": "0a:58:0a:f4:01:00" },
  "BackendV6Data": { "VNI": 1, "VtepMAC": "0a:58:0a:f4:01:00" } }"#;
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00::/56\n\
                          FLANNEL_IPV6_SUBNET=fd00::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
const STDIN: &str = r#"{ "cniVersion": "1.0.0", "name": "cbr0", "type": "netd", "bridge": "cni0", "mtu": 1450,
  "subnetFile": "/run/flannel/subnet.env", "isGateway": true, "hairpinMode": true, "capabilities": { "ips": true },
  "ipam": { "type": "host-local", "dataDir": "/d", "ranges": [[{ "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9" }]],
  "routes": [{ "dst": "0.0.0.0/0", "gw": "10.9.0.1" }] }, "dns": { "nameservers": ["10.96.0.10"] },
  "runtimeConfig": { "ips": ["10.9.0.7/24"], "mac": "0a:58:0a:f4:01:02" }, "args": { "cni": { "ips": ["10.9.0.7"] } },
  "prevResult": { "cniVersion": "1.0.0", "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/x" }],
  "ips": [{ "address": "10.9.0.7/24", "gateway": "10.9.0.1", "interface": 0 }], "routes": [], "dns": {} } }"#;
const PORTS: &str = r#"{ "cniVersion": "1.1.0", "name": "cbr0", "type": "netd", "cni.dev/valid-attachments":
  [{ "containerID": "a", "ifname": "eth0" }], "runtimeConfig": { "portMappings": [{ "HostPort": 80 }] } }"#;

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        vec![
            texts("words", &["cni0", "0a:58:0a:f4:01:02", "10.244.1.0/24", "fd00::/64"], words),
            texts("net-conf.json", &[NET_CONF, "{}"], net_conf),
            texts("a node's record in the store", &[RECORD, "{}"], store_record),
            texts("subnet.env, as the daemon reads it", &[SUBNET_ENV], |text| {
                let _ = subnet_env::previous_subnets(text);
            }),
            texts("subnet.env, as the plugin reads it", &[SUBNET_ENV], |text| {
                let _ = conf::subnet_env::parse(text.as_bytes());
            }),
            texts("CNI stdin", &[STDIN, PORTS], stdin),
            services::trial(),
            bytes("rtnetlink messages", recorded::rtnetlink, rtnetlink),
            bytes("nftables messages", recorded::nftables, |bytes| {
                let _ = nft::read::parse_message(bytes);
            }),
        ]
    })
}

/// A target that reads text, fed with what is UTF-8.
fn texts(name: &str, seeds: &[&str], parse: fn(&str)) -> Trial {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    bytes_of(
        name,
        move || Ok(seeds),
        move |input| {
            if let Ok(text) = std::str::from_utf8(input) {
                parse(text);
            }
        },
    )
}

/// A target that reads bytes, with seeds from the kernel.
fn bytes(name: &str, seeds: fn() -> Outcome<Vec<Vec<u8>>>, parse: fn(&[u8])) -> Trial {
    bytes_of(name, seeds, parse)
}

fn bytes_of(
    name: &str,
    seeds: impl FnOnce() -> Outcome<Vec<Vec<u8>>> + Send + 'static,
    parse: impl Fn(&[u8]) + Send + 'static,
) -> Trial {
    test(name, move || {
        let seeds = seeds()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = fuzz::run(u64::from(now.subsec_nanos()), fuzz::duration()?, &seeds, parse)?;
        ensure!(count > seeds.len(), "the time was too short for a single change");
        Ok(())
    })
}

/// A word that parses prints as a text that parses to the same word.
fn words(text: &str) {
    if let Ok(name) = text.parse::<IfName>() {
        assert_eq!(name.to_string(), text, "an interface name is kept as it is");
    }
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac), "a MAC address prints as it reads");
    }
    if let Ok(prefix) = text.parse::<Prefix>() {
        assert_eq!(prefix.to_string().parse(), Ok(prefix), "a prefix prints as it reads");
        assert!(prefix.contains(prefix.address()), "{prefix} does not hold its own address");
    }
}

/// A configuration that is accepted has a network.
fn net_conf(text: &str) {
    if let Ok((conf, _)) = NetConf::parse(text) {
        assert!(!conf.prefixes().is_empty(), "accepted without a network: {conf:?}");
    }
}

/// A record that is accepted is written as one that reads the same.
fn store_record(text: &str) {
    let node: NodeName = "n1".parse().expect("a node's name");
    if let Ok(lease) = record::parse(&node, text) {
        let again = record::parse(&node, &record::render(&lease)).expect("a written record is readable");
        assert_eq!(again, lease, "a record changes by being written");
    }
}

fn rtnetlink(bytes: &[u8]) {
    let _ = netlink::parse_answer(bytes);
    if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
        && let netlink_packet_core::NetlinkPayload::InnerMessage(message) = message.payload
    {
        let _ = Link::from_message(&message);
        let _ = Address::from_message(&message);
        let _ = Route::from_message(&message);
        let _ = Neighbour::from_message(&message);
        let _ = Fdb::from_message(&message);
    }
}

/// What the plugin does with its stdin before it touches anything.
fn stdin(text: &str) {
    let _ = conf::version_of(text.as_bytes());
    let Ok(document) = conf::parse_stdin(text.as_bytes()) else {
        return;
    };
    let env = conf::subnet_env::parse(SUBNET_ENV.as_bytes()).expect("the sample is right");
    let _ = conf::plugin_conf::TeardownConf::read(&document.fields());
    let _ = conf::plugin_conf::subnet_file(&document);
    for env in [None, Some(&env)] {
        let _ = PluginConf::read(&document, "IgnoreUnknown=1;IP=10.9.0.8", env);
    }
}
