use network::model::BackendType;

use super::*;

fn network() -> CachedNetwork {
    let lease = |name: &str, n: u8| {
        let node: NodeName = name.parse().expect("name");
        let lease = Lease {
            node: node.clone(),
            subnets: PerFamily { v4: format!("10.244.{n}.0/24").parse().ok(), v6: None },
            public: PerFamily { v4: Some(IpAddr::from([192, 168, 0, n])), v6: None },
            backend: BackendType::HostGw,
            data: PerFamily::none(),
            encapsulations: None,
        };
        (node, Arc::new(lease))
    };
    CachedNetwork {
        node: "n1".parse().expect("name"),
        public: PerFamily { v4: "203.0.113.1".parse().ok(), v6: None },
        net_conf: r#"{"Network": "10.244.0.0/16"}"#.to_owned(),
        leases: BTreeMap::from([lease("n1", 1), lease("n2", 2)]),
    }
}

#[test]
fn the_text_parses_to_the_same_network() {
    let text = network().render();
    assert_eq!(CachedNetwork::parse(&text).expect("own text"), network());
    assert!(text.contains(r#""n2":{"Subnet":"10.244.2.0/24""#), "{text}");
}

#[test]
fn a_cut_file_is_refused_and_a_bad_lease_is_left_out() {
    let text = network().render();
    for end in 0..text.len() {
        assert!(CachedNetwork::parse(&text[..end]).is_err(), "{}", &text[..end]);
    }
    let known = CachedNetwork::parse(&text.replace("10.244.2.0/24", "10.244.2.0/99")).expect("one is whole");
    assert_eq!(known.leases.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["n1"]);
}

#[test]
fn the_file_of_a_small_network_may_be_written_again_at_once_and_that_of_a_large_one_once_a_minute() {
    let small = network().render().len();
    assert_eq!(
        [pause(small), pause(1000 * small)],
        [Duration::ZERO, Duration::from_secs((1000 * small / RATE) as u64)]
    );
    assert_eq!(pause(10_000 * small), INTERVAL);
}
