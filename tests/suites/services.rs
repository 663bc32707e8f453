//! Services with real packets: netd-proxy on one node, from a directory of objects, with clients and endpoints around it.

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
#[path = "services/load.rs"]
mod load;
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
        for name in ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8"] {
            trials.push(test(format!("cases/{name}"), move || cases::run(&format!("{name}.cases"))));
        }
        let tests: [Case; 14] = [
            ("affinity/a client stays with its endpoint", affinity::sticks),
            ("affinity/all addresses of a Service share it", affinity::is_shared),
            ("affinity/clients stay through restarts", affinity::survives_restarts),
            ("affinity/an idle client is forgotten", affinity::expires),
            ("affinity/an endpoint that is gone is left", affinity::leaves_what_is_gone),
            ("affinity/clients stay through changed settings", affinity::survives_settings),
            ("connections are shared out evenly", split::is_uniform),
            ("load/a restart harms nothing and writes nothing", || load::restarts(false)),
            ("load/a crash harms nothing and writes nothing", || load::restarts(true)),
            ("load/endpoints come and go", load::endpoints_change),
            ("load/settings change", load::settings_change),
            ("flows of a Service that is gone end at the start", flows::of_deleted_services_end_at_the_start),
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
