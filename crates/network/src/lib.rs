//! The pod network as values: what the nodes say of themselves, what a node's kernel should then hold, and the plan that leads there
//! from what it holds.
//!
//! Pure but for [`observe`] and [`flannel`], which read the kernel through its trait. Neither files nor sockets nor a clock: what depends on them
//! comes in as arguments. Knows no Kubernetes; whose records these are is the stores' business.
//!
//! | term | meaning |
//! |---|---|
//! | lease | what one node holds and publishes: its pods' ranges, its public addresses, its backend |
//! | public address | where peers send packets for a node; may differ from the address of its interface |
//! | underlay | the interface and addresses that packets between nodes have |
//! | backend | how packets get from node to node, by flannel's name: `vxlan`, `host-gw`; one file each in [`backend`] |
//! | encapsulation | the form in which packets travel: plain, or in one tunnel; a backend may use two |
//! | direct | plain packets by a plain route, to a peer on the same link |
//! | encapsulation support | the encapsulations that a node receives and those that it sends, published in its lease |
//! | tunnel end, VTEP | a node's device for a tunnel, with the hardware address that peers must know |
//! | peer route | the encapsulation and the address by which packets reach a peer's pods |
//! | transition | the time in which nodes change their backend one by one |
//! | draining | a node has published that it stops receiving in an encapsulation; the last packets may be under way |
//! | relaxed filter | a reverse-path filter set to loose during a transition, and restored afterwards |
//! | mark | netd's name in the kernel: the alias of its devices, the name of its nftables table |
//! | leftovers | rules that flanneld made and nobody removes |
#![forbid(unsafe_code)]

pub mod allocation;
pub mod backend;
pub mod caseless;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod flannel;
pub mod hash;
pub mod interface;
pub mod kernel_view;
pub mod key;
pub mod model;
pub mod net_conf;
pub mod net_conf_error;
pub mod node_name;
pub mod observe;
pub mod on_link;
pub mod overlay;
pub mod plan;
pub mod record;
pub mod record_error;
pub mod state;
mod subset;
pub mod text;
pub mod value;

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
