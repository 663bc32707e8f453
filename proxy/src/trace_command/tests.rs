use super::*;
use crate::fixtures::{resolved, service_port, settings};
use crate::ruleset::Ruleset;

fn arguments(words: &[&str]) -> Result<Arguments, String> {
    read(["trace"].iter().chain(words).map(OsString::from)).map_err(|error| error.to_string())
}

#[test]
fn arguments_are_read_and_faults_told() {
    let udp = arguments(&["10.0.0.2", "172.30.0.1:53/udp"]).expect("arguments");
    assert_eq!(udp.destination.protocol, Protocol::Udp);
    let tcp = arguments(&["fd00::1", "[fd00::2]:80"]).expect("arguments");
    assert_eq!((tcp.destination.protocol, tcp.destination.address.port()), (Protocol::Tcp, 80));
    let fault = |destination| arguments(&["10.0.0.2", destination]).expect_err("a fault");
    assert!(fault("172.30.0.1").contains("172.30.0.1 is not ADDRESS:PORT"));
    assert!(fault("172.30.0.1:53/icmp").contains("icmp is no protocol of Services: tcp, udp or sctp is one"));
    let mixed = arguments(&["10.0.0.2", "[fd00::2]:80"]).expect("arguments");
    assert!(matches!(run(&mixed), Err(TraceError::Families)));
}

#[test]
fn each_end_is_told_once_with_its_rules() {
    let mut ruleset = Ruleset::new(settings());
    let port = service_port("a", Protocol::Tcp);
    let update = |endpoints: &[u8]| [(port.key(), Some(resolved(port.clone(), endpoints)))].into();
    ruleset.update(&update(&[1, 2]));
    let own = BTreeSet::from(["192.168.0.2".parse().expect("an address")]);
    let told = |ruleset: &Ruleset, source: &str| {
        text(&arguments(&[source, "172.30.0.1:80"]).expect("arguments"), &ruleset.table(), &own)
    };
    let of_pod = told(&ruleset, "10.0.0.2");
    let ends: Vec<&str> = of_pod.lines().filter(|line| !line.starts_with(' ')).collect();
    let end = |number: u8| format!("a packet of 10.0.0.2 to 172.30.0.1:80/tcp goes to 10.180.0.{number}:80");
    assert_eq!(ends, [end(1), end(2)]);
    assert!(of_pod.contains("    services: ip daddr . meta l4proto . th dport @services-2 dnat"), "{of_pod}");
    let of_node = told(&ruleset, "192.168.0.2");
    assert!(of_node.contains("goes to 10.180.0.1:80 with an address of this node as its source\n"), "{of_node}");
    ruleset.update(&update(&[]));
    let refused = told(&ruleset, "10.0.0.2");
    assert!(refused.starts_with("a packet of 10.0.0.2 to 172.30.0.1:80/tcp is rejected\n"), "{refused}");
    assert!(refused.contains("@reject-services"), "{refused}");
}
