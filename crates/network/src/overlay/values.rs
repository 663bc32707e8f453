//! The desired value of a key.
//!
//! Pure.

use super::Desired;
use crate::key::Key;
use crate::value::Value;

impl Desired {
    /// What a key should have. Tables, sysctls and rules have no values: a dump compares them.
    pub fn value(&self, key: &Key) -> Value {
        match key {
            Key::Device(name) => Value::present(self.devices.contains_key(name)),
            Key::Address(device, address) => {
                let same = self.addresses.iter().filter(|a| (&a.device, &a.address) == (device, address));
                Value::prefix_lengths(same.map(|address| address.prefix_len).collect())
            }
            Key::Neighbour(device, address) => {
                self.neighbours.get(&(device.clone(), *address)).map_or(Value::Absent, |mac| Value::Mac(*mac))
            }
            Key::Fdb(device, mac) => {
                Value::endpoints(self.fdb.get(&(device.clone(), *mac)).copied().into_iter().collect())
            }
            Key::Route(destination) => Value::routes(self.routes.get(destination).cloned().into_iter().collect()),
            Key::Element(table, set, key) => {
                let table = self.table.as_ref().filter(|own| own.id == *table);
                let set = table.and_then(|table| table.sets.get(set));
                Value::present(set.is_some_and(|set| set.elements.contains_key(key)))
            }
            Key::Sysctl(_) | Key::Table(_) | Key::Rules(..) => Value::Absent,
        }
    }
}
