//! What netd and the API server know each other by, and what ends: tokens, authorities, certificates, and a clock that says so. Packets
//! flow through all of it, and nobody restarts netd.

use libtest_mimic::Trial;
use netd_tests::apiserver::ApiServer;
use netd_tests::suite::test;
use netd_tests::{Cluster, Context, Outcome, Pod, ensure, eventually, flow, seconds};
use serde_json::json;

use crate::bed::{Bed, routed, vxlan};

/// A certificate that is good now.
const NOW: (&str, &str) = ("-1 hour", "+1 day");

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("a token that ends with its Secret is reported, and the next one taken from its file", token),
        test("an API server with a certificate of another authority is reported, until netd is given it", authority),
        test("a certificate that the same authority renews is not reported", renewed),
        test("a certificate that is over already is the clock's or the certificate's fault", || {
            clock(("-2 days", "-1 day"))
        }),
        test("a certificate whose time has not come is the clock's or the certificate's fault", || {
            clock(("+1 day", "+2 days"))
        }),
    ]
}

/// Nodes whose pods talk all the time.
struct Talking {
    cluster: Cluster,
    server: ApiServer,
    /// Held, since they end with this.
    pods: [Pod; 2],
    ping: flow::Stream,
}

impl Talking {
    fn on(bed: Bed) -> Outcome<Self> {
        let (cluster, server) = bed.cluster()?;
        let pods = [cluster.pod("n1", "a")?, cluster.pod("n2", "b")?];
        cluster.settle(&pods[0], &pods[1])?;
        let address = *pods[1].addresses().iter().next().context("an address")?.1;
        let ping = flow::Stream::start(pods[0].namespace(), address)?;
        Ok(Self { cluster, server, pods, ping })
    }

    /// netd says these words, with what to type or to give, once; and goes on trying without saying them again.
    fn told_once(&self, words: &str) -> Outcome {
        let daemon = self.cluster.daemon("n1");
        daemon.await_log(words, seconds(60))?;
        eventually(seconds(20), "netd status says it too", || {
            let output = self.cluster.node("n1").run_netd("status", &[])?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(text.contains(words), "it says {text}");
            Ok(())
        })
        .map_err(|failure| self.cluster.with_logs(failure))
    }

    /// netd goes on by itself: a peer that comes now gets its route, and no packet was lost meanwhile.
    fn goes_on(self, words: &str) -> Outcome {
        let Self { cluster, server, pods: _pods, ping } = self;
        crate::bed::add_peer(&server, "later", 78)?;
        routed(cluster.node("n1"), "10.244.78.0/24", true).map_err(|failure| cluster.with_logs(failure))?;
        cluster.daemon("n1").await_log("can be followed again", seconds(60))?;
        let log = cluster.daemon("n1").log();
        // Of the Nodes or of the configuration, where the one is well before the other.
        let said = log.matches(words).count();
        ensure!((1..=2).contains(&said), "it was said {said} times: {log}");
        ping.nothing_lost().map_err(|failure| cluster.with_logs(failure))
    }
}

/// The administrator goes in whatever the certificate is.
fn let_in(server: &ApiServer) -> Outcome {
    let text = std::fs::read_to_string(server.admin()).context("read the administrator's kubeconfig")?;
    let authority = format!("certificate-authority: {}", server.credentials().file("ca.pem").display());
    ensure!(text.contains(&authority), "the kubeconfig is {text}");
    std::fs::write(server.admin(), text.replace(&authority, "insecure-skip-tls-verify: true")).context("write it")
}

fn token() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    let secret = "/api/v1/namespaces/netd/secrets";
    let made = bed.server.create(secret, &json!({ "metadata": { "name": "binds" } }))?;
    let bound =
        json!({ "apiVersion": "v1", "kind": "Secret", "name": "binds", "uid": made["metadata"]["uid"].clone() });
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "expirationSeconds": 3600, "boundObjectRef": bound },
    });
    let answer = bed.server.create("/api/v1/namespaces/netd/serviceaccounts/netd/token", &asked)?;
    let token = answer["status"]["token"].as_str().context("a token")?;
    let file = bed.fabric.disk().join("token");
    let write = |token: &str| -> Outcome {
        std::fs::write(file.with_extension("growing"), token).context("write a token")?;
        std::fs::rename(file.with_extension("growing"), &file).context("put a token in its place")
    };
    write(token)?;
    // The kubeconfig of all nodes names the file.
    let kubeconfig = bed.server.kubeconfig("netd", "here")?;
    let text = std::fs::read_to_string(&kubeconfig).context("read a kubeconfig")?;
    let named = text.replace("token: 'here'", &format!("tokenFile: {}", file.display()));
    ensure!(named != text, "the kubeconfig is {text}");
    std::fs::write(&kubeconfig, named).context("write a kubeconfig")?;
    let mut talking = Talking::on(bed)?;
    talking.server.delete(&format!("{secret}/binds"))?;
    // Watches that have begun are never asked again who they are.
    talking.server.stop()?;
    talking.server.resume()?;
    let words = "that its token is mounted and renewed";
    talking.told_once(words)?;
    write(&talking.server.account_token("netd", "netd")?)?;
    talking.goes_on(words)
}

fn authority() -> Outcome {
    let mut talking = Talking::on(Bed::with(&vxlan())?)?;
    let server = &mut talking.server;
    let_in(server)?;
    server.credentials().add_authority(server.namespace(), "next")?;
    server.credentials().renew_server(server.namespace(), "next", NOW)?;
    server.stop()?;
    server.resume()?;
    let words = "put the certificate authority";
    talking.told_once(words)?;
    let file = |name: &str| talking.server.credentials().file(name);
    std::fs::rename(file("next.pem"), file("ca.pem")).context("give the new authority")?;
    talking.goes_on(words)
}

fn renewed() -> Outcome {
    let Talking { cluster, mut server, pods: _pods, ping } = Talking::on(Bed::with(&vxlan())?)?;
    let fingerprint = |server: &ApiServer| {
        let url = server.url();
        let at = url.trim_start_matches("https://");
        server.namespace().shell(&format!(
            "openssl s_client -connect {at} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
        ))
    };
    let before = fingerprint(&server)?;
    server.credentials().renew_server(server.namespace(), "ca", NOW)?;
    eventually(seconds(120), "the API server shows its new certificate", || {
        ensure!(fingerprint(&server)? != before, "it shows the old one");
        Ok(())
    })?;
    // Connections that have begun are never shown it.
    server.stop()?;
    server.resume()?;
    crate::bed::add_peer(&server, "later", 78)?;
    routed(cluster.node("n1"), "10.244.78.0/24", true).map_err(|failure| cluster.with_logs(failure))?;
    let log = cluster.daemon("n1").log();
    ensure!(!log.contains("certificate"), "it is reported: {log}");
    ping.nothing_lost().map_err(|failure| cluster.with_logs(failure))
}

fn clock(valid: (&str, &str)) -> Outcome {
    let mut talking = Talking::on(Bed::with(&vxlan())?)?;
    let server = &mut talking.server;
    let_in(server)?;
    server.credentials().renew_server(server.namespace(), "ca", valid)?;
    server.stop()?;
    server.resume()?;
    let words = "set this node's clock (timedatectl set-ntp true)";
    talking.told_once(words)?;
    let server = &mut talking.server;
    server.credentials().renew_server(server.namespace(), "ca", NOW)?;
    server.stop()?;
    server.resume()?;
    talking.goes_on(words)
}
