//! The part of a plan about devices: which devices are made, changed and removed.
//!
//! Pure.

use dataplane::link::{Link, LinkChange};
use dataplane::op::Op;
use dataplane::types::IfName;

use super::{Conflict, Diff};
use crate::backend::{self, DeviceTexts};
use crate::overlay::Device;

impl<'a> Diff<'a> {
    pub(super) fn devices(&mut self) {
        let mut to_make = Vec::new();
        for (name, device) in &self.desired.devices {
            match self.observed.links.get(name) {
                None => to_make.push((name, device)),
                Some(link) => match (adjustment(link, device, &self.identity.mark), link.tunnel()) {
                    (Some(change), _) => self.adjust(link, change),
                    (None, Some(tunnel)) if tunnel.is_like(&device.tunnel) => to_make.push((name, device)),
                    (None, _) => {
                        self.blocked.insert(name);
                        let texts = backend::texts(&device.tunnel);
                        self.plan.conflicts.push(Conflict::Name { name: name.clone(), texts });
                    }
                },
            }
        }
        to_make.retain(|(name, device)| self.has_place(name, device));
        // Two devices may have to swap names or sockets, so every device in the way is deleted before the first is made.
        for (name, device) in &to_make {
            self.make_room(name, device);
        }
        for (name, device) in to_make {
            self.make(name, device);
        }
    }

    /// False where a device that is not netd's keeps the kernel from making this one.
    fn has_place(&mut self, name: &'a IfName, device: &Device) -> bool {
        let others = self.observed.links.values().filter(|link| !self.desired.devices.contains_key(&link.name));
        let mut foreign = others.filter(|link| !self.identity.owns(link));
        let Some(other) = foreign.find(|link| excludes(link, device)) else { return true };
        let (other, texts) = (other.name.clone(), backend::texts(&device.tunnel));
        self.plan.conflicts.push(Conflict::Tunnel { name: name.clone(), other, texts });
        self.blocked.insert(name);
        false
    }

    /// Deletes the devices that the kernel does not take beside the new one: that of the same name, and others of ours.
    fn make_room(&mut self, name: &'a IfName, device: &Device) {
        let former = self.stale_devices().filter(|link| excludes(link, device));
        let gone: Vec<_> = self.observed.links.get(name).into_iter().chain(former).map(|link| &link.name).collect();
        for name in gone {
            if self.replaced.insert(name) {
                self.push(Op::DeleteLink(name.clone()));
            }
        }
    }

    fn make(&mut self, name: &'a IfName, device: &Device) {
        self.replaced.insert(name);
        let Device { tunnel, underlay, mac, mtu } = device.clone();
        self.push(Op::AddTunnel { name: name.clone(), tunnel, underlay, mac, mtu });
        let alias = Some(self.identity.mark.clone());
        self.push(Op::SetLink { name: name.clone(), change: LinkChange { alias, ..LinkChange::default() } });
    }

    fn adjust(&mut self, link: &'a Link, change: LinkChange) {
        if change.mac.is_some() {
            self.forgetful.insert(&link.name);
        }
        if change != LinkChange::default() {
            self.push(Op::SetLink { name: link.name.clone(), change });
        }
    }

    pub(super) fn bridge(&mut self) {
        let Some(bridge) = &self.desired.bridge else { return };
        let (name, link) = (&bridge.name, self.observed.links.get(&bridge.name));
        match (link, link.and_then(|link| bridge.adjustment(link))) {
            (None, _) => {
                self.replaced.insert(name);
                self.push(Op::AddBridge { name: name.clone(), mac: bridge.mac, mtu: bridge.mtu });
                // Pods must not configure the node by router advertisements.
                if bridge.mtu.carries_ipv6() {
                    let key = format!("net/ipv6/conf/{name}/accept_ra");
                    self.push(Op::SetSysctl { key, value: "0".to_owned() });
                }
            }
            (Some(_), None) => {
                self.blocked.insert(name);
                let texts = DeviceTexts { kind: "bridge", identity: "name", remedy: "" };
                self.plan.conflicts.push(Conflict::Name { name: name.clone(), texts });
            }
            (Some(link), Some(change)) => self.adjust(link, change),
        }
    }

    /// Puts pods that are on no bridge back on theirs.
    pub(super) fn ports(&mut self) {
        let Some(bridge) = self.desired.bridge.as_ref().filter(|bridge| self.usable(&bridge.name)) else { return };
        let is_alone = |port: &IfName| self.observed.links.get(port).is_some_and(|link| link.master.is_none());
        let ports: Vec<&IfName> = bridge.ports.iter().filter(|port| is_alone(port)).collect();
        for port in ports {
            self.push(Op::SetPort { name: port.clone(), bridge: bridge.name.clone() });
            // The plugin sets the ports of netd's own configuration so.
            self.push(Op::SetHairpin(port.clone()));
        }
    }

    /// Devices of ours that are not desired any more.
    fn stale_devices(&self) -> impl Iterator<Item = &'a Link> + use<'a> {
        let (desired, identity) = (self.desired, self.identity);
        let links = self.observed.links.values();
        links.filter(move |link| identity.owns(link) && !desired.devices.contains_key(&link.name))
    }

    pub(super) fn devices_to_remove(&mut self) {
        for name in self.stale_devices().map(|link| &link.name) {
            if self.replaced.contains(name) {
                continue;
            }
            // Entries on the device go with it.
            self.plan.ops.retain(|op| !(op.is_removal() && op.device() == Some(name)));
            self.push(Op::DeleteLink(name.clone()));
        }
    }
}

/// What makes a link like `device`; `None` where the device has to be made anew.
pub(crate) fn adjustment(link: &Link, device: &Device, mark: &str) -> Option<LinkChange> {
    link.tunnel().is_some_and(|tunnel| *tunnel == device.tunnel).then(|| LinkChange {
        up: (!link.up).then_some(true),
        mtu: (link.mtu != device.mtu.get()).then_some(device.mtu),
        mac: device.mac.filter(|mac| link.mac != Some(*mac)),
        alias: (link.alias.as_deref() != Some(mark)).then(|| mark.to_owned()),
        promiscuous: None,
    })
}

fn excludes(link: &Link, device: &Device) -> bool {
    link.tunnel().is_some_and(|tunnel| tunnel.excludes(&device.tunnel))
}
