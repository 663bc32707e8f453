//! Flows of UDP that netd-proxy finds at its start.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use netd_tests::{Context, Outcome, ensure, eventually, seconds};

use super::ask::{Protocol, Servers};
use super::scene::{self, POD, Scene, endpoint};

const WORDS: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 30, 0, 20), 53);

/// Sends a datagram, and says whether an answer comes within the time.
fn is_answered(client: &UdpSocket, patience: Duration) -> Outcome<bool> {
    client.set_read_timeout(Some(patience)).context("set a timeout")?;
    // A refusal of the datagram before may be received here.
    let _ = client.send(b"?");
    Ok(client.recv(&mut [0; 200]).is_ok())
}

/// A client that goes on sending from one port has no answer once netd-proxy runs again, where its Service was deleted meanwhile.
pub(crate) fn of_deleted_services_end_at_the_start() -> Outcome {
    let mut scene = Scene::start(1, None)?;
    let _server = Servers::start(&[(&scene.bed.local, "local", endpoint(1), Protocol::Udp)])?;
    let words = scene::service("words", WORDS, None).replace("protocol: TCP", "protocol: UDP");
    let slice = scene::slice("words", [1]).replace("protocol: TCP", "protocol: UDP");
    scene.bed.objects.apply(&format!("{words}---\n{slice}"))?;
    scene.bed.publish()?;
    scene.await_programmed()?;
    let client = scene.bed.pod.within(|| {
        let client = UdpSocket::bind((POD, 0))?;
        client.connect(WORDS).map(|()| client)
    })?;
    let client = client.context("make a client")?;
    ensure!(is_answered(&client, seconds(10))?, "there is no answer");

    scene.take_proxy()?.crash()?;
    ensure!(is_answered(&client, seconds(10))?, "the kernel serves without netd-proxy");
    scene.bed.objects.delete("Service", "test/words")?;
    scene.bed.objects.delete("EndpointSlice", "test/words-a")?;
    scene.bed.publish()?;
    scene.launch()?;
    eventually(seconds(20), "the client's flow is deleted", || {
        ensure!(!is_answered(&client, seconds(1))?, "an endpoint still answers");
        Ok(())
    })
}
