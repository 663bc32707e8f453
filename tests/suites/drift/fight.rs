//! Something else undoes a repair again and again: netd loses timeout, says so once, and puts it back when it is over.

use dataplane::types::Family;
use netd_tests::{Context, Outcome, ensure, eventually, kernel, seconds};
use serde_json::Value;

use super::bed::Bed;

/// More often than netd takes for chance.
const OFTEN: usize = 12;

pub(crate) fn lost(bed: &Bed) -> Outcome {
    let n1 = bed.cluster.node("n1");
    let routes = n1.namespace().json("ip -j route show type unicast root 10.244.0.0/16 proto 110")?;
    let range =
        routes.first().and_then(|route| route["dst"].as_str()).context("there is a route to a peer")?.to_owned();
    let is_back = || {
        let route = kernel::route(n1.namespace(), Family::V4, &range)?;
        ensure!(route.is_some(), "there is no route to {range}");
        Ok(())
    };
    for _ in 0..OFTEN {
        n1.namespace().run(&format!("ip route del {range}"))?;
        eventually(seconds(20), "the route is back", is_back).map_err(|failure| bed.cluster.with_logs(failure))?;
    }
    let object = format!("route {range}");
    let status = || -> Outcome<Value> {
        let output = n1.run_netd("status", &["-o", "json"])?;
        serde_json::from_slice(&output.stdout).context("read what netd status says")
    };
    let contested = status()?["contested"][&object].clone();
    ensure!(contested["times"].as_u64() >= Some(OFTEN as u64 - 1), "it was put back more often than {contested}");
    n1.namespace().run(&format!("ip route del {range}"))?;
    eventually(seconds(20), "it waits, and netd is not ready for as long", || {
        let now = status()?;
        let waits = now["contested"][&object]["next"].is_string() && now["ready"] == false;
        ensure!(waits, "{}", now["contested"]);
        Ok(())
    })?;
    eventually(seconds(30), "the route is back after its wait", is_back)?;
    eventually(seconds(5), "netd is ready", || {
        ensure!(status()?["ready"] == true, "it is not");
        Ok(())
    })?;
    let log = bed.cluster.daemon("n1").log();
    let count = log.matches(&format!("{object} is undone again and again")).count();
    ensure!(count == 1, "it was logged {count} times:\n{log}");
    bed.talk()
}
