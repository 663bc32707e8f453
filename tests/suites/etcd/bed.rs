//! Machines with netd, and one more that runs etcd.

use std::net::IpAddr;

use netd_tests::etcd::{Door, Etcd};
pub(crate) use netd_tests::node::routed;
use netd_tests::{Cluster, Context, Fabric, Node, Outcome, Stack, Topology, net_conf};
use serde_json::{Value, json};

/// etcd's machine is the fourth of the topologies here.
pub(crate) const ENDPOINT: &str = "--etcd-endpoints=http://192.168.1.14:2379";

/// A fabric whose machine `etcd` runs one.
pub(crate) struct Bed {
    pub(crate) fabric: Fabric,
    pub(crate) etcd: Etcd,
}

/// One segment with `n1`, `n2`, `n3` and `etcd`.
pub(crate) fn topology() -> Topology {
    Topology::one_segment(Stack::V4).with("etcd", 1)
}

pub(crate) fn vxlan() -> Value {
    net_conf(Stack::V4, &json!({ "Type": "vxlan" }))
}

impl Bed {
    /// With an empty etcd.
    pub(crate) fn empty() -> Outcome<Self> {
        Self::on(&topology())
    }

    /// With this network configuration in it.
    pub(crate) fn with(conf: &Value) -> Outcome<Self> {
        let bed = Self::empty()?;
        bed.put("config", &conf.to_string())?;
        Ok(bed)
    }

    pub(crate) fn on(topology: &Topology) -> Outcome<Self> {
        let fabric = topology.build()?;
        let etcd = Etcd::start(fabric.node("etcd"), fabric.disk(), Door::Open)?;
        Ok(Self { fabric, etcd })
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.fabric.node(name)
    }

    pub(crate) fn machine(&self) -> &Node {
        self.node("etcd")
    }

    pub(crate) fn put(&self, key: &str, value: &str) -> Outcome {
        self.etcd.put(self.machine(), key, value)
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Outcome<String> {
        self.etcd.ctl(self.machine(), arguments)
    }

    pub(crate) fn subnets(&self) -> Outcome<Vec<(String, String, i64)>> {
        self.etcd.subnets(self.machine())
    }

    /// netd on all nodes. What is left of the bed is etcd.
    pub(crate) fn start(self) -> Outcome<(Cluster, Etcd)> {
        Ok((Cluster::on(self.fabric, &[ENDPOINT])?, self.etcd))
    }
}

/// What another node would have in etcd, with its public address `192.168.1.N`.
pub(crate) fn foreign(n: u8) -> String {
    format!(
        r#"{{"PublicIP":"192.168.1.{n}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:00:{n:02x}"}}}}"#
    )
}

/// The key of the node whose public address is `192.168.1.N`: its name, value and lease.
pub(crate) fn key_of(etcd: &Etcd, machine: &Node, n: u8) -> Outcome<(String, String, i64)> {
    key_at(etcd, machine, [192, 168, 1, n].into())
}

/// The same of any public address.
pub(crate) fn key_at(etcd: &Etcd, machine: &Node, address: IpAddr) -> Outcome<(String, String, i64)> {
    let part = format!("\"PublicIP\":\"{address}\"");
    let found = etcd.subnets(machine)?.into_iter().find(|(_, value, _)| value.contains(&part));
    found.context(format!("etcd has no key of {address}"))
}
