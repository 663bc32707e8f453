//! Affinity by client: who stays with an endpoint, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netd_tests::{Outcome, ensure, eventually, seconds};

use super::scene::{self, DESTINATIONS, Scene};

/// The endpoint of each client.
type Chosen = BTreeMap<IpAddr, SocketAddr>;

/// How many endpoints there are; that thirty clients draw the same of them has a chance of less than 1e-17.
const COUNT: u8 = 4;
/// Longer than any test runs.
const LONG: u32 = 3600;

fn choose(scene: &Scene, to: (Ipv4Addr, u16)) -> Outcome<Chosen> {
    let clients = scene::clients(&scene.bed.client)?;
    scene.bed.client.within(|| clients.iter().map(|client| Ok((*client, scene::once(*client, to)?))).collect())?
}

/// The endpoints of all clients, which differ among them.
fn first(scene: &Scene, to: (Ipv4Addr, u16)) -> Outcome<Chosen> {
    let chosen = choose(scene, to)?;
    let endpoints: BTreeSet<&SocketAddr> = chosen.values().collect();
    ensure!(endpoints.len() > 1, "all clients got {endpoints:?}");
    Ok(chosen)
}

fn stay(scene: &Scene, to: (Ipv4Addr, u16), chosen: &Chosen) -> Outcome {
    for _ in 0..5 {
        let now = choose(scene, to)?;
        ensure!(now == *chosen, "clients of {to:?} moved: from {chosen:?}\nto {now:?}");
    }
    Ok(())
}

/// Each client has one endpoint, by whichever address of the Service.
pub(crate) fn is_shared() -> Outcome {
    let scene = Scene::start(COUNT, Some(LONG))?;
    let chosen = first(&scene, DESTINATIONS[0])?;
    DESTINATIONS.into_iter().try_for_each(|to| stay(&scene, to, &chosen))
}

/// Each client stays, whatever other clients do.
pub(crate) fn sticks() -> Outcome {
    let scene = Scene::start(COUNT, Some(LONG))?;
    for to in DESTINATIONS {
        let chosen = first(&scene, to)?;
        stay(&scene, to, &chosen)?;
    }
    Ok(())
}

/// With `externalTrafficPolicy: Local` each client from outside stays with an endpoint of this node.
pub(crate) fn sticks_among_local() -> Outcome {
    let mut scene = Scene::start(COUNT, Some(LONG))?;
    let service = scene::service("web", scene::CLUSTER, Some(scene::NODE_PORT.1));
    scene.bed.objects.apply(&(service + "  externalTrafficPolicy: Local\n  sessionAffinity: ClientIP\n"))?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    let chosen = first(&scene, scene::NODE_PORT)?;
    let local = [1, 3].map(scene::endpoint);
    ensure!(chosen.values().all(|endpoint| local.contains(endpoint)), "not only endpoints of this node: {chosen:?}");
    stay(&scene, scene::NODE_PORT, &chosen)
}

/// Clients stay where netd-proxy ends, by itself or killed, and starts again.
pub(crate) fn survives_restarts() -> Outcome {
    let mut scene = Scene::start(COUNT, Some(LONG))?;
    let mut chosen = Vec::new();
    for to in DESTINATIONS {
        chosen.push((to, first(&scene, to)?));
    }
    for crash in [false, true] {
        scene.restart(crash, |_| Ok(()))?;
        for (to, chosen) in &chosen {
            stay(&scene, *to, chosen)?;
        }
    }
    Ok(())
}

/// A client that was idle for the timeout is forgotten.
pub(crate) fn expires() -> Outcome {
    let scene = Scene::start(COUNT, Some(1))?;
    for to in DESTINATIONS {
        let before = first(&scene, to)?;
        eventually(seconds(30), "the kernel forgets the clients", || {
            let table = scene.bed.node.run("nft list table ip netd-proxy")?;
            ensure!(!table.contains("203.0.113."), "it has some");
            Ok(())
        })?;
        let after = choose(&scene, to)?;
        ensure!(after != before, "thirty clients got the same endpoints again: {after:?}");
    }
    Ok(())
}

/// A client whose endpoint is gone gets another one, and stays with that.
pub(crate) fn leaves_what_is_gone() -> Outcome {
    let mut scene = Scene::start(COUNT, Some(LONG))?;
    let mut chosen = Vec::new();
    for to in DESTINATIONS {
        chosen.push((to, first(&scene, to)?));
    }
    scene.set_endpoints([1, 3, 4])?;
    scene.await_programmed()?;
    let gone = scene::endpoint(2);
    for (to, before) in chosen {
        let after = choose(&scene, to)?;
        ensure!(!after.values().any(|endpoint| *endpoint == gone), "clients still go to {gone}: {after:?}");
        // The endpoint that takes the number of the one that is gone may lose its clients; no other one does.
        let lost: BTreeSet<&SocketAddr> = before
            .iter()
            .filter(|(client, was)| **was != gone && after.get(client) != Some(was))
            .map(|(_, was)| was)
            .collect();
        ensure!(lost.len() <= 1, "clients of {lost:?} moved, and only {gone} was removed");
        stay(&scene, to, &after)?;
    }
    Ok(())
}

/// Clients stay where the cluster gets more ranges of cluster IPs.
pub(crate) fn survives_settings() -> Outcome {
    let mut scene = Scene::start(COUNT, Some(LONG))?;
    let mut chosen = Vec::new();
    for to in DESTINATIONS {
        chosen.push((to, first(&scene, to)?));
    }
    scene.set_cluster("172.30.0.0/16, 172.31.0.0/16")?;
    for (to, chosen) in &chosen {
        stay(&scene, *to, chosen)?;
    }
    Ok(())
}
