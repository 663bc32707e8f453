//! A node of the fixtures' network.

use dataplane::types::PerFamily;
use network::fixtures::{Network, name, node_name};

use super::Node;

impl From<&Network> for Node {
    /// Node 1 of it.
    fn from(network: &Network) -> Self {
        Self {
            name: node_name(1),
            conf: network.conf(),
            underlay: network.underlay(1),
            tunnel_devices: network.tunnel_devices(),
            identity: network.identity(),
            public: PerFamily::none(),
            subnet_len: PerFamily::none(),
            bridge: name("cni0"),
        }
    }
}
