//! `netd-proxy trace SOURCE DESTINATION`: what becomes of a packet in the kernel's table, without sending one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use clap::Parser;
use dataplane::error::KernelError;
use dataplane::netlink::RouteSocket;
use dataplane::nft::{self, Interval, Key, Table, Value};
use dataplane::types::{Family, IfName};

use crate::model::Protocol;
use crate::ruleset::{self, SetName, TABLE};
use crate::trace::{End, Packet, Step, trace};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "netd-proxy trace",
    about = "Say what becomes of a packet in the kernel's table of Services, without sending one"
)]
pub struct Arguments {
    /// The address that the packet comes from.
    source: IpAddr,
    /// Where the packet goes: ADDRESS:PORT, or ADDRESS:PORT/PROTOCOL with tcp, udp or sctp.
    destination: Destination,
    /// The interface that the packet comes by, where pods are recognised by their interface.
    #[arg(long, value_name = "NAME", default_value = "unknown")]
    input: IfName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Destination {
    address: SocketAddr,
    protocol: Protocol,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let known = Protocol::ALL.into_iter().find(|known| known.to_string().eq_ignore_ascii_case(protocol));
        let protocol =
            known.ok_or_else(|| format!("{protocol} is no protocol of Services: tcp, udp or sctp is one"))?;
        let address = address.parse().map_err(|_| format!("{address} is not ADDRESS:PORT, such as 10.96.0.10:53"))?;
        Ok(Self { address, protocol })
    }
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Source and destination do not fit.
    #[error("SOURCE and DESTINATION must be of one family: both IPv4, or both IPv6")]
    Families,
    /// There is no table.
    #[error("the kernel has no table `{0} {TABLE}`: netd-proxy has not run on this node")]
    NoTable(nft::TableFamily),
    /// The table cannot be read.
    #[error("the kernel's table cannot be read: the capability NET_ADMIN is necessary")]
    Nftables(#[from] nft::Error),
    /// The node's addresses cannot be read.
    #[error("the node's addresses cannot be read")]
    Kernel(#[from] KernelError),
}

/// Reads the arguments, the word `trace` first. The error is clap's.
///
/// # Errors
/// Where the arguments are wrong, or ask for help.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(args)
}

/// Traces a packet in the table of the calling thread's network namespace. Returns the text.
///
/// # Errors
/// Where there is no table, or it cannot be read.
pub fn run(arguments: &Arguments) -> Result<String, TraceError> {
    let Arguments { source, destination: Destination { address: destination, .. }, .. } = arguments;
    let family = Family::of(*source);
    if Family::of(destination.ip()) != family {
        return Err(TraceError::Families);
    }
    let table_family = if family == Family::V4 { nft::TableFamily::Ip } else { nft::TableFamily::Ip6 };
    let table = nft::Socket::open()?.read_table(table_family, TABLE)?;
    let table = table.ok_or(TraceError::NoTable(table_family))?;
    let own = RouteSocket::open()?.addresses(None, Some(family))?;
    Ok(text(arguments, &table, &own.into_iter().map(|address| address.address).collect()))
}

/// Each end that the packet may have, with the rules of one way that leads there.
fn text(arguments: &Arguments, table: &Table, own: &BTreeSet<IpAddr>) -> String {
    let Arguments { source, destination: Destination { address: destination, protocol }, input } = arguments;
    let is_own = source.is_loopback() || own.contains(source);
    let packet = Packet {
        // Any port that no Service has: those that clients get.
        source: SocketAddr::new(*source, 40_000),
        destination: *destination,
        protocol: protocol.number(),
        input: (!is_own).then(|| input.clone()),
    };
    let mut ends: BTreeMap<End, Vec<Step>> = BTreeMap::new();
    for way in trace(table, &packet, own) {
        ends.entry(way.end).or_insert(way.trail);
    }
    let mut text = String::new();
    for (end, trail) in ends {
        let protocol = protocol.to_string().to_lowercase();
        // What the rules let through goes to whoever listens.
        let is_passed = matches!(end, End::Passed { to, .. } if to == *destination);
        let more = is_passed.then(|| on_loopback(arguments.destination, table)).flatten().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "a packet of {source} to {destination}/{protocol} {end}{more}");
        for Step { chain, rule } in trail {
            if let Some(rule) = table.chains.get(&chain).and_then(|chain| chain.rules.get(rule)) {
                let _ = writeln!(text, "    {chain}: {rule}");
            }
        }
    }
    text
}

/// Who takes a connection to a node port on loopback, which no rule translates. The table alone is asked, not the proxy.
fn on_loopback(Destination { address, protocol }: Destination, table: &Table) -> Option<String> {
    let key = [Value::Protocol(protocol.number()), Value::Service(address.port())];
    let key = Key(key.into_iter().map(Interval::from).collect());
    let find = |set: SetName| table.sets.get(&set.to_string())?.elements.get(&key);
    let of_node_ports = ruleset::Destination::NodePort;
    let element = find(SetName::Gate(of_node_ports)).filter(|_| address.ip().is_loopback())?;
    let service = element.comment.as_deref().unwrap_or("a Service");
    let has_loopback = table.sets.contains_key(&SetName::RejectedOnLoopback.to_string());
    let is_refused = [SetName::Reject, SetName::Drop].into_iter().any(|set| find(set(of_node_ports)).is_some());
    Some(match (has_loopback, is_refused) {
        (false, _) => format!(
            "; this is the node port of {service}, and node ports are not on loopback unless nodePortAddresses has localhost"
        ),
        (true, true) => format!(", where nobody listens: no endpoint of {service} takes part"),
        (true, false) => format!(", where the proxy listens and passes connections on to an endpoint of {service}"),
    })
}

#[cfg(test)]
mod tests;
