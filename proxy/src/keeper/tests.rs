//! One table in the real kernel.

mod limits;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use dataplane::monitor::{Event, Filter, Monitor, Subscription, Tables};
use dataplane::netns;
use dataplane::nft::{Operation, SetFlags, Socket, Table, Value};

use super::transactions::carry_out;
use super::{Keeper, MOST_PORTS, RunReport};
use crate::fixtures::{self, service_port, settings};
use crate::model::{Policy, PortKey, PortName, Protocol, ServicePort};
use crate::ruleset::{Settings, clients_of};
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
        let desired = self.keeper.ruleset().table();
        let mut is_desired = || {
            let table = self.socket.read_table(id.family, &id.name).expect("a readable table").expect("a table");
            compared(table) == desired
        };
        // While the kernel spreads a set that has just grown over more buckets, a dump of the set passes over elements.
        assert!((0..20).any(|_| is_desired()), "the kernel has what is desired");
        for (set, size) in self.keeper.ruleset().sizes() {
            let elements = desired.sets.get(&set.to_string()).map_or(0, |set| set.elements.len());
            assert_eq!(usize::try_from(*size), Ok(elements), "{set}");
        }
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

/// Service ports by number, each with its own cluster IP and these endpoints.
fn many(numbers: std::ops::Range<u16>, endpoints: &[u8]) -> BTreeMap<PortKey, Option<Resolved>> {
    let one = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let port = ServicePort {
            name: PortName::new("default", &format!("many-{number}"), "http", Protocol::Tcp),
            cluster_ip: [172, 30, 100 + high, low].into(),
            node_port: None,
            ..service_port("a", Protocol::Tcp)
        };
        (port.key(), Some(fixtures::resolved(port, endpoints)))
    };
    numbers.map(one).collect()
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
fn many_changes_at_once_are_the_difference_of_everything() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        bed.update(&[("a", &[1]), ("sticky", &[1, 2])]);
        add_client(0, "10.0.0.9", "sticky");
        let most = u16::try_from(MOST_PORTS).expect("a small number");
        bed.keeper.update(&many(0..most, &[1]));
        assert!(!bed.keeper.needs_full(), "so many changes are known one by one");
        bed.run();
        bed.keeper.update(&many(0..most + 1, &[1, 2]));
        assert!(bed.keeper.needs_full(), "more are compared");
        let report = bed.run();
        let counts = &report.counts;
        assert!(
            counts.keys().all(|kind| ["add-element", "delete-element"].contains(kind)),
            "the table stays: {counts:?}"
        );
        let gone = many(0..most + 1, &[]).into_keys().map(|key| (key, None));
        bed.keeper.update(&gone.collect());
        bed.run();
        assert_eq!(names(&mut bed, 0), ["10.0.0.9 6"], "and so do their clients");
        assert_eq!(bed.heal(), 0, "own changes are no news");
    })
    .expect("a namespace");
}

/// What is programmed before the process ends, and what the next one is to program.
const BEFORE: [(&str, &[u8]); 4] = [("a", &[1]), ("bb", &[1, 2, 3]), ("sticky", &[1, 2, 3]), ("dddd", &[])];
const AFTER: [(&str, &[u8]); 4] =
    [("bb", &[3, 4]), ("sticky", &[2, 3, 5, 6]), ("dddd", &[1, 2, 3, 4, 5]), ("eeeee", &[1])];

/// A process ends after so many transactions of a change, and another one takes its place. Returns false where there are no more
/// transactions than that. With `single`, each op has a transaction of its own.
fn end_after(transactions: usize, is_first: bool, single: bool) -> bool {
    let mut has_ended = false;
    netns::scratch(|| {
        let mut bed = Bed::open();
        if !is_first {
            bed.update(&BEFORE);
            add_client(2, "10.0.0.3", "sticky");
        }
        let ports: BTreeMap<_, _> = AFTER.iter().map(|(name, endpoints)| resolved(name, endpoints)).collect();
        let gone = resolved("a", &[]).0;
        bed.keeper.update(&ports.into_iter().chain([(gone, None)]).collect());
        let ops = if is_first {
            bed.keeper.creation()
        } else {
            let id = bed.keeper.ruleset().id();
            bed.socket.apply(&std::mem::take(&mut bed.keeper.extension)).expect("room");
            bed.keeper.sets = bed.keeper.ruleset().sets();
            let present = bed.socket.read_table_without_elements(id.family, &id.name).expect("a readable table");
            let present = present.expect("a table");
            let differences = bed.keeper.differences(&present, &mut bed.socket, |_| true).expect("a readable table");
            bed.keeper.ops(differences, &mut bed.socket).expect("readable clients")
        };
        let (mut left, socket) = (transactions, &mut bed.socket);
        let apply = |operations: &[Operation]| {
            let is_batch = changes(operations) > 1;
            if left == 0 || (single && is_batch) {
                has_ended |= left == 0;
                return Err(dataplane::nft::Error::Unanswered(0));
            }
            left -= 1;
            socket.apply(operations)
        };
        carry_out(apply, &ops);
        let mut next = Bed::open();
        // It compares the kernel's table with what is desired.
        next.update(&AFTER);
        if !is_first {
            // The client has its endpoint, or none yet.
            let clients: Vec<String> = (0..4).flat_map(|number| names(&mut next, number)).collect();
            assert!(clients.iter().all(|client| client == "10.0.0.3 6"), "{clients:?}");
        }
        assert_eq!(next.update(&AFTER).applied, 0, "nothing is left to do");
    })
    .expect("a namespace");
    has_ended
}

/// How many elements operations change, with the table and many elements at once as one each.
fn changes(operations: &[Operation]) -> usize {
    let (mut added, mut removed) = (0, 0);
    for operation in operations {
        match operation {
            Operation::AddElements(elements) => added += elements.elements.len(),
            Operation::DeleteElements(elements) => removed += elements.elements.len(),
            _ => added += 1,
        }
    }
    added.max(removed)
}

#[test]
fn whenever_a_process_ends_the_next_one_ends_with_the_same_table() {
    for (is_first, single) in [(true, true), (false, false), (false, true)] {
        let ends = (0..100).take_while(|transactions| end_after(*transactions, is_first, single)).count();
        assert!((2..100).contains(&ends), "{ends} ends");
    }
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
        nft(&format!("add element ip netd-proxy clients-0 {{ 10.0.0.9 . {} timeout 60s }}", number("sticky")));
        assert_eq!(bed.heal(), 0, "what packets add is no deviation");
        nft("flush chain ip netd-proxy services");
        assert_eq!(bed.heal(), 1, "the rules: the table is made anew");
        let listed = nft("list map ip netd-proxy services-1");
        assert!(listed.contains("comment \"default/a:http\""), "elements say whose they are: {listed}");
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
        nft(&format!("add element ip netd-proxy clients-0 {{ 10.0.0.9 . {} timeout 60s }}", number("sticky")));
        let mut next = Bed::open();
        assert_eq!(next.update(&ports).applied, 0, "the table stays, endpoints keep their numbers");
        let listed = nft("list set ip netd-proxy clients-0");
        assert!(listed.contains("10.0.0.9"), "affinity survives: {listed}");
    })
    .expect("a namespace");
}

#[test]
fn changed_settings_change_their_elements_and_no_others() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        bed.update(&[("a", &[1]), ("sticky", &[1, 2])]);
        nft(&format!("add element ip netd-proxy clients-0 {{ 10.0.0.9 . {} timeout 60s }}", number("sticky")));
        for (ranges, count) in [
            (&["172.30.0.0/16", "172.31.0.0/16"][..], 1),
            (&["172.30.0.0/15"], 3),
            (&["172.30.0.0/17", "172.30.128.0/18"], 3),
            (&[], 2),
        ] {
            let service_cidrs = ranges.iter().map(|range| range.parse().expect("a range")).collect();
            bed.keeper.set_settings(Settings { service_cidrs, ..settings() });
            let report = bed.run();
            assert_eq!(report.applied, count, "{ranges:?}: {:?}", report.counts);
        }
        nft("add element ip netd-proxy service-cidrs { 10.0.0.0/8 }");
        assert_eq!(bed.heal(), 1, "a range of others");
        let listed = nft("list set ip netd-proxy clients-0");
        assert!(listed.contains("10.0.0.9"), "affinity survives: {listed}");
    })
    .expect("a namespace");
}

/// The number by which the kernel knows the clients of a Service, as `nft` writes it.
fn number(service: &str) -> String {
    Value::Priority(clients_of(&service_port(service, Protocol::Tcp), Policy::Cluster)).to_string()
}

/// Puts a client to the endpoint of a number of the Service `sticky`, or `sticky2`: one that has 50 of its 60 seconds left.
fn add_client(number: u32, client: &str, service: &str) {
    let element = format!("{client} . {} timeout 60s expires 50s", self::number(service));
    nft(&format!("add element ip netd-proxy clients-{number} {{ {element} }}"));
}

/// The clients of the endpoint of a number, with the whole seconds that they have left.
fn clients(bed: &mut Bed, number: u32) -> Vec<(String, u64)> {
    let id = bed.keeper.ruleset().id();
    let table = bed.socket.read_table(id.family, &id.name).expect("a readable table").expect("a table");
    let set = &table.sets[&format!("clients-{number}")];
    let left = |element: &dataplane::nft::Element| {
        assert_eq!(element.timeout, Some(Duration::from_mins(1)), "the timeout itself is the same");
        element.usage.expires.expect("a time").as_secs()
    };
    set.elements.iter().map(|(key, element)| (key.to_string(), left(element))).collect()
}

/// The clients' addresses and the lengths of their Services' names. All have some time left, and no more than they had.
fn names(bed: &mut Bed, number: u32) -> Vec<String> {
    let named = clients(bed, number).into_iter().map(|(key, left)| {
        assert!((1..=50).contains(&left), "{key} has {left} s left");
        let (client, of) = key.split_once(" . ").expect("a client and a number");
        let service = ["sticky", "sticky2"].into_iter().find(|service| self::number(service) == of).expect("a Service");
        format!("{client} {}", service.len())
    });
    named.collect()
}

#[test]
fn clients_go_with_their_endpoint_and_are_forgotten_with_it() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        bed.update(&[("sticky", &[1, 2, 3]), ("sticky2", &[1, 2, 3])]);
        add_client(0, "10.0.0.1", "sticky");
        add_client(1, "10.0.0.2", "sticky");
        add_client(2, "10.0.0.3", "sticky");
        add_client(2, "10.0.0.4", "sticky");
        add_client(0, "10.0.0.1", "sticky2");
        add_client(2, "10.0.0.3", "sticky2");
        bed.update(&[("sticky", &[2, 3])]);
        assert_eq!(names(&mut bed, 0), ["10.0.0.1 7", "10.0.0.3 6", "10.0.0.4 6"], "the last takes the first's number");
        assert_eq!(names(&mut bed, 1), ["10.0.0.2 6"], "who keeps its number keeps its clients");
        assert_eq!(names(&mut bed, 2), ["10.0.0.3 7"], "another Service's clients stay");
        bed.update(&[("sticky", &[2, 9])]);
        assert_eq!(names(&mut bed, 0), ["10.0.0.1 7"], "a new endpoint does not get the clients of the former one");
        nft("flush chain ip netd-proxy services");
        assert_eq!(bed.heal(), 1, "the table is made anew");
        assert_eq!(names(&mut bed, 1), ["10.0.0.2 6"], "and its clients are kept");
        let mut next = Bed::open();
        next.update(&[("sticky", &[9, 2]), ("sticky2", &[2, 3])]);
        assert_eq!(names(&mut next, 0), ["10.0.0.3 7"], "an endpoint has left while no process was there");
        assert_eq!(names(&mut next, 1), ["10.0.0.2 6"]);
    })
    .expect("a namespace");
}

#[test]
fn clients_are_those_of_a_service_port_whatever_address_they_use() {
    netns::scratch(|| {
        let mut bed = Bed::open();
        bed.update(&[("sticky", &[1, 2]), ("sticky2", &[1, 2])]);
        add_client(1, "10.0.0.1", "sticky");
        add_client(1, "10.0.0.1", "sticky2");
        let with = |name: &str, change: &dyn Fn(&mut crate::model::ServicePort)| {
            let mut port = service_port(name, Protocol::Tcp);
            change(&mut port);
            (port.key(), Some(fixtures::resolved(port, &[1, 2])))
        };
        bed.keeper.update(&[with("sticky", &|port| port.node_port = None)].into());
        bed.run();
        assert_eq!(
            names(&mut bed, 1),
            ["10.0.0.1 6", "10.0.0.1 7"],
            "the node port goes, and the cluster IP has the client"
        );
        let taken = service_port("sticky", Protocol::Tcp).node_port;
        bed.keeper.update(&[with("sticky2", &|port| port.node_port = taken)].into());
        bed.run();
        assert_eq!(names(&mut bed, 1), ["10.0.0.1 6", "10.0.0.1 7"], "the node port is another Service's");
    })
    .expect("a namespace");
}
