//! Being let in: TLS with an authority, with a client's certificate, and users with passwords.

use libtest_mimic::Trial;
use netd_tests::etcd::{Certificates, Door, Etcd};
use netd_tests::suite::test;
use netd_tests::{Outcome, seconds};

use crate::bed::{Bed, ENDPOINT, foreign, key_of, routed, topology, vxlan};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("TLS with an authority and a client's certificate", tls),
        test("user and password, and a token that ends", password),
        test("flags that do not fit together are refused by name", flags),
    ]
}

fn tls() -> Outcome {
    let fabric = topology().build()?;
    let machine = fabric.node("etcd");
    let certificates = Certificates::make(machine, fabric.disk())?;
    let etcd = Etcd::start(machine, fabric.disk(), Door::Tls(&certificates))?;
    etcd.put(machine, "config", &vxlan().to_string())?;
    etcd.put(machine, "subnets/10.244.200.0-24", &foreign(200))?;
    let endpoint = ENDPOINT.replace("http:", "https:");
    let file = |flag: &str, name: &str| format!("--etcd-{flag}={}", certificates.file(name));
    let (authority, other) = (file("cafile", "ca.pem"), file("cafile", "other.pem"));
    let (certificate, key) = (file("certfile", "client.pem"), file("keyfile", "client.key"));
    {
        let daemon = fabric.node("n1").launch_netd(&[&endpoint, &other])?;
        daemon.await_log("certificate", seconds(20))?;
    }
    let n1 = fabric.node("n1").start_netd(&[&endpoint, &authority])?;
    routed(fabric.node("n1"), "10.244.200.0/24", true)?;
    etcd.kill()?;
    let etcd = Etcd::start(machine, fabric.disk(), Door::Mutual(&certificates))?;
    n1.await_log("etcd cannot be followed", seconds(60))?;
    let _n2 = fabric.node("n2").start_netd(&[&endpoint, &authority, &certificate, &key])?;
    routed(fabric.node("n2"), "10.244.200.0/24", true)?;
    key_of(&etcd, machine, 12).map(drop)
}

fn password() -> Outcome {
    let mut bed = Bed::with(&vxlan())?;
    for line in [
        "user add root:secret",
        "user grant-role root root",
        "role add netd",
        "role grant-permission netd readwrite --prefix=true /coreos.com/network/",
        "user add node:word",
        "user grant-role node netd",
        "auth enable",
    ] {
        bed.ctl(&line.split(' ').collect::<Vec<_>>())?;
    }
    bed.etcd.come_as("root:secret");
    let user = "--etcd-username=node";
    {
        let daemon = bed.node("n2").launch_netd(&[ENDPOINT, user, "--etcd-password=wrong"])?;
        daemon.await_log("--etcd-password", seconds(20))?;
    }
    let daemon = bed.node("n1").start_netd(&[ENDPOINT, user, "--etcd-password=word"])?;
    bed.put("subnets/10.244.200.0-24", &foreign(200))?;
    routed(bed.node("n1"), "10.244.200.0/24", true)?;
    let (key, _, _) = key_of(&bed.etcd, bed.machine(), 11)?;
    // etcd forgets all tokens that way.
    bed.ctl(&["auth", "disable"])?;
    bed.ctl(&["auth", "enable"])?;
    bed.ctl(&["del", &format!("/coreos.com/network/subnets/{key}")])?;
    netd_tests::eventually(seconds(20), "the key is there again", || key_of(&bed.etcd, bed.machine(), 11))
        .map_err(|failure| failure.with("netd", &daemon.log()))?;
    bed.put("subnets/10.244.201.0-24", &foreign(201))?;
    routed(bed.node("n1"), "10.244.201.0/24", true)
}

fn flags() -> Outcome {
    let fabric = topology().build()?;
    for (arguments, words) in [
        (vec!["--etcd-endpoints=ftp://a"], vec!["--etcd-endpoints", "ftp://a", "http://"]),
        (vec!["--etcd-endpoints=http://a:1", "--etcd-cafile=/x"], vec!["--etcd-endpoints", "https://"]),
        (vec!["--etcd-endpoints=https://a:1", "--etcd-cafile=/no/such"], vec!["--etcd-cafile", "/no/such"]),
        (vec!["--etcd-certfile=/x"], vec!["--etcd-certfile", "--etcd-keyfile"]),
        (vec!["--etcd-prefix=/x", "--store-dir", "/x"], vec!["--store-dir", "--etcd-"]),
        (vec!["--etcd-prefix=/x", "--net-config-path=/x"], vec!["--net-config-path", "PREFIX/config"]),
    ] {
        fabric.node("n1").refuses(&arguments, &words)?;
    }
    Ok(())
}
