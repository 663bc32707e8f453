//! Which flows are stale, on paper and in the real kernel.

use std::net::UdpSocket;
use std::process::Command;

use dataplane::conntrack::Tuple;
use dataplane::netns;
use dataplane::nft::Socket;

use super::*;
use crate::fixtures::{resolved, service_port, settings};
use crate::keeper::Keeper;

const UDP: u8 = 17;

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// A flow from a client to `to`, whose answers come from `from`.
fn flow(to: &str, from: &str) -> Flow {
    let client = socket("10.0.0.9:4000");
    let tuple = |source, destination| Tuple { source, destination, protocol: UDP };
    let (original, reply) = (tuple(client, socket(to)), tuple(socket(from), client));
    Flow { original, reply, status: 0, zone: 0, id: 0, packets: 0, bytes: 0 }
}

/// The service port of UDP with that name, and its endpoints `10.180.0.1:80` and so on.
fn change(name: &str, endpoints: &[u8]) -> Change {
    let port = service_port(name, Protocol::Udp);
    let serving = resolved(port.clone(), endpoints).cluster.into_iter().collect();
    (port.key(), Some((Arc::new(port), serving)))
}

fn gone(name: &str) -> Change {
    (service_port(name, Protocol::Udp).key(), None)
}

/// The flows that are stale after changes, by destination and the source of their answers; with `=` where one selection names them.
fn stale_after(changes: &[Vec<Change>], pairs: &[(&str, &str)]) -> Vec<String> {
    let mut state = Flows::default();
    for change in changes {
        state.due.clear();
        state.update(change.iter().cloned());
    }
    let flows: Vec<Flow> = pairs.iter().map(|(to, from)| flow(to, from)).collect();
    let found = stale(&flows, &state.due, &["192.168.0.2".parse().expect("an address")].into());
    let texts = found.into_iter().flat_map(|(selector, flows)| {
        let sign = if selector.is_some() { "=" } else { "" };
        flows.into_iter().map(move |flow| format!("{sign}{} {}", flow.original.destination, flow.reply.source))
    });
    texts.collect()
}

#[test]
fn flows_are_stale_unless_a_serving_endpoint_answers_them() {
    let all = [
        ("172.30.0.1:80", "10.180.0.1:80"),
        ("172.30.0.1:80", "10.180.0.2:80"),
        ("172.30.0.1:80", "172.30.0.1:80"),
        ("192.168.0.2:3001", "10.180.0.1:80"),
        ("192.168.0.2:3001", "192.168.0.2:3001"),
        // Another machine's port, and another port.
        ("192.168.7.7:3001", "192.168.7.7:3001"),
        ("172.30.0.1:81", "172.30.0.1:81"),
    ];
    let stale = stale_after(&[vec![change("a", &[2, 3])]], &all);
    let expected = [
        "172.30.0.1:80 10.180.0.1:80",
        "172.30.0.1:80 172.30.0.1:80",
        "192.168.0.2:3001 10.180.0.1:80",
        "192.168.0.2:3001 192.168.0.2:3001",
    ];
    assert_eq!(stale.iter().collect::<std::collections::BTreeSet<_>>(), expected.map(str::to_owned).iter().collect());
    let stale = stale_after(&[vec![change("a", &[])]], &all);
    let expected = ["192.168.0.2:3001 10.180.0.1:80", "172.30.0.1:80 10.180.0.1:80", "172.30.0.1:80 10.180.0.2:80"];
    assert_eq!(stale, expected, "without endpoints, flows that are not translated stay");
    let translated = &all[..2];
    let whole = ["=172.30.0.1:80 10.180.0.1:80", "=172.30.0.1:80 10.180.0.2:80"];
    assert_eq!(stale_after(&[vec![change("a", &[])]], translated), whole, "all of them: in one message");
    assert_eq!(stale_after(&[vec![change("a", &[1, 2])], vec![gone("a")]], translated), whole, "a deleted Service");
    assert!(stale_after(&[vec![gone("a")]], translated).is_empty(), "one that was never there");
}

#[test]
fn a_destination_that_another_service_gets_is_judged_by_its_endpoints() {
    let (key, _) = change("a", &[]);
    let (other, port) = change("b", &[2]);
    let flows = [("172.30.0.1:80", "10.180.0.1:80"), ("172.30.0.1:80", "10.180.0.2:80")];
    let stale = stale_after(&[vec![change("a", &[1])], vec![(other, port), (key, None)]], &flows);
    assert_eq!(stale, ["172.30.0.1:80 10.180.0.1:80"], "whatever the order of the changes");
}

/// A keeper, the state of flows and their sockets, in a namespace of a node.
struct Bed {
    keeper: Keeper,
    socket: Socket,
    flows: Flows,
    kernel: Kernel,
    now: Duration,
}

impl Bed {
    fn open() -> Self {
        for command in [
            "link set lo up",
            "address add 192.168.0.2/32 dev lo",
            "address add 10.180.0.1/32 dev lo",
            "address add 10.180.0.2/32 dev lo",
            "route add 172.30.0.0/16 dev lo",
        ] {
            let status = Command::new("ip").args(command.split(' ')).status().expect("ip: install iproute2");
            assert!(status.success(), "ip {command}");
        }
        let keeper = Keeper::new(settings());
        let socket = Socket::open().expect("a socket");
        let kernel = Kernel::open().expect("sockets");
        let mut bed = Self { keeper, socket, flows: Flows::default(), kernel, now: Duration::ZERO };
        bed.run(&[]);
        bed
    }

    /// Brings the kernel up to changes. Returns how many flows are deleted.
    fn run(&mut self, endpoints: &[(&str, Option<&[u8]>)]) -> usize {
        let port = |name: &str| service_port(name, Protocol::Udp);
        let ports = endpoints
            .iter()
            .map(|(name, endpoints)| (port(name).key(), endpoints.map(|endpoints| resolved(port(name), endpoints))));
        self.keeper.update(&ports.collect());
        let report = self.keeper.run(&mut self.socket, self.now).expect("a readable table");
        assert!(report.is_clean(), "{:?}", report.failed);
        let changes =
            endpoints.iter().map(|(name, endpoints)| endpoints.map_or_else(|| gone(name), |of| change(name, of)));
        self.flows.update(changes);
        self.clean()
    }

    fn clean(&mut self) -> usize {
        self.now += Duration::from_millis(1);
        let deleted = self.flows.clean(&mut self.kernel, Family::V4, &NodePorts::All, self.now);
        deleted.expect("flows that can be read and deleted").unwrap_or_default()
    }
}

fn listen(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a free port");
    socket.set_nonblocking(true).expect("a socket that does not wait");
    socket
}

/// What the server got. The loopback device delivers a datagram before it is sent.
fn received(server: &UdpSocket) -> usize {
    let mut buffer = [0; 8];
    std::iter::from_fn(|| server.recv(&mut buffer).ok()).count()
}

#[test]
fn a_client_that_keeps_its_port_reaches_the_endpoints_of_the_moment() {
    netns::scratch(|| {
        let (first, second) = (listen("10.180.0.1:80"), listen("10.180.0.2:80"));
        // Programs of the node whose port later becomes a node port: only the first one's address has node ports.
        let own = listen("192.168.0.2:3001");
        let foreign = listen("127.0.0.1:3001");
        let mut bed = Bed::open();
        let client = UdpSocket::bind("192.168.0.2:4000").expect("a free port");
        let local = UdpSocket::bind("127.0.0.1:4000").expect("a free port");
        let send = || {
            for to in ["172.30.0.1:80", "192.168.0.2:3001"] {
                let _ = client.send_to(b"x", to);
            }
            local.send_to(b"x", "127.0.0.1:3001").expect("a datagram on its way");
        };
        send();
        assert_eq!((received(&own), received(&foreign)), (1, 1), "no Service yet");
        assert_eq!(bed.run(&[("a", Some(&[1]))]), 1, "the flow to the node port began before the Service");
        send();
        assert_eq!((received(&first), received(&own)), (2, 0), "the first endpoint, at once");
        assert_eq!(bed.run(&[("a", Some(&[2]))]), 2, "its flows");
        send();
        assert_eq!((received(&first), received(&second)), (0, 2), "the endpoint that has taken its place");
        assert_eq!(bed.run(&[("a", Some(&[2, 1]))]), 0, "a flow to an endpoint that serves stays");
        send();
        assert_eq!((received(&first), received(&second)), (0, 2));
        assert_eq!(bed.run(&[("a", Some(&[]))]), 2, "no endpoint");
        assert_eq!(bed.run(&[("a", Some(&[1]))]), 0, "nothing was sent meanwhile");
        send();
        assert_eq!((received(&first), received(&second)), (2, 0));
        assert_eq!(bed.run(&[("a", None)]), 2, "the Service is deleted");
        assert_eq!(received(&foreign), 4, "a node port's number on a loopback address is none of ours");
    })
    .expect("a namespace");
}

#[test]
fn what_was_under_way_during_the_first_look_is_found_by_the_second() {
    netns::scratch(|| {
        let (_first, second) = (listen("10.180.0.1:80"), listen("10.180.0.2:80"));
        let mut bed = Bed::open();
        let client = UdpSocket::bind("192.168.0.2:4000").expect("a free port");
        bed.run(&[("a", Some(&[1])), ("bb", Some(&[1]))]);
        bed.now += Duration::from_secs(1);
        assert_eq!((bed.clean(), bed.flows.next()), (0, None), "twice, not for ever");
        bed.flows.update([change("a", &[2])]);
        assert_eq!(bed.clean(), 0);
        // As a packet does that was translated before the change and leaves after the look.
        client.send_to(b"x", "172.30.0.1:80").expect("a datagram on its way");
        assert_eq!(bed.clean(), 0, "not yet");
        bed.now = bed.flows.next().expect("a second look");
        assert_eq!(bed.clean(), 1);
        assert_eq!(bed.flows.next(), None);
        bed.run(&[("a", Some(&[2]))]);
        client.send_to(b"x", "172.30.0.1:80").expect("a datagram on its way");
        assert_eq!(received(&second), 1);
    })
    .expect("a namespace");
}

#[test]
fn flows_of_a_service_that_was_deleted_while_no_process_ran_are_found_at_the_start() {
    netns::scratch(|| {
        let (first, own) = (listen("10.180.0.1:80"), listen("192.168.0.2:3001"));
        let mut bed = Bed::open();
        let client = UdpSocket::bind("192.168.0.2:4000").expect("a free port");
        bed.run(&[("a", Some(&[1])), ("bb", Some(&[1]))]);
        for to in ["172.30.0.1:80", "192.168.0.2:3001", "172.30.0.2:80"] {
            client.send_to(b"x", to).expect("a datagram on its way");
        }
        assert_eq!(received(&first), 3);

        bed.keeper = Keeper::new(settings());
        bed.keeper.adopt(&mut bed.socket).expect("a readable table");
        bed.flows = Flows::default();
        assert_eq!(bed.run(&[("bb", Some(&[1]))]), 0, "a flow to an endpoint that serves stays");
        bed.flows.forget(Family::V4, bed.keeper.take_gone());
        assert_eq!(bed.clean(), 2, "the flows to the cluster IP and the node port of a");
        client.send_to(b"x", "192.168.0.2:3001").expect("a datagram on its way");
        assert_eq!((received(&first), received(&own)), (0, 1), "the node port is the node's own port again");
    })
    .expect("a namespace");
}
