//! From nothing to all peers in the kernel, against the same entries written as fast as netlink takes them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::link::{self, Tunnel, Vxlan};
use dataplane::netlink::Request;
use dataplane::types::{Family, Mtu, Vni};
use dataplane::{address, neighbour};

use super::SIZES;
use super::bed::{Backend, Bed, StorePeer, device};
use super::figures::{Times, head, note, quantile, ratio};
use super::process::Process;
use crate::deadline::sleep;
use crate::failure::{Context, Outcome};

const ROUNDS: usize = 25;

/// Prints the table.
pub(super) fn measure() -> Outcome {
    let peers = SIZES[1];
    head(&format!("cold start, {peers} peers, {} entries", peers * 3));
    let mut bed = Bed::new(Backend::Vxlan, peers)?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(&mut bed, peers)?);
    }
    let times = |of: fn(&Round) -> Duration| rounds.iter().map(of).collect::<Times>();
    times(|round| round.built + round.sent).row("raw netlink, with the making of the requests");
    times(|round| round.sent).row("raw netlink, requests ready-made");
    times(|round| round.whole).row("netd, from the start of the process to ready");
    times(|round| round.program).row("netd, of that from the store listed to programmed");
    times(|round| round.raw_cpu).row("raw netlink, processor time (steps of 10 ms)");
    times(|round| round.cpu).row("netd, processor time until ready (steps of 10 ms)");
    let against = |of: fn(&Round) -> Duration, other: fn(&Round) -> Duration| {
        let ratios: Vec<f64> = rounds.iter().map(|round| ratio(of(round), other(round))).collect();
        let [low, middle, high] = [10, 50, 90].map(|percent| quantile(&ratios, percent));
        format!("{middle:.2}x ({low:.2}-{high:.2})")
    };
    note(&format!(
        "against raw, ready-made, in the same round: whole {}, from the store listed {}, processor time {}",
        against(|round| round.whole, |round| round.sent),
        against(|round| round.program, |round| round.sent),
        against(|round| round.cpu, |round| round.raw_cpu),
    ));
    Ok(())
}

/// What both took, one right after the other.
struct Round {
    built: Duration,
    sent: Duration,
    raw_cpu: Duration,
    whole: Duration,
    program: Duration,
    cpu: Duration,
}

fn round(bed: &mut Bed, peers: u32) -> Outcome<Round> {
    let itself = Process(std::process::id());
    let before = itself.cpu()?;
    let (built, sent) = write_raw(bed, peers)?;
    let raw_cpu = itself.cpu()?.saturating_sub(before);
    count(bed, peers)?;
    clear(bed)?;
    let running = bed.start(&[])?;
    let cpu = running.process.cpu()?;
    let (_, took) = bed.metrics()?.runs("startup");
    count(bed, peers)?;
    let whole = running.took;
    running.daemon.crash()?;
    clear(bed)?;
    Ok(Round { built, sent, raw_cpu, whole, program: Duration::from_secs_f64(took), cpu })
}

/// Removes the device, waits for the kernel to have freed its entries, and makes the machine anew.
fn clear(bed: &mut Bed) -> Outcome {
    let mut kernel = bed.kernel()?;
    kernel.socket().request(link::delete(link::Device::Name(&device()?))).context("delete the device")?;
    bed.renew()?;
    // The kernel frees a namespace later and sends no notification; the next round must not pay for it.
    sleep(Duration::from_millis(400));
    Ok(())
}

/// Writes the entries of all peers to a device made by hand; how long the making of the requests and their sending took.
fn write_raw(bed: &Bed, peers: u32) -> Outcome<(Duration, Duration)> {
    let mut kernel = bed.kernel()?;
    let socket = kernel.socket();
    let underlay = socket.link(&"eth0".parse().context("a name")?).context("read eth0")?.context("there is no eth0")?;
    let vni = Vni::try_from(1).context("a VNI")?;
    let local = Some(IpAddr::from([172, 16, 0, 1]));
    let vxlan =
        Vxlan { vni, local, underlay: Some(underlay.index), port: 8472, learning: false, gbp: false, foreign: false };
    let (name, mtu, mac) = (device()?, Mtu::try_from(1450).context("an MTU")?, StorePeer::new(0).mac());
    socket.request(link::add_tunnel(&name, &Tunnel::Vxlan(vxlan), Some(mac), mtu)).context("make the device")?;
    let index = socket.link(&name).context("read the device")?.context("there is no device")?.index;
    socket.request(address::add(index, [10, 99, 0, 0].into(), 32)).context("give it an address")?;
    let begun = Instant::now();
    let requests = requests(index, peers)?;
    let built = begun.elapsed();
    let sending = Instant::now();
    let outcomes = socket.batch(&requests);
    let sent = sending.elapsed();
    for outcome in outcomes {
        outcome.context("write an entry")?;
    }
    Ok((built, sent))
}

fn requests(index: u32, peers: u32) -> Outcome<Vec<Request>> {
    let store_peers = || (1..=peers).map(StorePeer::new);
    let mut requests = Vec::with_capacity(3 * peers as usize);
    for store_peer in store_peers() {
        requests.push(neighbour::put(index, store_peer.subnet()?.address(), store_peer.mac()));
    }
    requests.extend(store_peers().map(|store_peer| neighbour::put_fdb(index, store_peer.mac(), store_peer.public())));
    for store_peer in store_peers() {
        requests.push(store_peer.route(Backend::Vxlan, index)?.add());
    }
    Ok(requests)
}

/// Fails unless the kernel has all entries of all peers.
fn count(bed: &Bed, peers: u32) -> Outcome {
    let mut kernel = bed.kernel()?;
    let socket = kernel.socket();
    let index = socket.link(&device()?).context("read the device")?.context("there is no device")?.index;
    let routes = socket.routes(Family::V4).context("read the routes")?;
    let found = [
        routes.iter().filter(|route| route.index == index).count(),
        socket.neighbours(index, Family::V4).context("read the neighbours")?.iter().filter(|one| one.permanent).count(),
        socket.fdb(index).context("read the forwarding entries")?.len(),
    ];
    crate::ensure!(found == [peers as usize; 3], "there are {found:?} routes, neighbours and forwarding entries");
    Ok(())
}
