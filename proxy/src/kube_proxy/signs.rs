//! The signs of a kube-proxy in the calling thread's network namespace.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::presence::Signs;
use super::{answer, leftovers};

/// Where kube-proxy answers by default: its metrics, by which it is known, and its health. Load balancers ask for the health of the node at
/// that port, so netd's proxy answers there from its start and does not leave the port to a kube-proxy.
pub(crate) const METRICS: u16 = 10249;
const HEALTH: u16 = 10256;
/// The state of a listener in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// The signs that there are. Blocks for up to some seconds where something listens and is silent.
pub(super) fn read() -> Signs {
    // Where nftables cannot be read nothing can be programmed either.
    with_rules(leftovers::are_there().unwrap_or(true))
}

/// The same, where it is known whether there are rules.
pub(super) fn with_rules(has_rules: bool) -> Signs {
    let proc = Path::new("/proc");
    let loopback =
        |port| [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    // Who is not root is not asked, and hides nobody who answers at the other port.
    let find = |port, answers: fn(SocketAddr) -> bool| {
        let addresses = loopback(port).into_iter().filter(|_| is_listener_of_root(proc, port));
        addresses.into_iter().find(|address| answers(*address))
    };
    let answer = find(METRICS, answer::has_configuration).or_else(|| find(HEALTH, answer::has_health));
    Signs { process: process(proc), answer, has_rules }
}

/// True where a process of root's listens on this TCP port, and where that cannot be read. kube-proxy is root's, and any other account
/// may open the port too.
pub(super) fn is_listener_of_root(proc: &Path, port: u16) -> bool {
    let tables = ["tcp", "tcp6"].map(|table| std::fs::File::open(proc.join("thread-self/net").join(table)));
    if tables.iter().all(Result::is_err) {
        return true;
    }
    tables.into_iter().flatten().any(|table| {
        // `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid`, behind one line of titles; listeners come first.
        let lines = BufReader::new(table).lines().map_while(Result::ok).skip(1);
        let fields = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let mut listeners = fields.take_while(|fields| fields.get(3).is_some_and(|state| state == LISTENS));
        listeners.any(|fields| {
            let local = fields.get(1).and_then(|local| local.rsplit_once(':'));
            local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
                && fields.get(7).is_some_and(|account| account == "0")
        })
    })
}

/// The number of a process of root's that is called `kube-proxy` and has this network namespace.
pub(super) fn process(proc: &Path) -> Option<u32> {
    let own = std::fs::read_link(proc.join("thread-self/ns/net")).ok()?;
    let is_one = |process: &u32| {
        let folder = proc.join(process.to_string());
        let is_of_root = |status: &str| {
            let accounts = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            // The real one, then the effective one.
            accounts.and_then(|accounts| accounts.split_whitespace().nth(1)) == Some("0")
        };
        std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim_end() == "kube-proxy")
            && std::fs::read_to_string(folder.join("status")).is_ok_and(|status| is_of_root(&status))
            && std::fs::read_link(folder.join("ns/net")).is_ok_and(|namespace| namespace == own)
    };
    let names = std::fs::read_dir(proc).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).find(is_one)
}
