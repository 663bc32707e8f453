use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::thread;

use dataplane::netns::scratch;

use super::answer::{has_configuration, has_health};
use super::leftovers::tests::sh;
use super::*;

/// Answers one request with these words.
fn answering(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 256]);
        let _ = stream.write_all(words.as_bytes());
    });
    address
}

#[test]
fn kube_proxy_is_known_by_its_configuration() {
    let its = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"kubeproxy.config.k8s.io\":{\"BindAddress\":\"0.0.0.0\"}}";
    assert!(has_configuration(answering(its)));
    let kubelets = "HTTP/1.0 200 OK\r\n\r\n{\"kubeletconfig\":{}}";
    assert!(!has_configuration(answering(kubelets)));
    let ours = "HTTP/1.1 404 Not Found\r\n\r\n404 page not found\n";
    assert!(!has_configuration(answering(ours)));
}

#[test]
fn kube_proxy_is_known_by_its_health_and_netd_proxy_by_its_header() {
    let older = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"lastUpdated\": \"t\",\"currentTime\": \"t\", \"nodeEligible\": true}";
    assert!(has_health(answering(older)));
    let unhealthy =
        "HTTP/1.0 503 Service Unavailable\r\n\r\n{\"lastUpdated\":\"t\",\"currentTime\":\"t\",\"nodeEligible\":true}";
    assert!(has_health(answering(unhealthy)));
    let ours = "HTTP/1.1 200 OK\r\nServer: netd-proxy\r\n\r\n{\"lastUpdated\": \"t\",\"currentTime\": \"t\", \"nodeEligible\": true}";
    assert!(!has_health(answering(ours)));
    assert!(!has_health(answering("HTTP/1.0 200 OK\r\n\r\nok")));
}

#[test]
fn nobody_who_answers_is_not_kube_proxy() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a listener").local_addr().expect("its address");
    assert!(!has_configuration(closed));
    assert!(!has_health(closed));
}

#[test]
fn a_process_counts_by_its_name_account_and_network_namespace() {
    let proc = tempfile::tempdir().expect("a folder");
    let add = |process: &str, name: &str, account: &str, namespace: &str| {
        let folder = proc.path().join(process);
        std::fs::create_dir_all(folder.join("ns")).expect("a folder");
        std::fs::write(folder.join("comm"), format!("{name}\n")).expect("a name");
        let status = format!("Name:\t{name}\nUid:\t1000\t{account}\t0\t0\nGid:\t0\t0\t0\t0\n");
        std::fs::write(folder.join("status"), status).expect("a status");
        symlink(namespace, folder.join("ns/net")).expect("a link");
    };
    add("thread-self", "netd-proxy", "0", "net:[1]");
    add("7", "kube-proxy", "0", "net:[2]");
    add("8", "kube-proxy-old", "0", "net:[1]");
    add("9", "kube-proxy", "1000", "net:[1]");
    assert_eq!(signs::process(proc.path()), None);
    add("10", "kube-proxy", "0", "net:[1]");
    assert_eq!(signs::process(proc.path()), Some(10));
}

#[test]
fn a_listener_is_known_by_its_account() {
    let proc = tempfile::tempdir().expect("a folder");
    let net = proc.path().join("thread-self/net");
    std::fs::create_dir_all(&net).expect("a folder");
    let titles = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    let line = |port: u16, state: &str, account: u32| {
        format!(
            "   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {account:5}        0 1 1\n"
        )
    };
    let is_of_root = |lines: &[String]| {
        std::fs::write(net.join("tcp"), titles.to_owned() + &lines.concat()).expect("a table");
        signs::is_listener_of_root(proc.path(), 10249)
    };
    assert!(!is_of_root(&[]));
    assert!(!is_of_root(&[line(10249, "0A", 1000), line(22, "0A", 0)]));
    assert!(!is_of_root(&[line(22, "0A", 0), line(10249, "01", 0)]));
    assert!(is_of_root(&[line(22, "0A", 1000), line(10249, "0A", 0)]));
}

#[test]
fn rules_that_come_back_while_something_remains_are_those_of_a_kube_proxy_that_runs() {
    let run = || {
        sh("iptables-legacy -t nat -N KUBE-SERVICES");
        assert_eq!(look(&mut Observer::default(), true, false), Seen::Returning);
        let seen = look(&mut Observer::default(), true, true);
        assert!(matches!(&seen, Seen::Running(sign) if sign.contains("has made its rules")), "{seen:?}");
    };
    scratch(run).expect("a new namespace: be root, or run the tests in `unshare -Urnm`");
}
