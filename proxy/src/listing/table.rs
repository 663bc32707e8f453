//! The listing for people.
//!
//! Pure.

use std::fmt::Write as _;

use super::traffic::Traffic;
use super::{EndpointListing, Listing, PortListing};
use crate::loopback::OnLoopback;

/// A line for each service port, and its endpoints below it.
pub fn table(listing: &Listing) -> String {
    let mut text = match (listing.listed, listing.programmed) {
        (false, _) => format!("Services of node {}: not known yet, nothing is programmed\n", listing.node),
        (true, true) => format!("Services of node {}: programmed\n", listing.node),
        (true, false) => format!("Services of node {}: the kernel does not have them all yet\n", listing.node),
    };
    let width = |of: fn(&PortListing) -> usize, least: usize| listing.services.iter().map(of).fold(least, usize::max);
    let names = width(|port| port.service.chars().count(), 7);
    let addresses = width(|port| joined(port).len(), 9);
    if !listing.services.is_empty() {
        line(&mut text, &format!("{:names$}  PROTO  {:addresses$}  NODE PORT  ENDPOINTS", "SERVICE", "ADDRESSES"));
    }
    for port in &listing.services {
        let node_port = port.node_port.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (service, protocol) = (&port.service, &port.protocol);
        let count = format!("{} of {}{}", port.used().count(), port.endpoints.len(), settings(port));
        line(
            &mut text,
            &format!("{service:names$}  {protocol:5}  {:addresses$}  {node_port:9}  {count}", joined(port)),
        );
        if let Some(OnLoopback { address, served }) = port.loopback {
            line(&mut text, &format!("    {address}  {served}"));
        }
        for endpoint in &port.endpoints {
            line(&mut text, &format!("    {}", described(endpoint)));
        }
    }
    for (place, problem) in listing.problems.iter().enumerate() {
        if place == 0 {
            text.push_str("\nPROBLEMS\n");
        }
        line(&mut text, &problem.to_string());
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

fn joined(port: &PortListing) -> String {
    if port.addresses.is_empty() {
        return "none".to_owned();
    }
    port.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What is not the default.
fn settings(port: &PortListing) -> String {
    let mut text = String::new();
    if port.internal_traffic_policy == "Local" {
        text.push_str(", internalTrafficPolicy Local");
    }
    if port.external_traffic_policy == "Local" {
        text.push_str(", externalTrafficPolicy Local");
    }
    if let Some(seconds) = port.affinity_seconds {
        // Writing to a String cannot fail.
        let _ = write!(text, ", ClientIP for {seconds} s");
    }
    text
}

fn described(endpoint: &EndpointListing) -> String {
    let place = if endpoint.local { ", on this node" } else { "" };
    let address = endpoint.address;
    let mut text = match (&endpoint.left_out_internally, &endpoint.left_out_externally) {
        (None, None) => format!("{address}{place}"),
        (Some(one), Some(other)) if one == other => format!("{address}{place}  left out: it {one}"),
        (Some(one), Some(other)) => {
            format!("{address}{place}  left out: it {one} (cluster IP), it {other} (other addresses)")
        }
        (Some(one), None) => format!("{address}{place}  left out of the cluster IP: it {one}"),
        (None, Some(other)) => format!("{address}{place}  left out of other addresses: it {other}"),
    };
    if let Some(traffic) = endpoint.traffic.filter(|traffic| traffic.connections > 0) {
        let Traffic { connections, packets, bytes } = traffic;
        // Writing to a String cannot fail.
        let _ = write!(text, "  connections {connections}");
        if packets > 0 {
            let _ = write!(text, ", packets {packets}, bytes {bytes}");
        }
    }
    text
}
