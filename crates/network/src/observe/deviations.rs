//! Where a dump differs from the desired state, by key.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::op::DeviceRoute;
use dataplane::types::Prefix;
use reconcile::deviating;

use super::Observed;
use crate::key::Key;
use crate::overlay::Desired;
use crate::value::{Item, Value, prefix_lengths};

impl Observed {
    /// The keys at which other things stand than desired, with what stands there: entries of devices, and the routes that `tracks`
    /// accepts.
    pub fn deviations(&self, desired: &Desired, tracks: impl Fn(Prefix) -> bool) -> BTreeMap<Key, Value> {
        let neighbours = deviating(&self.neighbours, &desired.neighbours)
            .into_iter()
            .map(|(device, address)| Key::Neighbour(device.clone(), *address));
        let there = self.fdb.iter().map(|(device, mac, endpoint)| ((device, *mac), endpoint));
        let wanted = desired.fdb.iter().map(|((device, mac), endpoint)| ((device, *mac), endpoint));
        let fdb = deviating(there, wanted).into_iter().map(|(device, mac)| Key::Fdb(device.clone(), mac));
        let there = self.routes.iter().map(|route| (route.destination, route));
        let wanted = desired.routes.iter().map(|(destination, route)| (*destination, route));
        let routes = deviating(there, wanted).into_iter().filter(|to| tracks(*to)).map(Key::Route);
        let addresses = self.addresses.symmetric_difference(&desired.addresses);
        let addresses = addresses.map(|address| Key::Address(address.device.clone(), address.address));
        neighbours.chain(fdb).chain(routes).chain(addresses).map(|key| (key.clone(), self.value(&key))).collect()
    }

    /// What stands at the key of an entry.
    fn value(&self, key: &Key) -> Value {
        match key {
            Key::Neighbour(device, address) => {
                self.neighbours.get(&(device.clone(), *address)).copied().map(Item::Mac).into_iter().collect()
            }
            Key::Fdb(device, mac) => {
                let from = self.fdb.range((device.clone(), *mac, IpAddr::from([0, 0, 0, 0]))..);
                let same = from.take_while(|entry| entry.0 == *device && entry.1 == *mac);
                same.map(|entry| Item::Endpoint(entry.2)).collect()
            }
            Key::Route(destination) => {
                let from = self.routes.range(DeviceRoute::least_to(*destination)..);
                from.take_while(|route| route.destination == *destination).cloned().map(Item::Route).collect()
            }
            Key::Address(device, address) => prefix_lengths(&self.addresses, device, *address),
            _ => Value::new(),
        }
    }
}
