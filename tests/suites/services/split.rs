//! How connections are shared out among endpoints.

use std::net::{IpAddr, Ipv4Addr};

use netd_tests::{Outcome, ensure};

use super::scene::{self, CLIENT, CLUSTER, NODE_PORT, POD, Scene};

const CONNECTIONS: u32 = 2000;
/// Standard deviations: the share of an endpoint in a fair draw misses them with a chance of 4e-8.
const DEVIATIONS: f64 = 5.5;

/// Each endpoint gets its share, of a pod's connections to the cluster IP and a client's to the node port.
pub(crate) fn is_uniform() -> Outcome {
    shares(&Scene::start(3, None)?, 3, POD, CLUSTER)?;
    let mut scene = Scene::start(4, None)?;
    // An endpoint that is in two slices gets no second share.
    scene.bed.objects.apply(&scene::slice("web", [1]).replace("web-a", "web-b"))?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    shares(&scene, 4, CLIENT, NODE_PORT)
}

fn shares(scene: &Scene, count: u8, from: IpAddr, to: (Ipv4Addr, u16)) -> Outcome {
    let counts = scene.count(from, to, CONNECTIONS)?;
    let (all, share) = (f64::from(CONNECTIONS), 1.0 / f64::from(count));
    let bound = DEVIATIONS * (all * share * (1.0 - share)).sqrt();
    ensure!(counts.len() == usize::from(count), "of {count} endpoints these answered: {counts:?}");
    let is_far = |found: &u32| (f64::from(*found) - all * share).abs() > bound;
    ensure!(
        !counts.values().any(is_far),
        "each of {count} must get {:.0}, give or take {bound:.0}: {counts:?}",
        all * share
    );
    Ok(())
}
