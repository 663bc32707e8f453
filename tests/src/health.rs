//! What a netd answers over HTTP on its node: `/healthz`, `/readyz` and `/metrics`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::node::Node;

/// The port that suites give netd.
pub const PORT: u16 = 8081;
/// The flag that gives it.
pub const FLAG: &str = "--healthz-port=8081";

/// What the netd of a node answers at one of its addresses to `GET /readyz` and the like: the status line, and all of it.
///
/// # Errors
/// Where it does not answer.
pub fn ask(node: &Node, address: IpAddr, request: &str) -> Outcome<(String, String)> {
    let request = format!("{request} HTTP/1.1\r\nHost: netd\r\n\r\n");
    let answer = node.namespace().within(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), seconds(5))?;
        stream.set_read_timeout(Some(seconds(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let answer = answer.context(format!("ask {address} for {request:?}"))?;
    Ok((answer.lines().next().unwrap_or_default().to_owned(), answer))
}

/// Waits until a netd that was started with [`FLAG`] says that it waits for something that has `part` in it: at `/readyz`, and on the
/// first line of `netd status`.
///
/// # Errors
/// Where it does not say so.
pub fn await_waiting(node: &Node, part: &str) -> Outcome {
    eventually(seconds(30), &format!("netd says that it waits, with {part:?}"), || {
        let (line, answer) = ask(node, [127, 0, 0, 1].into(), "GET /readyz")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let says = body.starts_with("netd is not ready yet, waiting: ") && body.contains(part);
        crate::ensure!(line.contains(" 503 ") && says, "/readyz says {answer}");
        let output = node.run_netd("status", &[])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.lines().next().unwrap_or_default();
        let says = first.contains(": waiting: ") && first.contains(part);
        crate::ensure!(
            output.status.code() == Some(2) && says,
            "netd status ended with {} and says {text}",
            output.status
        );
        Ok(())
    })
}
