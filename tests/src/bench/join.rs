//! A node joins: from the start of its netd until a pod there has had an answer from a pod on every other node.
//!
//! Counted: the process's start, its lease, its network, the plugin's ADD of one pod, and the probe. The probe is a UDP
//! datagram that is sent again each millisecond until it is answered. Not counted: the making of the pod's namespace,
//! which is the runtime's.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::types::Family;
use serde_json::json;

use super::figures::{Times, head, note};
use super::process::Process;
use crate::cluster::{Cluster, net_conf};
use crate::daemon::Daemon;
use crate::deadline::{seconds, sleep};
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;
use crate::plugin;
use crate::pod::Pod;
use crate::topology::{Fabric, Stack, Topology};

const JOINS: usize = 12;
const ECHO: u16 = 4007;
const AGAIN: Duration = Duration::from_millis(1);

/// Prints the table.
pub(super) fn measure() -> Outcome {
    head("a node joins 4 others: start of netd to answers");
    for backend in ["vxlan", "host-gw"] {
        one(backend)?;
    }
    note("ready and ADD are parts of the whole; an answer needs the newcomer's entries and the other's");
    Ok(())
}

#[derive(Default)]
struct Joins {
    ready: Times,
    added: Times,
    first: Times,
    whole: Times,
}

fn one(backend: &str) -> Outcome {
    let fabric = Topology::one_segment(Stack::V4).with("n4", 1).with("m5", 1).build()?;
    fabric.write_net_conf(&net_conf(Stack::V4, &json!({ "Type": backend })))?;
    let cluster = Cluster::on(fabric, &["--ip-masq"])?;
    let pods = ["n1", "n2", "n3", "n4"].map(|node| cluster.pod(node, "old"));
    let pods = pods.into_iter().collect::<Outcome<Vec<Pod>>>()?;
    let over = Arc::new(AtomicBool::new(false));
    let servers = pods.iter().map(|pod| serve(pod, &over)).collect::<Outcome<Vec<_>>>()?;
    let mut joins = Joins::default();
    for _ in 0..JOINS {
        for node in ["n1", "n2", "n3", "n4"] {
            Process(cluster.daemon(node).process()).rest()?;
        }
        join(&cluster.fabric, &pods, &mut joins)?;
        // Longer than a record must be missing for its node to count as gone.
        sleep(Duration::from_millis(700));
    }
    over.store(true, Ordering::Relaxed);
    for server in servers {
        server.join().ok().context("an echo server broke")?;
    }
    joins.ready.row(&format!("{backend}: ready"));
    joins.added.row(&format!("{backend}: the plugin's ADD"));
    joins.first.row(&format!("{backend}: whole, first answer of any"));
    joins.whole.row(&format!("{backend}: whole, answers of all 4"));
    Ok(())
}

fn join(fabric: &Fabric, pods: &[Pod], joins: &mut Joins) -> Outcome {
    let node = fabric.node("m5");
    let namespace = Namespace::new("new")?;
    let mut command = node.netd("", &["--ip-masq"])?;
    command.env("RUST_LOG", "info");
    let begun = Instant::now();
    let daemon = Daemon::launch(node.namespace(), command, "m5", &fabric.disk().join("m5"))?;
    daemon.await_ready()?;
    joins.ready.push(begun.elapsed());
    let adding = Instant::now();
    let attachment = plugin::attachment(node, "new", &namespace)?;
    let result = attachment.succeed("ADD")?;
    joins.added.push(adding.elapsed());
    let others = pods.iter().map(|pod| pod.address(Family::V4)).collect::<Outcome<Vec<IpAddr>>>()?;
    let answered = namespace.within(|| probe(&others))?.context("no answer from every pod");
    let answered = answered.map_err(|failure| failure.with("netd's log", &daemon.log()))?;
    joins.first.push(*answered.iter().min().context("no pods")? - begun);
    joins.whole.push(*answered.iter().max().context("no pods")? - begun);
    attachment.after(&result).succeed("DEL")?;
    daemon.terminate()?;
    let output = node.run_netd("cleanup", &[])?;
    crate::ensure!(output.status.success(), "netd cleanup: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Asks all of them until each has answered; when each did.
fn probe(others: &[IpAddr]) -> std::io::Result<Vec<Instant>> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(AGAIN))?;
    let begun = Instant::now();
    let mut answered = vec![None; others.len()];
    let mut buffer = [0; 16];
    while answered.contains(&None) {
        if begun.elapsed() > seconds(10) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        for (other, _) in others.iter().zip(&answered).filter(|(_, at)| at.is_none()) {
            // Refused while the way is not there yet.
            let _ = socket.send_to(b"?", (*other, ECHO));
        }
        let sent = Instant::now();
        while sent.elapsed() < AGAIN && answered.contains(&None) {
            if let Ok((_, from)) = socket.recv_from(&mut buffer)
                && let Some(place) = others.iter().position(|other| *other == from.ip())
            {
                answered[place].get_or_insert_with(Instant::now);
            }
        }
    }
    Ok(answered.into_iter().flatten().collect())
}

/// Answers what is sent to a pod, until it is over.
fn serve(pod: &Pod, over: &Arc<AtomicBool>) -> Outcome<thread::JoinHandle<()>> {
    let socket = pod.namespace().within(|| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind(("0.0.0.0", ECHO))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(socket)
    })?;
    let socket = socket.context("open an echo server")?;
    let over = Arc::clone(over);
    Ok(thread::spawn(move || {
        let mut buffer = [0; 16];
        while !over.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        }
    }))
}
