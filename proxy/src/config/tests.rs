use super::*;
use clap::CommandFactory;
use proptest::prelude::*;

fn flags(args: &str) -> Flags {
    try_flags(args).unwrap_or_else(|error| panic!("{error}"))
}

fn try_flags(args: &str) -> Result<Flags, clap::Error> {
    Flags::read(["netd-proxy"].into_iter().chain(args.split_whitespace()).map(Into::into))
}

fn by_flags(args: &str) -> Loaded {
    Config::read(&flags(args), None).expect("valid flags")
}

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn file(fields: &str) -> Result<Loaded, ConfigError> {
    Config::read(&Flags::default(), Some(("config.conf", &format!("{HEAD}{fields}"))))
}

fn config(fields: &str) -> Config {
    file(fields).expect("a valid file").config
}

/// What is wrong with a file.
fn fault(fields: &str) -> String {
    file(fields).expect_err("an invalid file").to_string()
}

/// kubeadm's `ConfigMap`, as it is.
const KUBEADM: &str = r#"
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

#[test]
fn the_file_of_kubeadm_has_defaults_and_no_warning() {
    let loaded = file(KUBEADM).expect("a valid file");
    assert_eq!(loaded.warnings, [] as [String; 0]);
    let expected = Config {
        kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
        detect_local: DetectLocal::ClusterCidr(PerFamily { v4: "10.244.0.0/16".parse().ok(), v6: None }),
        ..by_flags("").config
    };
    assert_eq!(loaded.config, expected);
}

#[test]
fn defaults() {
    let hours = |hours| Some(Duration::from_hours(hours));
    let expected = Config {
        kubeconfig: None,
        master: None,
        hostname_override: None,
        bind_address: [0, 0, 0, 0].into(),
        node_addresses: PerFamily::none(),
        healthz: "0.0.0.0:10256".parse().ok(),
        metrics: "127.0.0.1:10249".parse().ok(),
        bind_address_hard_fail: false,
        masquerade_all: false,
        detect_local: DetectLocal::ClusterCidr(PerFamily::none()),
        node_port_addresses: NodePortAddresses { primary: true, ..NodePortAddresses::default() },
        sync_period: Duration::from_secs(30),
        min_sync_period: Duration::from_secs(1),
        conntrack: Conntrack {
            max_per_core: Some(32_768),
            min: 131_072,
            tcp_established_timeout: hours(24),
            tcp_close_wait_timeout: hours(1),
            tcp_be_liberal: false,
            udp_timeout: None,
            udp_stream_timeout: None,
        },
        oom_score_adj: -999,
        verbosity: 0,
    };
    assert_eq!(by_flags("").config, expected);
    let v6 = config("bindAddress: '::'");
    assert_eq!((v6.healthz, v6.metrics), ("[::]:10256".parse().ok(), "[::1]:10249".parse().ok()));
}

#[test]
fn fields_of_the_file() {
    let config = config(
        "healthzBindAddress: 127.0.0.1\nmetricsBindAddress: '[::]:9000'\nmode: nftables\nnftables: {masqueradeAll: true, \
         syncPeriod: 1m30s, minSyncPeriod: 250ms}\niptables: {masqueradeAll: false}\ndetectLocalMode: BridgeInterface\n\
         detectLocal: {bridgeInterface: cni0}\nnodePortAddresses: [192.168.0.0/24, localhost, '2001:db8::/64']\n\
         conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpBeLiberal: true, udpTimeout: 10s}\n\
         oomScoreAdj: 7\nlogging: {verbosity: 3}\n",
    );
    assert_eq!((config.healthz, config.metrics), ("127.0.0.1:10256".parse().ok(), "[::]:9000".parse().ok()));
    assert!(config.masquerade_all);
    assert_eq!((config.sync_period, config.min_sync_period), (Duration::from_secs(90), Duration::from_millis(250)));
    assert_eq!(config.detect_local, DetectLocal::BridgeInterface("cni0".parse().expect("a name")));
    let ranges = ["192.168.0.0/24", "2001:db8::/64"].map(|range| range.parse().expect("a range"));
    let addresses = NodePortAddresses { localhost: true, ranges: ranges.to_vec(), ..NodePortAddresses::default() };
    assert_eq!(config.node_port_addresses, addresses);
    assert_eq!(
        (config.conntrack.max_per_core, config.conntrack.tcp_established_timeout),
        (None, None),
        "0 leaves the value"
    );
    assert_eq!((config.conntrack.tcp_be_liberal, config.conntrack.udp_timeout), (true, Some(Duration::from_secs(10))));
    assert_eq!((config.oom_score_adj, config.verbosity), (7, 3));
}

#[test]
fn another_mode_is_told_and_its_own_fields_count() {
    for mode in ["iptables", "ipvs"] {
        let loaded = file(&format!("mode: {mode}\niptables: {{masqueradeAll: true}}")).expect("a valid file");
        assert!(loaded.warnings[0].starts_with(&format!("mode (--proxy-mode) is {mode}, which is not there")));
        assert!(loaded.config.masquerade_all && loaded.warnings.len() == 1);
    }
    assert_eq!(
        fault("mode: userspace"),
        "mode (--proxy-mode) is \"userspace\": it must be nftables, iptables, ipvs or empty"
    );
}

#[test]
fn what_is_unknown_twice_or_does_not_apply_is_told_once() {
    let loaded = file(
        "modes: x\nconntrack: {mn: 5}\nipvs: {scheduler: rr}\nfeatureGates: {A: true}\nclientConnection: {qps: 5}\n",
    );
    assert_eq!(
        loaded.expect("a valid file").warnings,
        [
            "config.conf: unknown fields are ignored: conntrack.mn, modes",
            "config.conf: fields that do not apply here are ignored: clientConnection.qps, featureGates, ipvs",
        ]
    );
    let twice = file("oomScoreAdj: 1\noomScoreAdj: 2\n").expect("a valid file");
    assert_eq!(twice.config.oom_score_adj, 2);
    assert!(twice.warnings.len() == 1 && twice.warnings[0].contains("oomScoreAdj"), "{:?}", twice.warnings);
}

#[test]
fn what_cannot_be_used_names_field_and_flag() {
    let fields = "bindAddress: here\nhealthzBindAddress: 'here:1'\noomScoreAdj: 2000\nclusterCIDR: '10.0.0.0/8,10.1.0.0/16'\n\
                  nodePortAddresses: [primary, 10.0.0.1]\nconntrack: {min: -1, udpTimeout: -5s}\ndetectLocalMode: BridgeInterface\n\
                  iptables: {masqueradeBit: 32}\nnftables: {minSyncPeriod: 5m}\n";
    let fault = fault(fields);
    let expected = [
        r#"bindAddress (--bind-address) is "here": it must be an address"#,
        r#"healthzBindAddress (--healthz-bind-address) is "here:1": it must be ADDRESS:PORT"#,
        "nftables.minSyncPeriod (--iptables-min-sync-period) is longer",
        "iptables.masqueradeBit is 32: it must be from 0 to 31",
        r#"clusterCIDR (--cluster-cidr) is "10.0.0.0/8,10.1.0.0/16": it must be one range of each family"#,
        "detectLocal.bridgeInterface (--pod-bridge-interface) cannot be used",
        r#"nodePortAddresses[1] (--nodeport-addresses) is "10.0.0.1": it must be a range"#,
        "conntrack.min (--conntrack-min) is -1: it must be 0 or more",
        r#"conntrack.udpTimeout (--conntrack-udp-timeout) is "-5s": it must be 0s or longer"#,
        "oomScoreAdj (--oom-score-adj) is 2000: it must be from -1000 to 1000",
    ];
    assert_eq!(fault.lines().count(), expected.len(), "{fault}");
    for expected in expected {
        assert!(fault.lines().any(|line| line.starts_with(expected)), "{expected} is not in {fault}");
    }
}

#[test]
fn what_is_no_configuration() {
    assert!(fault("conntrack:\n  min: many\n").starts_with("conntrack.min (config.conf:4) cannot be read: "));
    assert!(fault("conntrack: {udpTimeout: 5}").starts_with("conntrack.udpTimeout (config.conf:3) cannot be read: "));
    assert!(fault("mode: [").starts_with("config.conf is not valid: "));
    for text in ["", "kind: KubeProxyConfiguration", "apiVersion: v1\nkind: ConfigMap\n", "- 1"] {
        let read = Config::read(&Flags::default(), Some(("c", text)));
        assert!(matches!(read, Err(ConfigError::Foreign(_) | ConfigError::Syntax { .. })), "{text:?}: {read:?}");
    }
}

#[test]
fn flags_are_those_of_kube_proxy() {
    Flags::command().debug_assert();
    let loaded = by_flags(
        "--kubeconfig=/k --master http://10.0.0.1:8080 --hostname-override=Node1 --bind-address 10.0.0.2 --healthz-bind-address= \
         --metrics-bind-address=0.0.0.0 --proxy-mode=nftables --masquerade-all --detect-local-mode=InterfaceNamePrefix \
         --pod-interface-name-prefix=veth --cluster_cidr=10.244.0.0/16,fd00::/56 --nodeport-addresses=primary,localhost \
         --iptables-sync-period=1m --conntrack-min=0 --conntrack-tcp-be-liberal=true --oom-score-adj=-5 -v=4",
    );
    assert_eq!(loaded.warnings, [] as [String; 0]);
    let config = loaded.config;
    assert_eq!(config.kubeconfig, Some("/k".into()));
    assert_eq!(
        (config.master.as_deref(), config.hostname_override.as_deref()),
        (Some("http://10.0.0.1:8080"), Some("node1"))
    );
    assert_eq!((config.healthz, config.metrics), (None, "0.0.0.0:10249".parse().ok()), "an empty flag means none");
    assert_eq!(config.detect_local, DetectLocal::InterfaceNamePrefix("veth".parse().expect("a name")));
    assert!(config.masquerade_all && config.conntrack.tcp_be_liberal);
    assert!(config.node_port_addresses.primary && config.node_port_addresses.localhost);
    assert_eq!((config.sync_period.as_secs(), config.oom_score_adj, config.verbosity), (60, -5, 4));
    assert!(flags("--cleanup").cleanup && !flags("--cleanup=false").cleanup && flags("--init-only").init_only);
    assert!(try_flags("--cleanup=maybe").is_err() && try_flags("--no-such-flag").is_err());
    assert!(try_flags("--iptables-sync-period=soon").is_err_and(|error| error.to_string().contains("no duration")));
}

#[test]
fn flags_without_a_meaning_are_told() {
    let loaded = by_flags(
        "--profiling --ipvs-scheduler=rr --feature-gates A=true --logging-format json --ipvs-strict-arp=false",
    );
    assert_eq!(
        loaded.warnings,
        [
            "flags that do not apply here are ignored: --profiling, --ipvs-strict-arp, --feature-gates, --logging-format, --ipvs-scheduler"
        ]
    );
}

#[test]
fn a_file_makes_most_flags_void() {
    let given = flags("--config c --cluster-cidr 10.0.0.0/8 --hostname-override n2 --master http://m -v 5");
    let loaded = Config::read(&given, Some(("c", &format!("{HEAD}hostnameOverride: n1\nlogging: {{verbosity: 1}}\n"))));
    let Loaded { config, warnings } = loaded.expect("a valid file");
    assert_eq!(config.detect_local, DetectLocal::ClusterCidr(PerFamily::none()));
    assert_eq!((config.hostname_override.as_deref(), config.master.as_deref()), (Some("n2"), Some("http://m")));
    assert_eq!(config.verbosity, 5);
    assert!(warnings.len() == 1 && warnings[0].starts_with("flags beside --config are ignored"), "{warnings:?}");
}

#[test]
fn the_limit_of_connection_tracking() {
    let max = |fields: &str, processors| config(fields).conntrack.max(processors);
    assert_eq!(max("", 2), Some(131_072), "at least conntrack.min");
    assert_eq!(max("", 8), Some(262_144));
    assert_eq!(max("", 128), Some(1 << 20), "kube-proxy's highest value");
    assert_eq!(max("conntrack: {maxPerCore: 0}", 8), None, "the kernel's is left");
}

#[test]
fn durations_are_those_of_go() {
    let read = |text: &str| text.parse::<GoDuration>().ok();
    assert_eq!(read("1h1m1s"), Some(GoDuration::seconds(3661)));
    assert_eq!(read("24h0m0s"), Some(GoDuration::seconds(86400)));
    assert_eq!(read("0"), read("0s"));
    assert_eq!(read("1.5s").and_then(GoDuration::get), Some(Duration::from_millis(1500)));
    assert_eq!(read("-5s").map(GoDuration::get), Some(None));
    for text in ["", "5", "1 hour", "5 s", "P1D", "1d"] {
        assert_eq!(read(text), None, "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_file_makes_a_panic(
        text in "((mode|conntrack|clusterCIDR|min|ipvs|oomScoreAdj)|: |\n|  |[0-9]|-|\\[|\\]|\\{|\\}|null|\\PC){0,30}",
    ) {
        let _ = file(&text);
    }

    #[test]
    fn a_duration_is_read_as_it_is_written(milliseconds in -10_000_000..10_000_000i64) {
        let duration = GoDuration(jiff::SignedDuration::from_millis(milliseconds));
        prop_assert_eq!(duration.to_string().parse(), Ok(duration), "{}", duration);
    }
}
