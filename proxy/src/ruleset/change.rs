//! The desired table, and what a changed service port changes in it. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use dataplane::nft::{self, Records, Set, SetFlags, Table, TableId};

use super::adopt::{self, Adopted};
use super::contents::Contents;
use super::element::{self, Element, Elements, Front, Pools, Presence, Shared, is_shared};
use super::name::SetName;
use super::rules::{self, Shape};
use super::settings::Settings;
use crate::model::{PortKey, ServicePort};
use crate::topology::Resolved;

/// What changes in the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The sets and chains are others: those of [`Ruleset::skeleton`].
    pub skeleton: bool,
    /// The elements that change, each with what it was and what it is.
    pub elements: BTreeMap<Element, (Presence, Presence)>,
}

/// A service port as it is in the table.
#[derive(Debug)]
struct Placed {
    port: Arc<ServicePort>,
    pools: Pools,
}

/// The table of one family: all service ports of that family, each with its endpoints in an order that is kept.
#[derive(Debug)]
pub struct Ruleset {
    settings: Settings,
    /// What the table has room for. It grows; what is not used any more goes when the table is made anew.
    shape: Shape,
    /// The table without the elements of Services: it follows from the settings and the shape.
    skeleton: Arc<Table>,
    ports: BTreeMap<PortKey, Placed>,
    /// Which service port has an address and port, or a node port.
    fronts: BTreeMap<Front, PortKey>,
    /// In how many service ports an element is that several may have.
    shared: BTreeMap<Shared, u32>,
    /// How many elements each set has.
    sizes: BTreeMap<SetName, i64>,
    /// The order of endpoints in the table of an earlier process, of service ports that are not known yet.
    adopted: Adopted,
}

impl Ruleset {
    /// A table without Services.
    pub fn new(settings: Settings) -> Self {
        let shape = Shape::default();
        Self {
            skeleton: Arc::new(rules::table(&settings, &shape)),
            settings,
            shape,
            ports: BTreeMap::new(),
            fronts: BTreeMap::new(),
            shared: BTreeMap::new(),
            sizes: BTreeMap::new(),
            adopted: Adopted::new(),
        }
    }

    /// Takes up the numbers that endpoints have in a table of an earlier process, and the room that the table has: what is right in it stays.
    /// `read` gives the elements of a map of the table.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn adopt<E>(
        &mut self,
        table: &Table,
        read: impl FnMut(&str, &Set) -> Result<Option<Records>, E>,
    ) -> Result<(), E> {
        for name in adopt::sets(table) {
            self.shape.extend(name);
        }
        self.draw_skeleton();
        self.adopted = adopt::pools(table, read)?;
        Ok(())
    }

    fn draw_skeleton(&mut self) {
        self.skeleton = Arc::new(rules::table(&self.settings, &self.shape));
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The table's family and name.
    pub fn id(&self) -> TableId {
        rules::id(&self.settings)
    }

    /// Takes other settings. All that the settings decide of elements is decided anew.
    pub fn reset(&mut self, settings: Settings) {
        self.settings = settings;
        let placed: Vec<_> = std::mem::take(&mut self.ports).into_iter().collect();
        self.shared.clear();
        self.sizes.clear();
        for (key, placed) in placed {
            self.place(key, placed);
        }
        self.draw_skeleton();
    }

    /// The same as [`Ruleset::update`] where nobody asks what changes, as at the beginning: the changes of all Services at once would need
    /// more memory than all else.
    pub fn load(&mut self, ports: &BTreeMap<PortKey, Option<Resolved>>) {
        let mut formers = BTreeMap::new();
        for key in ports.keys() {
            let Some(former) = self.ports.remove(key) else { continue };
            for front in element::fronts(&former.port) {
                self.fronts.remove(&front);
            }
            for element in self.elements(&former).into_keys() {
                if !is_shared(element.set) || self.release(&element) {
                    *self.sizes.entry(element.set).or_default() -= 1;
                }
            }
            formers.insert(key, former.pools);
        }
        for (key, resolved) in ports {
            let Some(resolved) = resolved else { continue };
            let former = formers.remove(key).unwrap_or_else(|| self.take_adopted(&resolved.port));
            let placed = Placed { port: resolved.port.clone(), pools: Pools::arrange(&former, resolved) };
            self.fronts.extend(element::fronts(&placed.port).map(|front| (front, key.clone())));
            self.place(key.clone(), placed);
        }
        self.draw_skeleton();
    }

    /// Adds, changes and removes service ports of the table's family. One may get a destination that another one of them had.
    pub fn update(&mut self, ports: &BTreeMap<PortKey, Option<Resolved>>) -> Change {
        let mut before = Elements::new();
        let mut formers = BTreeMap::new();
        for key in ports.keys() {
            let Some(former) = self.ports.remove(key) else { continue };
            for front in element::fronts(&former.port) {
                self.fronts.remove(&front);
            }
            for (element, data) in self.elements(&former) {
                if !is_shared(element.set) || self.release(&element) {
                    before.insert(element, data);
                }
            }
            formers.insert(key, former.pools);
        }
        let mut change = Change::default();
        for (key, resolved) in ports {
            let Some(resolved) = resolved else { continue };
            let former = formers.remove(key).unwrap_or_else(|| self.take_adopted(&resolved.port));
            let placed = Placed { port: resolved.port.clone(), pools: Pools::arrange(&former, resolved) };
            for (element, data) in self.elements(&placed) {
                if is_shared(element.set) && !self.claim(&element) {
                    continue;
                }
                let former = before.remove(&element);
                if former.as_ref() != Some(&data) {
                    change.skeleton |= former.is_none() && self.shape.extend(element.set);
                    change.elements.insert(element, (former, Some(data)));
                }
            }
            self.fronts.extend(element::fronts(&placed.port).map(|front| (front, key.clone())));
            self.ports.insert(key.clone(), placed);
        }
        change.elements.extend(before.into_iter().map(|(element, data)| (element, (Some(data), None))));
        if change.skeleton {
            self.draw_skeleton();
        }
        for (element, (former, desired)) in &change.elements {
            *self.sizes.entry(element.set).or_default() += i64::from(desired.is_some()) - i64::from(former.is_some());
        }
        change
    }

    /// The destinations that the table of an earlier process leads to endpoints and no service port has now. To be called once all service
    /// ports are known; a second call gives nothing.
    pub fn take_gone(&mut self) -> Vec<Front> {
        let adopted = std::mem::take(&mut self.adopted);
        adopted.into_keys().filter(|front| !self.fronts.contains_key(front)).collect()
    }

    /// What an element should be.
    pub fn desired(&self, element: &Element) -> Presence {
        if let Some(shared) = Shared::of(element) {
            // A pair of two addresses is no endpoint to itself.
            let is_pair = element.key.0.iter().all(|part| Some(part) == element.key.0.first());
            return (is_pair && self.shared.contains_key(&shared)).then_some(None);
        }
        if matches!(element.set, SetName::ServiceCidrs | SetName::NodeIps | SetName::RejectedOnLoopback) {
            let set = self.skeleton.sets.get(&element.set.to_string())?;
            return set.elements.contains_key(&element.key).then_some(None);
        }
        let placed = self.ports.get(self.fronts.get(&element.front()?)?)?;
        self.elements(placed).remove(element)
    }

    /// For an element that holds an endpoint of a service port with affinity: the number by which the clients are known, and the endpoints in
    /// their order. `None` where no service port has the destination, or it has no affinity.
    pub fn drawn(&self, element: &Element) -> Option<(u32, &[SocketAddr])> {
        let SetName::Slot(lookup, _) = element.set else { return None };
        let front = element.front()?;
        let Placed { port, pools } = self.ports.get(self.fronts.get(&front)?)?;
        port.affinity?;
        let policy = element::policy(port, front, lookup.pool);
        Some((element::clients_of(port, policy), pools.of(policy)))
    }

    /// The service port that an element is of; `None` where several may have the element.
    pub fn owner(&self, element: &Element) -> Option<&PortKey> {
        if is_shared(element.set) { None } else { self.fronts.get(&element.front()?) }
    }

    /// The sets by name, with their flags.
    pub fn sets(&self) -> BTreeMap<String, (SetName, SetFlags)> {
        let sets = rules::sets(&self.settings, &self.shape).into_iter();
        sets.map(|(name, set)| (name.to_string(), (name, set.flags))).collect()
    }

    /// How many elements each set has that Services fill.
    pub fn sizes(&self) -> &BTreeMap<SetName, i64> {
        &self.sizes
    }

    /// The table without the elements of Services.
    pub fn skeleton(&self) -> &Arc<Table> {
        &self.skeleton
    }

    /// All elements of the sets that packets do not fill.
    pub fn contents(&self) -> BTreeMap<SetName, Contents> {
        let sets = rules::sets(&self.settings, &self.shape).into_iter().filter(|(_, set)| !set.is_dynamic());
        let mut contents: BTreeMap<_, _> = sets.map(|(name, set)| (name, Contents::of(set))).collect();
        for (key, placed) in &self.ports {
            let comment = element::comment(&key.name);
            for (Element { set, key }, data) in self.elements(placed) {
                let comment = (!is_shared(set)).then(|| comment.clone());
                if let Some(contents) = contents.get_mut(&set) {
                    contents.put(key, nft::Element { data, comment, ..nft::Element::default() });
                }
            }
        }
        contents
    }

    /// The whole table.
    #[cfg(test)]
    pub fn table(&self) -> Table {
        let mut table = Table::clone(&self.skeleton);
        for (element, data) in self.ports.values().flat_map(|placed| self.elements(placed)) {
            if let Some(set) = table.sets.get_mut(&element.set.to_string()) {
                set.elements.insert(element.key, nft::Element { data, ..nft::Element::default() });
            }
        }
        table
    }

    fn elements(&self, placed: &Placed) -> Elements {
        element::of(&placed.port, &placed.pools, &self.settings)
    }

    fn take_adopted(&mut self, port: &ServicePort) -> Pools {
        element::fronts(port).find_map(|front| self.adopted.remove(&front)).unwrap_or_default()
    }

    fn place(&mut self, key: PortKey, placed: Placed) {
        for element in self.elements(&placed).into_keys() {
            self.shape.extend(element.set);
            if !is_shared(element.set) || self.claim(&element) {
                *self.sizes.entry(element.set).or_default() += 1;
            }
        }
        self.ports.insert(key, placed);
    }

    /// One more service port has the element. Returns true for the first.
    fn claim(&mut self, element: &Element) -> bool {
        let Some(shared) = Shared::of(element) else { return true };
        let owners = self.shared.entry(shared).or_default();
        *owners += 1;
        *owners == 1
    }

    /// One service port less has the element. Returns true for the last.
    fn release(&mut self, element: &Element) -> bool {
        let Some(shared) = Shared::of(element) else { return true };
        let Some(owners) = self.shared.get_mut(&shared) else { return false };
        *owners -= 1;
        let is_last = *owners == 0;
        if is_last {
            self.shared.remove(&shared);
        }
        is_last
    }
}
