//! Services with real packets: netd-proxy on one node, from a directory of objects, with clients and endpoints around it.
//!
//! The case files in `proxy/cases` say what one packet becomes; the rules' unit tests trace them on paper. The other tests are about what
//! goes on over time: affinity, flows and connections, restarts, drift. What objects mean that an API server has taken is in the suite
//! `proxy`.

use std::process::ExitCode;

use netd_tests::Outcome;
use netd_tests::suite::test;

#[path = "services/affinity.rs"]
mod affinity;
#[path = "services/ask.rs"]
mod ask;
#[path = "services/bed.rs"]
mod bed;
#[path = "services/cases.rs"]
mod cases;
#[path = "services/flows.rs"]
mod flows;
#[path = "services/healing.rs"]
mod healing;
#[path = "services/listing.rs"]
mod listing;
#[path = "services/load.rs"]
mod load;
#[path = "services/loopback.rs"]
mod loopback;
#[path = "services/objects.rs"]
mod objects;
#[path = "services/scene.rs"]
mod scene;
#[path = "services/split.rs"]
mod split;

type Case = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        let mut trials = Vec::new();
        let files = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"].into_iter();
        for name in
            files.chain(["readiness", "hints", "excluded", "load-balancers", "leading-zeros", "bad-input", "loopback"])
        {
            trials.push(test(format!("cases/{name}"), move || cases::run(&format!("{name}.cases"))));
        }
        let tests: [Case; 29] = [
            ("affinity/a client stays with its endpoint", affinity::sticks),
            ("affinity/a client stays with an endpoint of this node", affinity::sticks_among_local),
            ("affinity/all addresses of a Service share it", affinity::is_shared),
            ("affinity/clients stay through restarts", affinity::survives_restarts),
            ("affinity/an idle client is forgotten", affinity::expires),
            ("affinity/an endpoint that is gone is left", affinity::leaves_what_is_gone),
            ("affinity/clients stay through changed settings", affinity::survives_settings),
            ("connections are shared out evenly", split::is_uniform),
            ("load/a restart harms nothing and writes nothing", || load::restarts(false)),
            ("load/a crash harms nothing and writes nothing", || load::restarts(true)),
            ("load/endpoints come and go", load::endpoints_change),
            ("load/endpoints move from slice to slice", load::endpoints_move),
            ("load/connections stay with an endpoint that leaves", load::connections_stay),
            ("load/many Services come and go at once", load::many_change_at_once),
            ("load/settings change", load::settings_change),
            ("loopback/listeners and rejected packets are counted", loopback::is_counted),
            ("loopback/an operator sees node ports there", loopback::is_seen),
            ("loopback/connections stay whatever changes", loopback::stays),
            ("loopback/a port that is taken is a problem until it is free", loopback::is_taken),
            ("loopback/nobody outside reaches it", loopback::is_guarded),
            ("UDP/a client that keeps its port follows the endpoints", flows::follow_endpoints),
            ("UDP/flows stay through restarts", flows::stay),
            ("UDP/flows of a Service that is gone end at the start", flows::end_with_their_service),
            ("services/a listing in each format", listing::formats),
            ("services/each change is printed", listing::watch),
            ("services/without a proxy it says so", listing::nobody_answers),
            ("metrics have kube-proxy's names", listing::metrics),
            ("--cleanup removes the tables", healing::cleans_up),
            ("a broken file keeps its last objects", healing::keeps_the_last_good_file),
        ];
        trials.extend(tests.map(|(name, body)| test(name, body)));
        for (name, injury) in healing::INJURIES {
            trials.push(test(format!("healing/{name}"), move || healing::heals(injury)));
        }
        trials
    })
}
