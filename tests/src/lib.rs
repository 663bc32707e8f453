//! The harness: nodes, pods and packets for the black-box suites, in namespaces that nothing can leak out of.
//!
//! It drives the shipped binaries from outside and asks the kernel through `ip`, `bridge` and `nft`, so it cannot
//! share a mistake with them. It must not depend on `netd` or the plugin as libraries.

#![forbid(unsafe_code)]

pub mod apiserver;
pub mod backend;
pub mod bench;
pub mod binaries;
pub mod changes;
pub mod cluster;
pub mod daemon;
pub mod deadline;
pub mod etcd;
pub mod executable;
pub mod failure;
pub mod flanneld;
pub mod flow;
pub mod fuzz;
pub mod health;
pub mod isolation;
pub mod kernel;
pub mod kubernetes;
pub mod load;
pub mod mixed;
pub mod namespace;
pub mod node;
pub mod peer;
pub mod peers;
pub mod plugin;
pub mod pod;
pub mod qemu;
pub mod repair;
pub mod repeated;
pub mod router;
pub mod services;
pub mod signals;
pub mod snapshot;
pub mod sniffer;
pub mod suite;
pub mod topology;
pub mod two_networks;
pub mod wall_clock;

pub use cluster::{Cluster, net_conf};
pub use deadline::{eventually, seconds, sleep};
pub use failure::{Context, Failure, Outcome};
pub use load::Load;
pub use namespace::Namespace;
pub use node::Node;
pub use peer::Peer;
pub use pod::Pod;
pub use snapshot::Snapshot;
pub use sniffer::{PacketPath, Sniffer};
pub use topology::{Fabric, Stack, Topology};
pub use wall_clock::WallClock;
