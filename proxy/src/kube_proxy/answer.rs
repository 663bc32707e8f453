//! Whether the one who answers at a port of loopback is kube-proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::health::SERVER;

/// How long to wait for a connection, and for each part of an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// As much as is read of an answer.
const MOST: u64 = 64 << 10;

/// True where `/configz` has kube-proxy's configuration. Nobody else has it.
pub(super) fn has_configuration(address: SocketAddr) -> bool {
    ask(address, "/configz").is_some_and(|answer| answer.contains("\"kubeproxy.config.k8s.io\""))
}

/// True where `/healthz` is answered as kube-proxy does. netd-proxy gives the same body, and names itself in a header.
pub(super) fn has_health(address: SocketAddr) -> bool {
    ask(address, "/healthz").is_some_and(|answer| {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let is_ours = head.to_ascii_lowercase().contains(&format!("\r\nserver: {SERVER}"));
        !is_ours && body.starts_with('{') && body.contains("\"lastUpdated\"") && body.contains("\"nodeEligible\"")
    })
}

/// The answer to a request: its head and body.
fn ask(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    // In one segment: one who answers the first part of a request and closes the connection would reset it.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
