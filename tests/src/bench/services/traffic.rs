//! Through a cluster IP: the first packets of a connection, and requests a second, among few Services and among many.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::contender::Contender;
use super::notifications::Notifications;
use super::objects::{self, PORT, Slice, TARGET};
use super::{Bed, SIZES};
use crate::bench::figures::{Times, head, note, quantile};
use crate::deadline::seconds;
use crate::failure::{Context, Outcome};

const BLOCKS: usize = 10;
const REQUESTS: usize = 400;
const TIMEOUT: Duration = seconds(600);
/// Its endpoint answers.
const SERVICE: u32 = 7;

/// Where a client's requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through a proxy's cluster IP, from the node of the proxy.
    Proxy(Contender),
    /// From netd-proxy's node to the endpoint's own address: no Service's.
    Direct,
}

const WAYS: [Way; 3] = [Way::Proxy(Contender::Netd), Way::Proxy(Contender::KubeProxy), Way::Direct];

#[derive(Default)]
struct Figures {
    connects: Times,
    rates: Vec<f64>,
}

/// Prints the tables.
pub(super) fn measure() -> Outcome {
    let mut bed = Bed::new()?;
    let endpoint = bed.node("n3").first_address();
    let listener = bed.node("n3").namespace().within(|| TcpListener::bind((endpoint, TARGET)))?;
    let listener = listener.context("serve requests")?;
    thread::spawn(move || serve(&listener));
    for node in ["n1", "n2", "n3"] {
        // Connections that are over must not pile up.
        bed.node(node).namespace().sysctl("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1")?;
        bed.node(node).namespace().sysctl("net/netfilter/nf_conntrack_tcp_timeout_close", "1")?;
    }
    let mut medians = Vec::new();
    for size in [SIZES[0], SIZES[2]] {
        bed.fill(size)?;
        let mut slice = Slice::of(SERVICE, 1);
        slice.addresses = vec![Ipv4Addr::UNSPECIFIED; 1];
        if let std::net::IpAddr::V4(address) = endpoint {
            slice.addresses = vec![address];
        }
        bed.patch(&slice)?;
        medians.push(at(&bed, size, endpoint)?);
    }
    let ratio = |way: usize| medians[1][way] / medians[0][way];
    note(&format!(
        "a new connection among {} Services against {}: netd-proxy {:.2}x, kube-proxy {:.2}x, no Service's {:.2}x",
        SIZES[2],
        SIZES[0],
        ratio(0),
        ratio(1),
        ratio(2)
    ));
    Ok(())
}

/// Returns the medians of new connections, by way.
fn at(bed: &Bed, size: u32, endpoint: std::net::IpAddr) -> Outcome<[f64; 3]> {
    let mut running = Vec::new();
    for contender in Contender::BOTH {
        let mut notifications = Notifications::open(contender.namespace(bed))?;
        running.push(contender.start(bed)?);
        notifications.await_all(&[Slice::new(bed.size - 1).addresses[2]], TIMEOUT)?;
        notifications.await_silence(seconds(2))?;
    }
    running.iter().try_for_each(|running| running.process().rest())?;
    let mut figures = WAYS.map(|_| Figures::default());
    let service = SocketAddr::from((objects::cluster_ip(SERVICE), PORT));
    let endpoint = SocketAddr::from((endpoint, TARGET));
    for _ in 0..BLOCKS {
        for (way, figures) in WAYS.into_iter().zip(&mut figures) {
            let (from, to) = match way {
                Way::Proxy(contender) => (contender, service),
                Way::Direct => (Contender::Netd, endpoint),
            };
            from.namespace(bed).within(|| requests(to, figures))??;
        }
    }
    drop(running);
    Contender::BOTH.into_iter().try_for_each(|contender| contender.clear(bed))?;
    head(&format!("a new connection, {size} Services"));
    let label = |way| match way {
        Way::Proxy(contender) => format!("through a cluster IP of {}", contender.name()),
        Way::Direct => "to no Service, on the node of netd-proxy".to_owned(),
    };
    for (way, figures) in WAYS.into_iter().zip(&figures) {
        figures.connects.row(&label(way));
    }
    for (way, figures) in WAYS.into_iter().zip(&figures) {
        let [low, middle, high] = [10, 50, 90].map(|percent| quantile(&figures.rates, percent));
        note(&format!("requests a second, one client, {}: {middle:.0} ({low:.0}-{high:.0})", label(way)));
    }
    println!();
    Ok(figures.map(|figures| figures.connects.median().as_secs_f64()))
}

/// Connects and asks, again and again. The server ends the connections, so that the client's ports are free again.
fn requests(to: SocketAddr, figures: &mut Figures) -> Outcome {
    let begun = Instant::now();
    let mut connecting = Duration::ZERO;
    for _ in 0..REQUESTS {
        let at = Instant::now();
        let mut stream = TcpStream::connect_timeout(&to, seconds(10)).context(format!("connect to {to}"))?;
        let time = at.elapsed();
        connecting += time;
        figures.connects.push(time);
        stream.write_all(b"?").context("ask")?;
        stream.read_to_end(&mut Vec::new()).context("read an answer")?;
    }
    let count = u32::try_from(REQUESTS).unwrap_or(u32::MAX);
    figures.rates.push(f64::from(count) / begun.elapsed().as_secs_f64());
    Ok(())
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        // A client that is gone already has its own complaint.
        let _ = stream.read(&mut [0; 1]);
        let _ = stream.write_all(b"!");
    }
}
