use dataplane::op::DeviceRoute;
use network::fixtures::{V4, far, near, vxlan};
use network::plan::Conflict;

use nix::errno::Errno;

use super::*;

fn sentences(problems: &Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_run_reports_what_is_refused_and_what_is_in_the_way() {
    let network = vxlan(V4, V4).peers([near(2), far(3)]);
    let mut kernel = network.fake();
    kernel.refuse = vec!["fdb replace 0a:00:00:00:00:03".to_owned()];
    let plan = network.plan(&mut kernel);
    let outcome = network.outcome(&mut kernel).expect("a network that can be carried");
    let mut report = crate::reconcile::apply(&mut kernel, plan);
    let [failed] = &sentences(&of_run(&report, &outcome, &network.cluster().peers))[..] else {
        panic!("one op is refused: {report:?}")
    };
    assert!(failed.starts_with("`bridge fdb replace 0a:00:00:00:00:03 "), "{failed}");
    assert!(failed.contains("` for node node-3 is refused by the kernel: "), "{failed}");

    let mut routes = outcome.desired.routes.values().cloned();
    let mut next = || Box::new(routes.next().expect("two routes"));
    let (wanted, present): (Box<DeviceRoute>, Box<DeviceRoute>) = (next(), next());
    let (text, remedy) = (wanted.to_string(), format!("ip route delete {present}"));
    report.failed.clear();
    report.conflicts.push(Conflict::Route { wanted, present });
    let problems = of_run(&report, &outcome, &network.cluster().peers);
    let problem = problems.first().expect("a conflict");
    assert_eq!((problem.kind, problem.subject.as_str()), (Kind::Conflict, format!("route {text}").as_str()));
    assert_eq!(problem.remedy.as_deref(), Some(remedy.as_str()));
}

#[test]
fn a_contested_object_is_reported_without_its_counts_and_many_are_one_problem() {
    let contested = |n: usize| ::reconcile::Contested {
        key: Key::Route(format!("10.244.{n}.0/24").parse().expect("a range")),
        times: 7 + n as u64,
        next: None,
    };
    let deferred = |count| Deferred { contested: (0..count).map(contested).collect(), ..Deferred::default() };
    let one = "route 10.244.0.0/24 is undone again and again by something else; netd puts it back ever more rarely: \
               find out what does it (`ip monitor route`)";
    assert_eq!(sentences(&of_contested(&deferred(1))), [one]);
    assert_eq!(of_contested(&deferred(FEW)).len(), FEW);
    let many = "many objects of netd's (kind: route) are undone again and again by something else; netd puts them back \
                ever more rarely: find out what does it (`ip monitor route`)";
    assert_eq!(sentences(&of_contested(&deferred(FEW + 1))), [many]);
}

#[test]
fn many_records_are_counted_and_nodes_and_records_apart() {
    let rejected = |count| -> Vec<Rejected> {
        let name = |n| format!("node-{n}").parse().expect("a name");
        (0..count).map(|n| Rejected { node: name(n), reason: "it lies".to_owned() }).collect()
    };
    let few = of_rejected(&rejected(MOST));
    assert!(few.len() == MOST && !few.iter().any(is_count));
    let faults = |count| (0..count).map(|n| (format!("the file nodes/{n}"), "it is none".to_owned())).collect();
    let many: Problems = of_rejected(&rejected(MOST + 1)).into_iter().chain(of_faults(&faults(MOST + 2))).collect();
    let [nodes, records] = &sentences(&many)[..] else { panic!("one of each: {many:?}") };
    assert!(nodes.starts_with("many nodes are left out (21), the first of them: node node-0 "), "{nodes}");
    assert!(records.starts_with("many records are left out (22), the first of them: the file nodes/0 "), "{records}");
    assert!(many.iter().all(is_count));
}

#[test]
fn a_taken_port_is_one_problem() {
    let network = vxlan(V4, V4).peers([near(2)]);
    let mut kernel = network.fake();
    kernel.refuse = vec!["link add flannel.1".to_owned(), "dev flannel.1".to_owned(), "set flannel.1".to_owned()];
    let plan = network.plan(&mut kernel);
    let mut report = crate::reconcile::apply(&mut kernel, plan);
    assert!(report.failed.len() > 1, "what is on the device fails with the device: {report:?}");
    assert_eq!(of_run(&report, &Outcome::default(), &BTreeMap::new()).len(), 1, "the device is the cause");
    let refusal = dataplane::netlink_message::Refusal { errno: Errno::EADDRINUSE as i32, reason: None };
    report.failed[0].1 = KernelError::Refused(refusal);
    let [problem] = &Vec::from_iter(of_run(&report, &Outcome::default(), &BTreeMap::new()))[..] else {
        panic!("one problem")
    };
    assert_eq!(problem.subject, "UDP port 8472");
    assert_eq!(problem.remedy.as_deref(), Some("ss -aunp 'sport = :8472'"));
}
