//! The desired value of a key.
//!
//! Pure.

use super::Desired;
use crate::key::Key;
use crate::value::{Item, Value, prefix_lengths};

impl Desired {
    /// What should stand at a key. Tables, sysctls and rules have no values: a dump compares them.
    pub fn value(&self, key: &Key) -> Value {
        let item = match key {
            Key::Device(name) => {
                let is_bridge = self.bridge.as_ref().is_some_and(|bridge| bridge.name == *name);
                (is_bridge || self.devices.contains_key(name)).then_some(Item::AsDesired)
            }
            Key::Address(device, address) => return prefix_lengths(&self.addresses, device, *address),
            Key::Neighbour(device, address) => self.neighbours.get(&(device.clone(), *address)).copied().map(Item::Mac),
            Key::Fdb(device, mac) => self.fdb.get(&(device.clone(), *mac)).copied().map(Item::Endpoint),
            Key::Route(destination) => self.routes.get(destination).cloned().map(Item::Route),
            Key::Sysctl(_) | Key::Table(_) | Key::Rules(..) => None,
        };
        item.into_iter().collect()
    }
}
