//! On the running kernel: after the notifications of a change, the deviations are those that a dump has.

use dataplane::kernel::Linux;
use dataplane::monitor::{Monitor, Subscription};
use dataplane::netns::scratch;

use super::*;
use crate::fixtures::sh;
use crate::fixtures::{DUAL, Network, Peer, far, near, vxlan};
use crate::observe::{self, Observed};
use crate::overlay::masquerade::Ports;

/// Changes of which the notifications say all.
const CLEAR: [&str; 18] = [
    "ip route delete 10.244.2.0/24",
    "ip route replace 10.244.2.0/24 via 192.168.1.77 dev eth0 proto 110",
    "ip route replace 10.244.2.0/24 via 192.168.1.78 dev eth0",
    "ip route append 10.244.9.0/24 via 192.168.1.77 dev eth0 proto 110",
    "ip route add 10.244.2.0/24 via 192.168.1.77 dev eth0 metric 5",
    "ip route replace blackhole 10.244.3.0/24",
    "ip route delete blackhole 10.244.3.0/24; ip -6 route append prohibit fd00:10:0:8::/64",
    "ip -6 route replace unreachable fd00:10:0:3::/64",
    "ip -6 route delete fd00:10:0:2::/64",
    "ip -6 route add fd00:10:0:9::/64 via fd00:1::77 dev eth0 proto 110",
    "ip -6 route replace fd00:10:0:9::/64 via fd00:1::78 dev eth0 proto 110",
    "ip neigh delete 10.244.2.0 dev flannel.1",
    "ip neigh replace 10.244.2.0 dev flannel.1 lladdr 02:00:00:00:00:77 nud permanent",
    "ip neigh change 10.244.2.0 dev flannel.1 lladdr 02:00:00:00:00:77 nud reachable",
    "bridge fdb delete 0a:00:00:00:00:03 dev flannel.1 dst 192.168.2.3",
    "bridge fdb replace 0a:00:00:00:00:03 dev flannel.1 dst 192.168.1.77",
    "bridge fdb append 0a:00:00:00:00:55 dev flannel.1 dst 192.168.1.77",
    "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.168.1.77; \
     bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.168.1.78",
];

/// Changes that may need a dump, but must not be misread.
const UNCLEAR: [&str; 6] = [
    "ip route append 10.244.2.0/24 via 192.168.1.79 dev eth0; ip route replace 10.244.2.0/24 via 192.168.1.80 dev eth0",
    "ip route replace 10.244.3.0/24 nexthop via 192.168.1.77 nexthop via 192.168.1.78",
    "ip -6 route append fd00:10:0:3::/64 via fd00:1::77 dev eth0",
    "ip link set flannel.1 down; ip link set flannel.1 up",
    "ip link set flannel-v6.1 address 0a:00:00:00:00:98",
    "ip link delete flannel.1",
];

struct Node {
    network: Network,
    kernel: Linux,
    monitor: Monitor,
    subscription: Subscription,
    desired: Desired,
    view: KernelView,
    engine: Engine,
}

impl Node {
    fn new() -> Self {
        // Without an address of its own making, of which the kernel would notify a second later; and with a carrier that the kernel
        // has seen, since the change of the underlay's state would ask for a full run.
        sh("ip link set lo up; ip link add eth0 type veth peer name wire; ip link set eth0 addrgenmode none; \
            ip link set eth0 up; ip link set wire up; \
            ip address add 192.168.1.1/24 dev eth0; ip route add default via 192.168.1.254; \
            ip address add fd00:1::1/64 dev eth0 nodad; ip route add default via fd00:1::fe dev eth0; \
            until ip link show eth0 | grep -q 'state UP'; do sleep 0.01; done");
        let network = Network { masquerade: Some(Ports::Kernel), ..vxlan(DUAL, DUAL).peers([near(2), far(3)]) };
        let mut kernel = Linux::open().expect("netlink sockets");
        network.settle(&mut kernel);
        let mut monitor = Monitor::open().expect("a monitor");
        let desired = network.outcome(&mut kernel).expect("a network that can be carried").desired;
        let identity = network.identity();
        let observed = Self::read(&mut kernel, &network, &desired);
        let underlay = (observed.links[&"eth0".parse().expect("a name")].index, "eth0".parse().expect("a name"));
        let (table, port) = (identity.table(), kernel.nft_port());
        let filter = WatchFilter { identity, table, port, underlay, follows_routes: false };
        let mut engine = Engine::default();
        engine.adopt(observed.deviations(&desired, |to| filter.tracks(to)), BTreeSet::new(), true);
        let view = KernelView::new(observed.links, &desired, filter);
        let subscription = monitor.subscribe(view.subscription(&desired));
        Self { network, kernel, monitor, subscription, desired, view, engine }
    }

    fn read(kernel: &mut Linux, network: &Network, desired: &Desired) -> Observed {
        let host = observe::host(kernel, &network.identity()).expect("a readable kernel");
        observe::observed(kernel, host, &network.identity(), desired).expect("a readable kernel")
    }

    /// Takes all notifications; what was dirty is clean after that.
    fn notify(&mut self) -> reconcile::Dirty<Key> {
        for event in self.monitor.drain(self.subscription).expect("a working monitor") {
            self.view.notify(event, &self.desired, &mut self.engine);
        }
        let dirty = self.engine.dirty().clone();
        self.engine.adopt(self.engine.deviations().clone(), BTreeSet::new(), true);
        dirty
    }

    fn is_true(&mut self, after: &str) {
        let read = Self::read(&mut self.kernel, &self.network, &self.desired);
        let expected = read.deviations(&self.desired, |to| self.view.filter.tracks(to));
        assert_eq!(self.engine.deviations(), &expected, "after `{after}`");
    }
}

#[test]
fn notifications_say_what_a_dump_has() {
    scratch(|| {
        let mut node = Node::new();
        node.is_true("nothing");
        for injury in CLEAR {
            sh(injury);
            let dirty = node.notify();
            assert!(!dirty.resync && !dirty.full, "`{injury}` needs no dump: {dirty:?}");
            assert!(!dirty.keys.is_empty(), "`{injury}` is noticed");
            node.is_true(injury);
        }
    })
    .expect("a new namespace");
}

#[test]
fn a_notification_that_does_not_say_all_requires_a_resync() {
    for injury in UNCLEAR {
        scratch(|| {
            let mut node = Node::new();
            sh(injury);
            let dirty = node.notify();
            assert!(dirty != reconcile::Dirty::default(), "`{injury}` is noticed");
            if !dirty.resync {
                node.is_true(injury);
            }
        })
        .expect("a new namespace");
    }
}

#[test]
fn an_element_that_a_stranger_puts_into_our_table_requires_a_full_run() {
    scratch(|| {
        let mut node = Node::new();
        sh("nft add set inet netd extra '{ type ipv4_addr; }'");
        assert!(node.notify().full, "a set that is not ours");
        sh("nft add element inet netd extra '{ 192.168.1.99 }'");
        assert!(node.notify().full, "an element of it");
    })
    .expect("a new namespace");
}

#[test]
fn own_changes_are_notified_by_the_time_that_they_are_made() {
    scratch(|| {
        let mut node = Node::new();
        let network = Network { ..node.network.clone() }.peers([near(2), near(4), Peer { host: 77, ..near(5) }]);
        let desired = network.outcome(&mut node.kernel).expect("a network that can be carried").desired;
        let before = Node::read(&mut node.kernel, &network, &desired);
        node.engine.adopt(before.deviations(&desired, |to| node.view.filter.tracks(to)), BTreeSet::new(), true);
        assert!(!node.engine.deviations().is_empty(), "peers came and went");
        network.settle(&mut node.kernel);
        (node.network, node.desired) = (network, desired);
        let dirty = node.notify();
        assert!(dirty == reconcile::Dirty::default(), "all is as desired: {dirty:?}");
        node.is_true("three peers came and went");
    })
    .expect("a new namespace");
}
