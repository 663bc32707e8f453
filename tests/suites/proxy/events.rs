//! Events about Services.

use std::net::Ipv4Addr;

use netd_tests::{Context, Outcome, ensure, eventually, seconds};
use serde_json::{Value, json};

use crate::bed::Bed;

/// An address that two Services claim: `web`, and one that is younger, or of one second with it and later by name.
const EXTERNAL: &str = "192.168.99.11";
const YOUNGER: &str = "/api/v1/namespaces/default/services/younger";

/// The Events about the Service `younger`.
fn events(bed: &Bed) -> Outcome<Vec<Value>> {
    let list = bed.server.get("/api/v1/namespaces/default/events")?;
    let of_younger =
        |event: &Value| event["involvedObject"]["kind"] == "Service" && event["involvedObject"]["name"] == "younger";
    let items = list["items"].as_array().context("no list of Events")?;
    Ok(items.iter().filter(|event| of_younger(event)).cloned().collect())
}

/// Waits until there is one Event, which has come so many times.
fn comes(bed: &Bed, count: u32) -> Outcome<Value> {
    eventually(seconds(30), &format!("the conflict is recorded, {count} times in all"), || {
        let events = events(bed)?;
        ensure!(events.len() == 1 && events[0]["count"] == count, "the Events are {events:?}");
        Ok(events[0].clone())
    })
}

/// The younger of two Services that claim one address gets an Event, which says who has it; once, and counted when it comes again.
pub(crate) fn of_conflicts() -> Outcome {
    let bed = Bed::start()?;
    let daemon = bed.launch(bed.netd_proxy(&[])?, "netd-proxy")?;
    let claims = |addresses: &[&str]| json!({ "spec": { "externalIPs": addresses } });
    bed.change_service(&claims(&[EXTERNAL]))?;
    bed.add_service("younger", (Ipv4Addr::new(10, 96, 0, 81), 80), 3)?;
    let run = || {
        daemon.await_log("Services and endpoints are known", seconds(30))?;
        let younger = bed.server.patch(YOUNGER, &claims(&[EXTERNAL]))?;
        let event = comes(&bed, 1)?;
        ensure!(event["involvedObject"]["uid"] == younger["metadata"]["uid"], "{event} is not about {younger}");
        ensure!(event["reason"] == "AddressConflict" && event["type"] == "Warning", "it is {event}");
        let message = event["message"].as_str().unwrap_or_default();
        let names = "192.168.99.11:80/TCP of Service default/younger:http is that of Service default/web:http";
        ensure!(message.starts_with(names), "the Event says {message}");
        bed.server.patch(YOUNGER, &claims(&[]))?;
        daemon.await_log("over: 192.168.99.11:80/TCP of Service default/younger:http", seconds(30))?;
        bed.server.patch(YOUNGER, &claims(&[EXTERNAL]))?;
        comes(&bed, 2).map(drop)
    };
    run().map_err(|failure: netd_tests::Failure| bed.with_logs(failure, &daemon))?;
    bed.nothing_was_refused()
}
