//! Events about Services.

use std::net::{Ipv4Addr, TcpListener};

use netd_tests::{Context, Outcome, ensure, eventually, seconds};
use serde_json::{Value, json};

use crate::ask::Protocol;
use crate::bed::{Bed, NODE, POD, WEB};

/// An address that two Services claim: `web`, and one that is younger, or of one second with it and later by name.
const EXTERNAL: &str = "192.168.99.11";
const YOUNGER: &str = "/api/v1/namespaces/default/services/younger";

/// Where load balancers ask for the node's endpoints.
const HEALTH_PORT: u16 = 32100;

/// The Events about a Service.
fn events(bed: &Bed, service: &str) -> Outcome<Vec<Value>> {
    let list = bed.server.get("/api/v1/namespaces/default/events")?;
    let is_of_it =
        |event: &Value| event["involvedObject"]["kind"] == "Service" && event["involvedObject"]["name"] == service;
    let items = list["items"].as_array().context("no list of Events")?;
    Ok(items.iter().filter(|event| is_of_it(event)).cloned().collect())
}

/// Waits until there is one Event about a Service, which has come so many times.
fn comes(bed: &Bed, service: &str, count: u32) -> Outcome<Value> {
    eventually(seconds(30), &format!("there is an Event about {service}, which has come {count} times"), || {
        let events = events(bed, service)?;
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
        let event = comes(&bed, "younger", 1)?;
        ensure!(event["involvedObject"]["uid"] == younger["metadata"]["uid"], "{event} is not about {younger}");
        ensure!(event["reason"] == "AddressConflict" && event["type"] == "Warning", "it is {event}");
        let message = event["message"].as_str().unwrap_or_default();
        let names = "192.168.99.11:80/TCP of Service default/younger:http is that of Service default/web:http";
        ensure!(message.starts_with(names), "the Event says {message}");
        bed.server.patch(YOUNGER, &claims(&[]))?;
        daemon.await_log("over: 192.168.99.11:80/TCP of Service default/younger:http", seconds(30))?;
        bed.server.patch(YOUNGER, &claims(&[EXTERNAL]))?;
        comes(&bed, "younger", 2).map(drop)
    };
    run().map_err(|failure: netd_tests::Failure| bed.with_logs(failure, &daemon))?;
    bed.nothing_was_refused()
}

/// A port for load balancers' health checks that another program has: an Event names it, and the port is opened once it is free.
pub(crate) fn of_health_checks() -> Outcome {
    let bed = Bed::start()?;
    let other = bed.node().within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, HEALTH_PORT)))?;
    let other = other.context("take the health check's port")?;
    let daemon = bed.launch(bed.netd_proxy(&["--nodeport-addresses=192.168.1.0/24"])?, "netd-proxy")?;
    let run = || {
        let of_nodes = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH_PORT
        });
        bed.change_service(&json!({ "spec": of_nodes }))?;
        let event = comes(&bed, "web", 1)?;
        ensure!(event["reason"] == "FailedToStartServiceHealthcheck" && event["type"] == "Warning", "it is {event}");
        let message = event["message"].as_str().unwrap_or_default();
        let start = "Service default/web has the healthCheckNodePort 32100, on which node n1 cannot answer";
        ensure!(message.starts_with(start) && message.contains("ss -ltnp sport = 32100"), "the Event says {message}");
        // The others go on.
        bed.reaches(POD, WEB, Protocol::Tcp, &[1, 2])?;
        drop(other);
        daemon.await_log("over: Service default/web has the healthCheckNodePort 32100", seconds(30))?;
        let check = format!("curl --silent --max-time 10 http://{NODE}:{HEALTH_PORT}/");
        let answer = bed.outside().run(&check)?;
        ensure!(answer.contains(r#""localEndpoints": 0"#), "the health check says {answer}");
        Ok(())
    };
    run().map_err(|failure: netd_tests::Failure| bed.with_logs(failure, &daemon))?;
    bed.nothing_was_refused()
}
