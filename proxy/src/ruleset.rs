//! Services as one nftables table: rules that are the same for all Services, and elements that say what each service port is.
//!
//! Pure. A packet's destination is looked up in sets and maps; no chain belongs to one Service. A service port with one endpoint is one
//! element of a map. One with several is an element of the set of all ports with so many endpoints, for which one rule draws a number, and
//! one element for each endpoint by that number. So a changed endpoint changes one element, among ten Services and among ten thousand.
//!
//! A service port is no element of a verdict map. The kernel checks the whole table each time that such a map gets an element, which
//! takes longer the more Services there are. Elements of sets and of maps to addresses cost the same among any number.
//!
//! Packets that are for no Service must not pay for those that are: one set has the addresses of all Services, and one their node ports.
//! What is in neither is looked up nowhere else.
//!
//! Whoever looks into the table with `nft list` can load the listing with `nft -f` again: each rule is one that `nft` can write.

mod adopt;
mod arrange;
mod change;
mod contents;
mod element;
mod name;
mod rules;
mod settings;

pub use arrange::arrange;
pub use change::{Change, Ruleset};
pub use contents::Contents;
pub use element::{Element, Front, Presence, clients_of, comment};
pub use name::{Destination, Lookup, SetName};
pub use rules::rejected_on_loopback;
pub use settings::{LocalPods, NodePorts, Settings, TABLE};

#[cfg(test)]
mod tests;
