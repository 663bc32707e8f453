//! The status as a table for people.
//!
//! Pure: `now` is an argument.

use std::fmt::{Display, Write};

use jiff::Timestamp;

use super::offline::OfflineStatus;
use super::{ContestedObject, NodeStatus, ProxyState, ProxyStatus, RouteKind, RouteStatus, Status};
use crate::clock::age;

/// So many contested objects are shown; the rest are counted.
const SHOWN: usize = 10;

/// Rows with columns as wide as their widest cell, two spaces between; the last column ends where it ends.
fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(cells: &[&dyn Display]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn joined<T: Display>(values: &[T]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The status of a running netd.
pub fn running(status: &Status, now: Timestamp) -> String {
    let mut head = Vec::new();
    if let Some(own) = &status.node {
        head.extend(about(own, status.daemon.changing));
    }
    let reconciled = match &status.last_reconcile {
        None => "not yet".to_owned(),
        Some(last) => format!(
            "{} ago in {} ms ({}): {} changed, {} failed",
            age(last.at, now),
            last.milliseconds,
            last.trigger,
            last.changed,
            last.failed
        ),
    };
    head.push(row(&[&"reconciled", &reconciled]));
    head.push(row(&[&"repairs", &repairs(status)]));
    head.push(row(&[&"store", &store(status, now)]));
    head.extend(status.daemon.proxy.as_ref().map(|proxy| row(&[&"services", &services(proxy)])));
    head.push(row(&[&"running", &format!("for {}", age(status.daemon.started, now))]));
    let mut text = format!("{}\n{}\n{}", first_line(status), columns(&head), peers(status, now));
    let left_out = status.left_out.iter().map(|(node, why)| row(&[&node, &why]));
    let more = status.store.left_out.saturating_sub(status.left_out.len());
    let left_out = left_out.chain((more > 0).then(|| vec![format!("and {more} more")]));
    section(&mut text, "LEFT OUT", &left_out.collect::<Vec<_>>());
    section(&mut text, "CONTESTED", &contested(status, now));
    let problems = status.problems.iter().map(|known| row(&[&age(known.since, now), &known.problem]));
    section(&mut text, "PROBLEMS", &problems.collect::<Vec<_>>());
    text
}

/// A part of the table, unless it is empty.
fn section(text: &mut String, title: &str, rows: &[Vec<String>]) {
    if !rows.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{title}\n{}", columns(rows));
    }
}

/// A line for each contested object: its name, how often it was restored, what comes next.
fn contested(status: &Status, now: Timestamp) -> Vec<Vec<String>> {
    let line = |(object, contested): (&String, &ContestedObject)| {
        let next = match contested.next {
            None => "in place".to_owned(),
            Some(at) => format!("undone, next try in {}", age(now, at)),
        };
        row(&[object, &format!("put back {} times", contested.times), &next])
    };
    let more = status.contested.len().saturating_sub(SHOWN);
    let more = (more > 0).then(|| vec![format!("and {more} more")]);
    status.contested.iter().take(SHOWN).map(line).chain(more).collect()
}

fn first_line(status: &Status) -> String {
    let node = status.node.as_ref().map(|own| format!(" on {}", own.name)).unwrap_or_default();
    if let Some(missing) = status.waits_for() {
        return format!("netd {}: waiting: {}", status.daemon.version, missing.what);
    }
    let state = match &status.last_reconcile {
        _ if status.is_ready() => "ready",
        _ if status.daemon.ready => "not ready: Services are not programmed, see below",
        None => "not ready: it has not programmed the network yet",
        Some(_) => "not ready: see PROBLEMS",
    };
    format!("netd {}{node}: {state}", status.daemon.version)
}

fn about(own: &NodeStatus, changing: bool) -> Vec<Vec<String>> {
    let interface = &own.interface;
    let pods = own.pod_mtu.map(|mtu| format!(" (pods {mtu})")).unwrap_or_default();
    let change = if changing { "; a change is under way" } else { "" };
    let mut rows = vec![
        row(&[&"backend", &format!("{}{change}", own.backend)]),
        row(&[&"subnets", &joined(&own.lease.subnets)]),
        row(&[
            &"interface",
            &format!("{}, MTU {}{pods}, {}", interface.name, interface.mtu, joined(&interface.addresses)),
        ]),
    ];
    if own.lease.public != interface.addresses {
        rows.push(row(&[&"public", &joined(&own.lease.public)]));
    }
    rows
}

fn services(proxy: &ProxyStatus) -> String {
    let text = match proxy.state {
        ProxyState::Starting => "the proxy starts",
        ProxyState::NotProgrammed => "not known yet, or not all in the kernel",
        ProxyState::Programmed => "programmed: see netd services",
        ProxyState::LeftToKubeProxy => "left to kube-proxy",
        ProxyState::LeftToNetdProxy => "left to netd-proxy",
        ProxyState::Failed => "the proxy does not run",
    };
    proxy.why.as_ref().map_or_else(|| text.to_owned(), |why| format!("{text}: {why}"))
}

fn repairs(status: &Status) -> String {
    let repaired = status.operations.iter().filter(|(_, count)| count.repairs > 0);
    let kinds: Vec<_> = repaired.map(|(kind, count)| format!("{} {kind}", count.repairs)).collect();
    if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
}

fn store(status: &Status, now: Timestamp) -> String {
    if let Some(missing) = status.waits_for() {
        return format!("not usable for {}: see the first line", age(missing.since, now));
    }
    match (&status.store.trouble, status.store.last_event) {
        (Some(trouble), _) => format!("in trouble for {}: {}", age(trouble.since, now), trouble.what),
        (None, Some(at)) => format!("followed; last event {} ago", age(at, now)),
        (None, None) => "no event yet".to_owned(),
    }
}

fn peers(status: &Status, now: Timestamp) -> String {
    if status.peers.is_empty() {
        return "no other nodes\n".to_owned();
    }
    let mut rows = vec![row(&[&"NODE", &"SUBNET", &"WAY", &"FOR", &"WHY"])];
    for (name, peer) in &status.peers {
        for (place, route) in peer.routes.iter().enumerate() {
            let name = if place == 0 { name } else { "" };
            rows.push(row(&[&name, &route.subnet, &described(route), &age(route.since, now), &route.why]));
        }
    }
    columns(&rows)
}

fn described(route: &RouteStatus) -> String {
    let to = route.to.map(|to| to.to_string()).unwrap_or_default();
    let missing = if route.programmed { "" } else { " (not programmed)" };
    match route.kind {
        RouteKind::Tunnel => format!("tunnel to {to}{missing}"),
        RouteKind::Direct => format!("direct via {to}{missing}"),
        RouteKind::None => "none".to_owned(),
    }
}

/// The status without a daemon.
pub fn offline(status: &OfflineStatus) -> String {
    let node = status.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let mut text = format!("netd is not running{node}: {}\n", status.why);
    text.push_str("The data path stays as netd left it, and nothing repairs it. This is what the kernel has:\n");
    let lease = match &status.lease {
        Some(lease) => format!("{} (from {})", joined(&lease.subnets), status.lease_from),
        None => "none".to_owned(),
    };
    text.push_str(&columns(&[row(&[&"lease", &lease]), row(&[&"routes", &status.routes.len()])]));
    let mut rows = vec![row(&[&"DEVICE", &"STATE", &"MTU", &"MAC", &"FDB", &"NEIGHBOURS"])];
    rows.extend(status.devices.iter().map(|device| {
        let mac = device.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let state = if device.up { "up" } else { "down" };
        row(&[&device.name, &state, &device.mtu, &mac, &device.fdb, &device.neighbours])
    }));
    text.push('\n');
    text.push_str(&if rows.len() > 1 { columns(&rows) } else { "no tunnel device of netd's\n".to_owned() });
    let lines = |texts: &[String]| texts.iter().map(|text| vec![text.clone()]).collect::<Vec<_>>();
    section(&mut text, "ROUTES", &lines(&status.routes));
    section(&mut text, "PROBLEMS", &lines(&status.problems));
    text
}
