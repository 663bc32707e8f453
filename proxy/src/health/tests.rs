//! Answers over HTTP, byte for byte.

use dataplane::netns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::Flags;
use crate::model::ServiceName;

/// A namespace with a loopback device, and a runtime in it.
fn isolated(body: impl AsyncFnOnce() + Send) {
    netns::scratch(|| {
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
        assert!(up.success(), "the loopback device is up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(body());
    })
    .expect("a namespace");
}

/// The status, the headers in lower case and the body of an answer.
async fn get(address: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.expect("a listener");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes()).await.expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

/// Waits until nobody listens. A process that another test is about to execute has the descriptors of listeners that were closed here.
async fn await_refusal(address: &str) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

fn free() -> Reserved {
    Reserved { port: 10249, is_free: watch::channel(true).1 }
}

fn config(arguments: &[&str]) -> Config {
    let arguments = ["netd-proxy"].iter().chain(arguments).map(std::ffi::OsString::from);
    Config::read(&Flags::read(arguments).expect("flags"), None).expect("a configuration").config
}

#[test]
fn a_node_that_leaves_is_not_eligible_and_lives() {
    isolated(async || {
        let (health, metrics) = (Health::new(Duration::from_mins(1)), Arc::new(Metrics::default()));
        let _servers = listen(&config(&[]), &health, &metrics, &free()).expect("listeners");
        // A client that asks for nothing keeps nobody waiting.
        let _silent = TcpStream::connect("127.0.0.1:10256").await.expect("a listener");
        let (status, head, body) = get("127.0.0.1:10256", "/healthz").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json") && head.contains("x-content-type-options: nosniff"));
        assert!(body.starts_with(r#"{"lastUpdated": "20"#) && body.ends_with(r#" +0000 UTC", "nodeEligible": true}"#));
        health.set_node_leaving(true);
        let (status, _, body) = get("127.0.0.1:10256", "/healthz").await;
        assert_eq!((status, body.ends_with(r#", "nodeEligible": false}"#)), (503, true), "{body}");
        let (status, _, body) = get("127.0.0.1:10256", "/livez").await;
        assert_eq!((status, body.ends_with(r#" +0000 UTC"}"#)), (200, true), "{body}");
        let (status, head, mode) = get("127.0.0.1:10249", "/proxyMode").await;
        assert_eq!((status, mode.as_str(), head.contains("text/plain; charset=utf-8")), (200, "nftables", true));
        assert_eq!(get("127.0.0.1:10249", "/healthz").await.2, "ok");
        assert_eq!(get("127.0.0.1:10249", "/else").await.0, 404);
        let (_, _, text) = get("127.0.0.1:10249", "/metrics").await;
        for line in [
            r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
            r#"kubeproxy_proxy_healthz_total{code="503"} 1"#,
            r#"kubeproxy_proxy_livez_total{code="200"} 1"#,
            r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="internal"} 0"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in {text}");
        }
    });
}

#[test]
fn a_change_that_waits_too_long_is_no_health() {
    let (updated, now) = ("2026-01-02T03:04:05.5Z", "2026-01-02T03:14:05Z");
    let [updated, now] = [updated, now].map(|time| time.parse::<Timestamp>().expect("a time"));
    let health = Health::new(Duration::ZERO);
    assert_eq!(health.answer(now, false).status(), StatusCode::OK, "nothing waits");
    health.updated(Family::V4, updated);
    health.pending(Family::V6);
    assert_eq!(health.answer(now, true).status(), StatusCode::SERVICE_UNAVAILABLE);
    let [updated, now] = [updated, now].map(|at| time(Some(at)));
    assert_eq!((updated.as_str(), now.as_str()), ("2026-01-02 03:04:05.5 +0000 UTC", "2026-01-02 03:14:05 +0000 UTC"));
    health.updated(Family::V6, Timestamp::now());
    assert!(health.is_healthy());
    let patient = Health::new(Duration::from_mins(1));
    patient.pending(Family::V4);
    assert!(patient.is_healthy(), "not yet too long");
}

#[test]
fn a_port_that_somebody_has_ends_the_program_where_that_is_wanted() {
    isolated(async || {
        let _taken = TcpListener::bind("127.0.0.1:10249").expect("a free port");
        let (health, metrics) = (Health::new(Duration::from_mins(1)), Arc::new(Metrics::default()));
        let mut servers = listen(&config(&[]), &health, &metrics, &free()).expect("one of two listeners");
        assert_eq!(get("127.0.0.1:10256", "/healthz").await.0, 200);
        servers.shutdown().await;
        let flags = ["--bind-address-hard-fail", "--healthz-bind-address=127.0.0.1:10257"];
        let error = listen(&config(&flags), &health, &metrics, &free()).expect_err("no listener");
        assert!(error.to_string().contains("127.0.0.1:10249 (metricsBindAddress, --metrics-bind-address)"), "{error}");
    });
}

#[test]
fn a_load_balancer_learns_of_the_endpoints_of_this_node() {
    isolated(async || {
        let health = Health::new(Duration::ZERO);
        let mut checks = ServiceChecks::new(health.clone());
        let (name, other) = (ServiceName::new("ns", "svc"), ServiceName::new("ns", "other"));
        let taken = TcpListener::bind("0.0.0.0:30001").expect("a free port");
        checks.set(&name, Some((30000, 2)));
        checks.set(&other, Some((30001, 1)));
        assert!(checks.open(|| None) && checks.has_failed());
        assert!(!checks.open(|| None), "the same as before");
        let problems: Vec<String> = checks.failures("n1").map(|(_, problem)| problem.to_string()).collect();
        assert!(problems.len() == 1 && problems[0].starts_with("Service ns/other has the healthCheckNodePort 30001"));
        let (status, head, body) = get("127.0.0.1:30000", "/any").await;
        assert_eq!(status, 200);
        let expected = "{\n\t\"service\": {\n\t\t\"namespace\": \"ns\",\n\t\t\"name\": \"svc\"\n\t},\n\t\"localEndpoints\": 2,\n\t\
                        \"serviceProxyHealthy\": true\n}";
        assert_eq!(body, expected);
        for line in
            ["content-type: application/json", "x-content-type-options: nosniff", "x-load-balancing-endpoint-weight: 2"]
        {
            assert!(head.lines().any(|known| known == line), "{line} is missing in {head}");
        }
        checks.set(&name, Some((30000, 0)));
        let (status, _, body) = get("[::1]:30000", "/").await;
        assert_eq!((status, body), (503, expected.replace("\": 2", "\": 0")));
        checks.set(&name, Some((30000, 1)));
        health.pending(Family::V4);
        let (status, _, body) = get("127.0.0.1:30000", "/").await;
        assert_eq!((status, body), (503, expected.replace("\": 2", "\": 1").replace("true", "false")));
        drop(taken);
        let mut has_changed = false;
        while !has_changed {
            has_changed = checks.open(|| None);
            tokio::task::yield_now().await;
        }
        assert!(!checks.has_failed(), "the port is free");
        checks.set(&name, None);
        await_refusal("127.0.0.1:30000").await;
        checks.close_stale().await;
        assert_eq!(get("[::1]:30001", "/").await.0, 503, "the addresses are the right ones");
        checks.set_stale();
        checks.close_stale().await;
        await_refusal("[::1]:30001").await;
        checks.open(|| Some(vec!["127.0.0.1".parse().expect("an address")]));
        assert!(TcpStream::connect("[::1]:30001").await.is_err(), "on some addresses alone");
        assert_eq!(get("127.0.0.1:30001", "/").await.0, 503);
    });
}

#[test]
fn a_reserved_port_is_opened_when_it_is_free() {
    isolated(async || {
        let (health, metrics) = (Health::new(Duration::from_mins(1)), Arc::new(Metrics::default()));
        let (free, is_free) = watch::channel(false);
        let reserved = Reserved { port: 10249, is_free };
        let _servers = listen(&config(&[]), &health, &metrics, &reserved).expect("listeners");
        assert_eq!(get("127.0.0.1:10256", "/livez").await.0, 200);
        TcpStream::connect("127.0.0.1:10249").await.expect_err("no listener on the reserved port");
        free.send_replace(true);
        while TcpStream::connect("127.0.0.1:10249").await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(get("127.0.0.1:10249", "/proxyMode").await.0, 200);
    });
}
