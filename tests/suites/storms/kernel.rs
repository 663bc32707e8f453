//! Others change the kernel faster than netd can read the notifications: routes, neighbours and tables that are none of ours.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Namespace, Outcome, Snapshot, ensure, eventually, seconds};

use super::bed::{Bed, StorePeer, free_numbers, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("10,000 changes of others' routes, neighbours and tables", foreign),
        test("a notification overrun, with drift in what was dropped", overrun),
        test("a notification overrun while netd runs", flood),
    ]
}

/// So many routes of another protocol, added and then removed.
fn routes(count: u32) -> String {
    let mut lines = String::new();
    for verb in ["add", "del"] {
        for number in 0..count {
            let (high, low) = (number / 256, number % 256);
            let _ = writeln!(lines, "route {verb} 172.16.{high}.{low}/32 dev other0 proto static");
        }
    }
    lines
}

fn other_device(namespace: &Namespace) -> Outcome {
    namespace.ip("link add other0 type veth peer name other1\nlink set other1 up\nlink set other0 up\naddr add 10.1.0.1/24 dev other0")
}

fn foreign() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let n1 = bed.cluster.node("n1");
    let peer = StorePeer { number: free_numbers(&bed.cluster)?[0], host: 100 };
    peer.write(&bed.cluster.fabric.store)?;
    bed.knows(&[peer])?;
    other_device(n1.namespace())?;
    bed.rests()?;
    let before = Snapshot::take(n1.namespace(), &[])?;
    let mut lines = routes(2500);
    for verb in ["replace", "del"] {
        for number in 0..2500_u32 {
            let address = format!("10.1.{}.{}", number / 250, 1 + number % 250);
            let tail = if verb == "replace" { "lladdr 02:00:00:00:00:99 nud permanent" } else { "" };
            let _ = writeln!(lines, "neigh {verb} {address} dev other0 {tail}");
        }
    }
    let mut rules = String::new();
    for number in 0..200 {
        let _ = writeln!(
            rules,
            "add table inet other{number}\nadd chain inet other{number} c\ndelete table inet other{number}"
        );
    }
    bed.under_load(|| {
        let begun = Instant::now();
        n1.namespace().ip(&lines)?;
        nft(n1.namespace(), &rules)?;
        println!("10,600 changes of others in {} ms", begun.elapsed().as_millis());
        bed.rests()?;
        before.same_as(&Snapshot::take(n1.namespace(), &[])?)?;
        let log = bed.n1().log();
        let repairs: Vec<&str> = log.lines().filter(|line| line.contains(REPAIR)).collect();
        ensure!(repairs.is_empty(), "nothing of ours was changed, but it repaired:\n{}", repairs.join("\n"));
        let warned = bed.warned("");
        ensure!(warned.is_empty(), "nothing was wrong, but it said:\n{}", warned.join("\n"));
        // A repair would have been logged so.
        n1.namespace().run(&format!("ip route del {}", peer.subnet()))?;
        bed.n1().await_log(REPAIR, seconds(20))
    })
}

/// In the line of a run that repairs what others have changed.
const REPAIR: &str = "trigger=kernel changed";

fn nft(namespace: &Namespace, script: &str) -> Outcome {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped());
    let mut child = namespace.spawn(&mut command)?;
    let mut input = child.stdin.take().context("nft listens")?;
    std::io::Write::write_all(&mut input, script.as_bytes()).context("speak to nft")?;
    drop(input);
    ensure!(child.wait().context("wait for nft")?.success(), "nft refused the tables of others");
    Ok(())
}

/// Notifications that the kernel could not deliver to the sockets of the namespace's programs.
fn dropped(namespace: &Namespace) -> Outcome<u64> {
    let table = namespace.run("cat /proc/net/netlink")?;
    let drops = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(8)?.parse::<u64>().ok());
    Ok(drops.sum())
}

const FLOOD: u32 = 60_000;

fn overrun() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let (n1, store) = (bed.cluster.node("n1"), bed.cluster.fabric.store.clone());
    let numbers = free_numbers(&bed.cluster)?;
    let peers: Vec<StorePeer> =
        numbers.iter().take(20).map(|number| StorePeer { number: *number, host: 100 }).collect();
    peers.iter().try_for_each(|store_peer| store_peer.write(&store))?;
    bed.knows(&peers)?;
    other_device(n1.namespace())?;
    bed.rests()?;
    let before = Snapshot::take(n1.namespace(), &[])?;
    bed.under_load(|| {
        bed.n1().stand_still()?;
        n1.namespace().ip(&routes(FLOOD))?;
        let drops = dropped(n1.namespace())?;
        ensure!(drops > 0, "the kernel has dropped no notification");
        // After the socket is full: netd gets no notification of this. The route to n2 stays, others are talking.
        let harm = format!(
            "ip route del {}\nip route replace {} via 192.168.1.77\nbridge fdb del {} dev flannel.1\n\
             ip neigh replace {} lladdr 02:00:00:00:99:99 nud permanent dev flannel.1\n\
             ip neigh add 10.244.1.77 lladdr 02:00:00:00:99:98 nud permanent dev flannel.1\n\
             ip addr add 10.9.9.9/32 dev flannel.1\nip link set flannel.1 mtu 1440",
            peers[0].subnet(),
            peers[1].subnet(),
            peers[2].mac(),
            peers[3].subnet().replace("/24", ""),
        );
        n1.namespace().shell(&harm)?;
        let table = n1.namespace().run("nft list tables")?;
        let table = table.lines().find(|line| line.contains("netd")).context("netd has a table")?.to_owned();
        n1.namespace().run(&format!("nft delete {table}"))?;
        bed.n1().go_on()?;
        println!("{drops} notifications were dropped");
        healed(&bed, &before)
    })
}

fn healed(bed: &Bed, before: &Snapshot) -> Outcome {
    let namespace = bed.cluster.node("n1").namespace();
    eventually(seconds(20), "the kernel is as it was", || before.same_as(&Snapshot::take(namespace, &[])?))?;
    bed.rests()?;
    let warned = bed.warned("");
    ensure!(warned.len() <= 2, "it said:\n{}", warned.join("\n"));
    Ok(())
}

/// More at once than the socket holds, while netd tries to keep up, and something of ours deleted in the middle of it.
fn flood() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let (n1, store) = (bed.cluster.node("n1"), bed.cluster.fabric.store.clone());
    let store_peer = StorePeer { number: free_numbers(&bed.cluster)?[0], host: 100 };
    store_peer.write(&store)?;
    bed.knows(&[store_peer])?;
    other_device(n1.namespace())?;
    bed.rests()?;
    let before = Snapshot::take(n1.namespace(), &[])?;
    bed.under_load(|| {
        let half = routes(FLOOD / 2);
        n1.namespace().ip(&format!("{half}route del {}\n{half}", store_peer.subnet()))?;
        println!("{} notifications were dropped", dropped(n1.namespace())?);
        healed(&bed, &before)
    })
}
