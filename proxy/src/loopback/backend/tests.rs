use std::collections::BTreeMap;

use super::*;
use crate::model::Protocol;

fn backend(endpoints: &[u8], affinity: Option<u64>) -> Backend {
    Backend {
        name: PortName::new("default", "web", "", Protocol::Tcp),
        endpoints: endpoints.iter().map(|number| ([10, 180, 0, *number], 80).into()).collect(),
        affinity: affinity.map(Duration::from_secs),
    }
}

fn endpoint(number: u8) -> SocketAddr {
    ([10, 180, 0, number], 80).into()
}

#[test]
fn every_endpoint_is_tried_once_and_each_is_as_often_the_first() {
    let mut balancer = Balancer::new(backend(&[1, 2, 3, 4], None));
    let now = Instant::now();
    // Every sequence of draws that there may be.
    let mut firsts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for number in 0..24 {
        let mut rest = number;
        let order = balancer.draw(now, |below| {
            let drawn = rest % below;
            rest /= below;
            drawn
        });
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(sorted, [1, 2, 3, 4].map(endpoint));
        *firsts.entry(order[0]).or_default() += 1;
    }
    assert_eq!(firsts.into_values().collect::<Vec<_>>(), [6; 4]);
}

#[test]
fn with_affinity_connections_stay_with_one_endpoint_for_the_time_of_the_service() {
    let mut balancer = Balancer::new(backend(&[1, 2, 3], Some(10)));
    let begun = Instant::now();
    let first = |after: u64, drawn: usize, balancer: &mut Balancer| {
        balancer.draw(begun + Duration::from_secs(after), |below| drawn % below)[0]
    };
    let kept = first(0, 0, &mut balancer);
    // Each connection lets the time begin again.
    for after in [10, 20, 30] {
        for drawn in 0..3 {
            assert_eq!(first(after, drawn, &mut balancer), kept);
        }
    }
    let others: Vec<SocketAddr> = [1, 2, 3].map(endpoint).into_iter().filter(|one| *one != kept).collect();
    balancer.set(backend(&[1, 2, 3, 4], Some(10)));
    assert_eq!(first(31, 1, &mut balancer), kept, "a new endpoint changes nothing");
    balancer.fell_back(others[0], begun + Duration::from_secs(31));
    assert_eq!(first(32, 2, &mut balancer), others[0], "the one that was reached is kept");
    let gone = Backend { endpoints: Box::new([others[1]]), ..backend(&[], Some(10)) };
    balancer.set(gone);
    assert_eq!(first(33, 0, &mut balancer), others[1]);
    balancer.set(backend(&[1, 2, 3], Some(10)));
    let times = [(100, 0), (120, 1), (140, 2)].into_iter();
    let after_the_time: Vec<SocketAddr> = times.map(|(after, drawn)| first(after, drawn, &mut balancer)).collect();
    assert!(after_the_time.iter().any(|one| *one != others[1]), "{after_the_time:?}");
}

#[test]
fn another_service_begins_anew() {
    let now = Instant::now();
    let first = |name: &str, drawn: usize| {
        let mut balancer = Balancer::new(backend(&[1, 2], Some(10)));
        balancer.draw(now, |_| 0);
        balancer.set(Backend { name: PortName::new("default", name, "", Protocol::Tcp), ..backend(&[1, 2], Some(10)) });
        balancer.draw(now, |_| drawn)[0]
    };
    assert_eq!(first("web", 0), first("web", 1));
    assert_ne!(first("other", 0), first("other", 1));
}
