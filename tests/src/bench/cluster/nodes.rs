//! Many Nodes: from the start of the process to all peers in the kernel, a Node's change, memory, and requests at rest.

use std::time::{Duration, Instant};

use serde_json::json;

use super::contender::{Contender, Running};
use super::{Bed, node_of, path};
use crate::apiserver::ACCOUNT;
use crate::bench::SIZES;
use crate::bench::bed::{DEVICE, StorePeer};
use crate::bench::figures::{Times, head, note, quantile, to_f64};
use crate::bench::kernel_events::{KernelEvent, KernelEvents};
use crate::bench::process::Memory;
use crate::deadline::{seconds, sleep};
use crate::failure::{Context, Outcome};
use crate::kernel;

const ROUNDS: usize = 3;
const CHANGES: u32 = 100;
/// How long each rests while its requests are counted.
const REST: Duration = seconds(20);

/// What one of them took in one round.
struct Round {
    start: Duration,
    changes: Changes,
    memory: Memory,
    requests: Vec<String>,
}

/// How long changes took: from the request that writes one, and from the API server's answer to that.
///
/// The API server stops for its own garbage by tens of milliseconds, under whichever daemon that falls; what a daemon
/// takes is what comes after. Its word to those who watch may come before its answer, for both alike.
#[derive(Default)]
struct Changes {
    written: Times,
    answered: Times,
}

/// Prints the tables.
pub(super) fn measure() -> Outcome {
    let peers = SIZES[1];
    let bed = Bed::new()?;
    write_nodes(&bed, peers)?;
    let mut rounds = Contender::BOTH.map(|_| Vec::new());
    for number in 0..ROUNDS {
        for (contender, rounds) in Contender::BOTH.into_iter().zip(&mut rounds) {
            println!("round {} of {ROUNDS}: {}", number + 1, contender.name());
            rounds.push(round(&bed, contender, peers, number)?);
        }
    }
    println!();
    print(peers, &rounds);
    Ok(())
}

/// Makes so many Nodes, none of which is a machine.
pub(super) fn write_nodes(bed: &Bed, count: u32) -> Outcome {
    println!("writing {count} Nodes, with the images of nodes in use");
    let store_peers = (1..=count).map(|number| node_of(StorePeer::new(number))).collect::<Outcome<Vec<_>>>()?;
    bed.server.create_many("/api/v1/nodes", store_peers.len(), |place| store_peers[place].clone())
}

fn print(peers: u32, rounds: &[Vec<Round>; 2]) {
    let pairs = || rounds[0].iter().zip(&rounds[1]);
    let against = |of: &dyn Fn(&Round) -> f64| {
        let ratios: Vec<f64> = pairs().map(|(ours, theirs)| of(ours) / of(theirs)).collect();
        let [low, middle, high] = [10, 50, 90].map(|percent| quantile(&ratios, percent));
        format!("{middle:.2}x ({low:.2}-{high:.2})")
    };
    head(&format!("{peers} Nodes"));
    let each = |label: &str, times: &dyn Fn(&[Round]) -> Times| {
        for (contender, rounds) in Contender::BOTH.iter().zip(rounds) {
            times(rounds).row(&format!("{label}, {}", contender.name()));
        }
    };
    each("start of the process to all peers in the kernel", &|rounds| rounds.iter().map(|round| round.start).collect());
    each("a Node's new address to its FDB entry", &|rounds| {
        rounds.iter().flat_map(|round| round.changes.written.all()).collect()
    });
    each("of that, after the API server's answer", &|rounds| {
        rounds.iter().flat_map(|round| round.changes.answered.all()).collect()
    });
    note(&format!("netd against flanneld, start: {}", against(&|round| round.start.as_secs_f64())));
    let at = |percent| against(&|round| round.changes.written.percentile(percent).as_secs_f64());
    note(&format!("change: p50 {}, max {}", at(50), at(100)));
    let after = against(&|round| round.changes.answered.percentile(100).as_secs_f64());
    note(&format!("change, after the API server's answer: max {after}"));
    let memory = |label: &str, of: &dyn Fn(&Round) -> f64| {
        let [ours, theirs] = [0, 1].map(|who| quantile(&rounds[who].iter().map(of).collect::<Vec<_>>(), 50) / 1024.0);
        note(&format!("{label}: netd {ours:.1} MiB, flanneld {theirs:.1} MiB, {}", against(of)));
    };
    memory("RSS at rest", &|round| to_f64(round.memory.resident));
    memory("RSS at its peak", &|round| to_f64(round.memory.peak));
    for (contender, rounds) in Contender::BOTH.iter().zip(rounds) {
        let asked: Vec<&String> = rounds.iter().flat_map(|round| &round.requests).collect();
        note(&format!("requests of {} in {} s at rest: {asked:?}", contender.name(), REST.as_secs() * ROUNDS as u64));
    }
}

fn round(bed: &Bed, contender: Contender, peers: u32, number: usize) -> Outcome<Round> {
    let node = bed.node("n1");
    let mut notifications = KernelEvents::open(node.namespace())?;
    let begun = Instant::now();
    let running = contender.start(bed, node)?;
    let programmed = notifications
        .count("the routes to all peers", peers as usize, |news| matches!(news, KernelEvent::Route(_, Some(_))));
    let start = programmed? - begun;
    running.process().rest()?;
    let changes = changes(bed, &running, &mut notifications, peers, number)?;
    running.process().rest()?;
    let memory = running.process().memory()?;
    let before = requests(bed)?.len();
    sleep(REST);
    let requests = requests(bed)?.split_off(before);
    drop(running);
    clear(bed)?;
    Ok(Round { start, changes, memory, requests })
}

/// One Node after the other gets another public address, from rest.
fn changes(
    bed: &Bed,
    running: &Running,
    notifications: &mut KernelEvents,
    peers: u32,
    round: usize,
) -> Outcome<Changes> {
    let mut changes = Changes::default();
    for change in 0..CHANGES {
        let mut store_peer = StorePeer::new(1 + change * 47 % peers);
        // Every daemon of every round finds another one than the last left.
        store_peer.address = u8::try_from(round * Contender::BOTH.len() + 1).context("a round's number")?;
        if let Running::Flanneld(_) = running {
            store_peer.address += 1;
        }
        running.process().rest()?;
        notifications.drain()?;
        let at = Instant::now();
        let public = json!({ "flannel.alpha.coreos.com/public-ip": store_peer.public().to_string() });
        bed.server.patch(&path(&store_peer.name()), &json!({ "metadata": { "annotations": public } }))?;
        let answered = Instant::now();
        let received = notifications
            .await_all("a Node's new address", &[KernelEvent::Fdb(store_peer.mac(), store_peer.public())])?;
        changes.written.push(received - at);
        changes.answered.push(received.saturating_duration_since(answered));
    }
    Ok(changes)
}

/// The machine as it was before anything ran on it; its Node keeps what it says.
fn clear(bed: &Bed) -> Outcome {
    let node = bed.node("n1");
    if kernel::link(node.namespace(), DEVICE)?.is_some() {
        node.namespace().ip(&format!("link del {DEVICE}"))?;
    }
    node.namespace().run("nft flush ruleset")?;
    for path in [node.subnet_file(), bed.fabric.disk().join("state")] {
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if path.exists() {
            removed.context("forget the node")?;
        }
    }
    // The kernel frees entries later and sends no notification; the next one must not pay for it.
    sleep(Duration::from_millis(400));
    Ok(())
}

/// What was asked of the API server and is no watch, since it began.
fn requests(bed: &Bed) -> Outcome<Vec<String>> {
    let events = bed.server.requests()?;
    let asked = events.iter().filter(|event| event["user"]["username"] == ACCOUNT && event["verb"] != "watch");
    Ok(asked.map(|event| format!("{} {}", event["verb"], event["requestURI"])).collect())
}
