//! The store sends more than anybody needs.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Outcome, Stack, ensure, eventually, kernel, net_conf, seconds, sleep};
use serde_json::{Value, json};

use super::bed::{Bed, StorePeer, free_numbers, put, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("10,000 store events as fast as they can be written", ten_thousand),
        test("a broken record that is written anew again and again is logged once", broken),
        test("a peer that moves every 10 ms", moves),
        test("a peer that comes and goes every 10 ms", comes_and_goes),
        test("a net-conf that turns invalid and back, again and again", net_conf_flaps),
    ]
}

fn ten_thousand() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let store = bed.cluster.fabric.store.clone();
    let numbers = free_numbers(&bed.cluster)?;
    let peers = |host: u8| numbers.iter().take(100).map(move |number| StorePeer { number: *number, host });
    bed.under_load(|| {
        let begun = Instant::now();
        // Each of a hundred peers moves a hundred times.
        for round in 0..100_u8 {
            for store_peer in peers(100 + round) {
                store_peer.write(&store)?;
            }
        }
        println!("10,000 records written in {} ms", begun.elapsed().as_millis());
        bed.knows(&peers(199).collect::<Vec<_>>())?;
        bed.rests()?;
        let warned = bed.warned("");
        ensure!(warned.is_empty(), "nothing was wrong, but it said:\n{}", warned.join("\n"));
        let runs = bed.n1().log().lines().filter(|line| line.contains("reconciled")).count();
        println!("{runs} lines about it");
        ensure!((1..1000).contains(&runs), "{runs} lines for 10,000 events");
        Ok(())
    })
}

fn broken() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let store = bed.cluster.fabric.store.clone();
    let number = free_numbers(&bed.cluster)?[0];
    let good = StorePeer { number, host: 100 };
    bed.under_load(|| {
        for _ in 0..200 {
            put(&store, "broken", "{ \"Subnet\": \"10.244.8")?;
            // A liar is no other's trouble either.
            put(&store, "liar", &good.text().replace(&good.address(), "192.168.1.11"))?;
            sleep(Duration::from_millis(5));
        }
        good.write(&store)?;
        bed.knows(&[good])?;
        for name in ["broken", "liar"] {
            let warned = bed.warned(name);
            ensure!(warned.len() == 1, "{name} was logged {} times:\n{}", warned.len(), warned.join("\n"));
        }
        Ok(())
    })
}

/// Between two addresses, for three seconds.
fn moves() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let store = bed.cluster.fabric.store.clone();
    let number = free_numbers(&bed.cluster)?[0];
    bed.under_load(|| {
        for turn in 0..300_u16 {
            let store_peer = StorePeer { number, host: if turn % 2 == 0 { 100 } else { 101 } };
            store_peer.write(&store)?;
            sleep(Duration::from_millis(10));
        }
        bed.knows(&[StorePeer { number, host: 101 }])?;
        bed.rests()?;
        let warned = bed.warned("");
        ensure!(warned.is_empty(), "nothing was wrong, but it said:\n{}", warned.join("\n"));
        Ok(())
    })
}

/// Its file is deleted and made anew, for three seconds; in the end it stays once, and once it is gone.
fn comes_and_goes() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let store = bed.cluster.fabric.store.clone();
    let store_peer = StorePeer { number: free_numbers(&bed.cluster)?[0], host: 100 };
    let flap = || {
        for _ in 0..150 {
            store_peer.remove(&store)?;
            sleep(Duration::from_millis(10));
            store_peer.write(&store)?;
            sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    bed.under_load(|| {
        store_peer.write(&store)?;
        bed.knows(&[store_peer])?;
        flap()?;
        bed.knows(&[store_peer])?;
        flap()?;
        store_peer.remove(&store)?;
        bed.knows(&[])?;
        let warned = bed.warned("");
        ensure!(warned.is_empty(), "nothing was wrong, but it said:\n{}", warned.join("\n"));
        Ok(())
    })
}

fn net_conf_flaps() -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let path = bed.cluster.fabric.store.join("net-conf.json");
    let good = net_conf(Stack::V4, &vxlan()).to_string();
    let write = |text: &str| {
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path)).context("write net-conf.json")
    };
    let bad = [
        good[..good.len() / 2].to_owned(),
        String::new(),
        net_conf(Stack::V4, &json!({ "Type": "vxlan", "VNI": -1 })).to_string(),
        json!({ "Network": "10.99.0.0/16", "Backend": vxlan() }).to_string(),
    ];
    bed.under_load(|| {
        for turn in 0..20 {
            let bad = &bad[turn % bad.len()];
            // The same words again are nothing new.
            for _ in 0..5 {
                write(bad)?;
                sleep(Duration::from_millis(4));
            }
            write(&good)?;
            sleep(Duration::from_millis(20));
            if turn % 5 == 4 {
                // And gone altogether, which is not the same as wrong.
                std::fs::remove_file(&path).context("remove net-conf.json")?;
                sleep(Duration::from_millis(20));
                write(&good)?;
            }
        }
        let mtu = |wanted: u32| {
            eventually(seconds(20), &format!("the device has MTU {wanted}"), || {
                let mtu: Value = kernel::existing_link(bed.cluster.node("n1").namespace(), "flannel.1")?["mtu"].clone();
                ensure!(mtu == wanted, "it has {mtu}");
                Ok(())
            })
        };
        mtu(1450)?;
        write(&net_conf(Stack::V4, &json!({ "Type": "vxlan", "MTU": 1400 })).to_string())?;
        mtu(1350)?;
        let refused = bed.n1().log().lines().filter(|line| line.contains("configuration is refused")).count();
        ensure!((1..=40).contains(&refused), "twenty times wrong and right again make {refused} lines");
        Ok(())
    })
}
