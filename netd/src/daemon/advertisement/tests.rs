use dataplane::types::PerFamily;
use network::fixtures::{node_name, prefix};
use network::model::BackendType;

use super::*;

const LATE: Duration = Duration::from_mins(1);
const TUNNEL: Encapsulation =
    Encapsulation::Vxlan(network::backend::vxlan::TunnelId { vni: dataplane::types::Vni::ONE, port: 8472 });

fn sends(encapsulations: &[Encapsulation]) -> BTreeSet<Encapsulation> {
    encapsulations.iter().copied().collect()
}

/// A lease that says to receive and to send by these.
fn lease(receives: &[Encapsulation], sent: &[Encapsulation]) -> Lease {
    let receives = receives.iter().map(|encapsulation| (*encapsulation, PerFamily::none())).collect();
    let support = EncapsulationSupport { receives, sends: sends(sent), ..EncapsulationSupport::default() };
    Lease { encapsulations: Some(support), ..bare() }
}

/// A lease that says nothing of that.
fn bare() -> Lease {
    Lease {
        node: node_name(1),
        subnets: PerFamily { v4: Some(prefix("10.244.1.0/24")), v6: None },
        public: PerFamily::none(),
        backend: BackendType::Vxlan,
        data: PerFamily::none(),
        encapsulations: None,
    }
}

/// A node that has published that it receives and sends by the tunnel.
fn settled() -> OwnAdvertisement {
    OwnAdvertisement::new(&lease(&[TUNNEL], &[TUNNEL]))
}

fn write(advertisement: &mut OwnAdvertisement, now: Duration) {
    let lease = advertisement.begin_write();
    advertisement.written(lease, now);
}

#[test]
fn an_encapsulation_is_sent_by_after_the_write_and_the_read_after_it() {
    let mut node = settled();
    assert_eq!(node.may_send, Some(sends(&[TUNNEL])));
    let both = [Encapsulation::Direct, TUNNEL];
    node.want(lease(&both, &both), false);
    assert_eq!(node.may_send, Some(sends(&[TUNNEL])), "nothing is published");
    write(&mut node, LATE);
    assert_eq!(node.may_send, Some(sends(&[TUNNEL])), "it is published, and no lease was read since");
    assert!(node.needs_read(LATE) && node.is_waiting());
    let effect = node.read(LATE, false);
    assert_eq!(effect, ReadEffect { may_send_more: true, ..ReadEffect::default() });
    assert_eq!(node.may_send, Some(sends(&both)));
    assert!(!node.needs_read(LATE) && !node.is_waiting());
}

#[test]
fn from_the_beginning_of_a_write_nothing_is_sent_by_what_it_withdraws() {
    let both = [Encapsulation::Direct, TUNNEL];
    let mut node = OwnAdvertisement::new(&lease(&both, &both));
    node.want(lease(&both, &[Encapsulation::Direct]), false);
    node.begin_write();
    assert_eq!(node.may_send, Some(sends(&[Encapsulation::Direct])), "the store may have it at any moment");
}

#[test]
fn a_read_counts_for_nothing_while_a_write_has_no_answer() {
    let both = [Encapsulation::Direct, TUNNEL];
    let mut node = settled();
    node.want(lease(&both, &both), false);
    write(&mut node, LATE);
    // The write of another lease fails. It may have been made all the same.
    node.want(lease(&[TUNNEL], &[TUNNEL]), false);
    node.begin_write();
    node.read(LATE, false);
    assert_eq!(node.may_send, Some(sends(&[TUNNEL])));
}

#[test]
fn what_is_withdrawn_drains_before_it_is_closed() {
    let mut node = settled();
    node.want(lease(&[Encapsulation::Direct], &[Encapsulation::Direct]), false);
    node.begin_write();
    let support = node.support().expect("it has published something");
    assert!(support.receives.contains_key(&TUNNEL), "peers may still read the former lease");
    node.written(node.wanted.clone(), LATE);
    assert_eq!(node.draining(), sends(&[TUNNEL]), "the last packets may be under way");
    assert!(!node.read(LATE + DRAIN / 2, false).drained, "a read that begins too early closes nothing");
    assert_eq!(node.draining(), sends(&[TUNNEL]));
    assert!(!node.needs_read(LATE + DRAIN / 2) && node.needs_read(LATE + DRAIN));
    assert!(node.read(LATE + DRAIN, false).drained);
    assert_eq!(node.draining(), sends(&[]), "the next run closes it, unless a peer sends by it");
}

#[test]
fn a_write_without_an_answer_counts_as_published_for_what_is_received() {
    let mut node = settled();
    let both = [Encapsulation::Direct, TUNNEL];
    node.want(lease(&both, &[TUNNEL]), false);
    node.begin_write();
    node.want(lease(&[TUNNEL], &[TUNNEL]), false);
    write(&mut node, LATE);
    assert_eq!(node.draining(), sends(&[Encapsulation::Direct]), "a peer may have read that, and sends by it");
}

#[test]
fn a_new_node_has_pods_after_the_read_that_follows_its_first_write() {
    let mut node = OwnAdvertisement::new(&bare());
    assert_eq!(node.may_send, None, "no peer knows of it: it sends by any");
    assert!(!node.may_have_pods());
    node.want(lease(&[TUNNEL], &[TUNNEL]), false);
    assert!(!node.may_have_pods());
    write(&mut node, LATE);
    assert!(!node.may_have_pods() && node.needs_read(LATE));
    assert!(!node.clone().read(LATE, false).run_due, "no peer has changed meanwhile");
    assert!(node.read(LATE, true).run_due, "a peer has changed meanwhile");
    assert!(!node.may_have_pods());
    // What the peer receives now was not published yet.
    let both = [Encapsulation::Direct, TUNNEL];
    node.want(lease(&both, &both), true);
    write(&mut node, LATE);
    assert!(node.read(LATE, false).may_send_more);
    assert!(!node.may_have_pods(), "the routes are still to come");
    node.want(lease(&both, &both), false);
    assert!(node.may_have_pods());
}

#[test]
fn a_new_node_that_is_quick_needs_no_other_read() {
    let mut node = OwnAdvertisement::new(&bare());
    node.want(lease(&[TUNNEL], &[TUNNEL]), false);
    write(&mut node, DRAIN / 2);
    assert!(node.may_have_pods() && !node.needs_read(DRAIN / 2));
}

#[test]
fn a_restart_goes_on_with_what_was_published() {
    let node = settled();
    assert!(node.may_have_pods());
    assert_eq!(node.support(), lease(&[TUNNEL], &[TUNNEL]).encapsulations);
}
