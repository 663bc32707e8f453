//! Where a dump differs from the desired state, by key.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::op::DeviceRoute;
use dataplane::types::{IfName, Mac, Prefix};
use reconcile::deviating;

use super::Observed;
use crate::key::Key;
use crate::overlay::Desired;
use crate::value::Value;

impl Observed {
    /// The routes to one destination.
    pub fn routes_to(&self, destination: Prefix) -> impl Iterator<Item = &DeviceRoute> {
        let from = self.routes.range(DeviceRoute::least_to(destination)..);
        from.take_while(move |route| route.destination == destination)
    }

    /// The tunnel ends behind one hardware address.
    fn endpoints_of(&self, device: &IfName, mac: Mac) -> impl Iterator<Item = IpAddr> {
        let from = self.fdb.range((device.clone(), mac, IpAddr::from([0, 0, 0, 0]))..);
        from.take_while(move |entry| entry.0 == *device && entry.1 == mac).map(|entry| entry.2)
    }

    /// The keys whose values differ from the desired ones, with their values here: entries of devices, and the routes that `tracks`
    /// accepts.
    pub fn deviations(&self, desired: &Desired, tracks: impl Fn(Prefix) -> bool) -> BTreeMap<Key, Value> {
        let neighbours = deviating(&self.neighbours, &desired.neighbours).into_iter().map(|(device, address)| {
            let mac = self.neighbours.get(&(device.clone(), *address)).map_or(Value::Absent, |mac| Value::Mac(*mac));
            (Key::Neighbour(device.clone(), *address), mac)
        });
        let there = self.fdb.iter().map(|(device, mac, endpoint)| ((device, *mac), endpoint));
        let wanted = desired.fdb.iter().map(|((device, mac), endpoint)| ((device, *mac), endpoint));
        let fdb = deviating(there, wanted).into_iter().map(|(device, mac)| {
            (Key::Fdb(device.clone(), mac), Value::endpoints(self.endpoints_of(device, mac).collect()))
        });
        let there = self.routes.iter().map(|route| (route.destination, route));
        let wanted = desired.routes.iter().map(|(destination, route)| (*destination, route));
        let routes =
            deviating(there, wanted).into_iter().filter(|destination| tracks(*destination)).map(|destination| {
                (Key::Route(destination), Value::routes(self.routes_to(destination).cloned().collect()))
            });
        let addresses = self.addresses.symmetric_difference(&desired.addresses).map(|address| {
            let same = self.addresses.iter().filter(|a| (&a.device, a.address) == (&address.device, address.address));
            let lengths = same.map(|address| address.prefix_len).collect();
            (Key::Address(address.device.clone(), address.address), Value::prefix_lengths(lengths))
        });
        neighbours.chain(fdb).chain(routes).chain(addresses).collect()
    }
}
