//! One table in the real kernel.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use dataplane::monitor::{Event, Filter, Monitor, Subscription, Tables};
use dataplane::netns;
use dataplane::nft::{SetFlags, Socket, Table};

use super::{Keeper, RunReport};
use crate::fixtures::{self, service_port, settings};
use crate::model::{PortKey, Protocol};
use crate::topology::Resolved;

/// A keeper with the kernel that it works on.
struct Bed {
    keeper: Keeper,
    socket: Socket,
    monitor: Monitor,
    subscription: Subscription,
    now: Duration,
}

impl Bed {
    fn open() -> Self {
        let mut monitor = Monitor::open().expect("a monitor");
        let subscription = monitor.subscribe(Filter::default());
        let mut socket = Socket::open().expect("a socket");
        let mut keeper = Keeper::new(settings());
        keeper.adopt(&mut socket).expect("a readable table");
        Self { keeper, socket, monitor, subscription, now: Duration::ZERO }
    }

    fn update(&mut self, ports: &[(&str, &[u8])]) -> RunReport {
        let ports: BTreeMap<PortKey, Option<Resolved>> =
            ports.iter().map(|(name, endpoints)| resolved(name, endpoints)).collect();
        self.keeper.update(&ports);
        self.run()
    }

    fn run(&mut self) -> RunReport {
        self.now += Duration::from_secs(1);
        let (id, filter) = self.keeper.filter(self.socket.port());
        let filter = Filter { tables: Tables::Only([(id, filter)].into()), ..Filter::default() };
        self.monitor.set_filter(self.subscription, filter);
        let report = self.keeper.run(&mut self.socket, self.now).expect("a readable table");
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        let id = self.keeper.ruleset().id();
        let table = self.socket.read_table(id.family, &id.name).expect("a readable table").expect("a table");
        assert!(compared(table) == self.keeper.ruleset().table(), "the kernel has what is desired");
        report
    }

    /// Takes the notifications that wait. Returns how many ops a run needs then.
    fn heal(&mut self) -> usize {
        for event in self.monitor.drain(self.subscription).expect("notifications") {
            match event {
                Event::Table(change) => self.keeper.notify(&change),
                Event::Overrun => self.keeper.lose(),
                _ => {}
            }
        }
        if self.keeper.is_dirty() { self.run().applied } else { 0 }
    }
}

/// A table without what is not compared: comments of elements, and what packets have added.
fn compared(mut table: Table) -> Table {
    for set in table.sets.values_mut() {
        if set.flags.has(SetFlags::DYNAMIC) {
            set.elements.clear();
        }
        set.elements.values_mut().for_each(|element| element.comment = None);
    }
    table
}

fn nft(command: &str) -> String {
    let output = Command::new("nft").arg(command).output().expect("nft");
    assert!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A Service's port; see the fixture.
fn resolved(name: &str, endpoints: &[u8]) -> (PortKey, Option<Resolved>) {
    let port = service_port(name, Protocol::Tcp);
    (port.key(), Some(fixtures::resolved(port, endpoints)))
}

#[test]
fn a_changed_endpoint_changes_its_elements_and_no_others() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        bed.update(&[("a", &[1]), ("bb", &[1, 2, 3]), ("ccc", &[4, 5, 6]), ("dddd", &[])]);
        let report = bed.update(&[("bb", &[1, 9, 3])]);
        assert_eq!(report.applied, 2, "the cluster IP's element and the node port's");
        let report = bed.update(&[("bb", &[1, 9])]);
        assert!(report.counts.keys().all(|kind| *kind != "replace-table"), "{:?}", report.counts);
        bed.update(&[("bb", &[1, 9, 3, 7, 8]), ("sticky", &[1, 2])]);
        bed.update(&[("sticky", &[2, 3, 4])]);
        assert_eq!(bed.heal(), 0, "own changes are no news");
        let listed = nft("list table ip netd-proxy");
        assert!(listed.contains("172.30.0.1 . tcp . 80 comment \"default/a:http\" : 10.180.0.1 . 80"), "{listed}");
    })
    .expect("a namespace");
}

#[test]
fn what_others_change_is_healed() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        bed.update(&[("a", &[1]), ("bb", &[1, 2, 3]), ("sticky", &[1, 2])]);
        nft("delete element ip netd-proxy services-1 { 172.30.0.1 . tcp . 80 }");
        assert_eq!(bed.heal(), 1, "an element that is gone");
        nft("add element ip netd-proxy services-1 { 172.30.0.77 . tcp . 80 : 10.66.6.6 . 80 }");
        assert_eq!(bed.heal(), 1, "an element of others");
        nft("add element ip netd-proxy services-clients-0 { 10.0.0.9 . 172.30.0.6 . tcp . 80 timeout 60s }");
        assert_eq!(bed.heal(), 0, "what packets add is no deviation");
        nft("flush chain ip netd-proxy services");
        assert_eq!(bed.heal(), 1, "the rules: the table is made anew");
        nft("delete table ip netd-proxy");
        assert!(bed.heal() > 1, "the table");
        nft("add table ip others");
        assert_eq!(bed.heal(), 0, "another table");
    })
    .expect("a namespace");
}

#[test]
fn a_restart_changes_nothing() {
    netns::scratch(|| {
        let ports: [(&str, &[u8]); 3] = [("a", &[1]), ("bb", &[1, 2, 4]), ("sticky", &[1, 2])];
        let mut bed = Bed::open();
        bed.update(&[("a", &[1]), ("bb", &[1, 2, 3, 4]), ("sticky", &[5, 1, 2])]);
        bed.update(&ports);
        nft("add element ip netd-proxy services-clients-0 { 10.0.0.9 . 172.30.0.6 . tcp . 80 timeout 60s }");
        let mut next = Bed::open();
        assert_eq!(next.update(&ports).applied, 0, "the table stays, endpoints keep their numbers");
        let listed = nft("list set ip netd-proxy services-clients-0");
        assert!(listed.contains("10.0.0.9"), "affinity survives: {listed}");
    })
    .expect("a namespace");
}
