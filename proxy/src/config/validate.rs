//! From fields to values: defaults, and sentences about what cannot be used.
//!
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dataplane::types::{IfName, PerFamily, Prefix};

use super::file::{ConntrackFields, FileConfig};
use super::{Config, ConfigError, Conntrack, DetectLocal, Flags, GoDuration, NodePortAddresses};

/// kube-proxy's ports.
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;
const OOM_SCORE_ADJ: i64 = -999;
const CONNTRACK: (i64, i64) = (32_768, 131_072);
const TCP_ESTABLISHED: GoDuration = GoDuration::seconds(24 * 60 * 60);
const TCP_CLOSE_WAIT: GoDuration = GoDuration::seconds(60 * 60);
const SYNC_PERIOD: Duration = Duration::from_secs(30);
const MIN_SYNC_PERIOD: Duration = Duration::from_secs(1);

/// Every sentence about a field that cannot be used.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    /// The value, or its default with a sentence: field, flag, value, what would be right.
    fn take<T>(&mut self, field: &str, value: Result<T, String>, default: T) -> T {
        value.unwrap_or_else(|error| {
            self.0.push(format!("{field} {error}"));
            default
        })
    }
}

fn wrong(value: &impl std::fmt::Debug, expected: &str) -> String {
    format!("is {value:?}: it must be {expected}")
}

/// The configuration. An empty address of a flag means none, one of the file the default.
pub(super) fn config(
    fields: &FileConfig,
    flags: &Flags,
    by_flags: bool,
    warnings: &mut Vec<String>,
) -> Result<Config, ConfigError> {
    let mut faults = Faults::default();
    let bind_address = match fields.bind_address.as_str() {
        "" => Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        text => text.parse().map_err(|_| wrong(&text, "an address, like 192.0.2.1")),
    };
    let bind_address = faults.take("bindAddress (--bind-address)", bind_address, Ipv4Addr::UNSPECIFIED.into());
    let is_v6 = bind_address.is_ipv6();
    let any = if is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let loopback = if is_v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let mut listener = |field: &str, text: &str, flag: &Option<String>, default: IpAddr, port: u16| {
        if by_flags && flag.as_deref() == Some("") {
            return None;
        }
        let address = listener(text, SocketAddr::new(default, port));
        Some(faults.take(field, address, SocketAddr::new(default, port)))
    };
    let (healthz, metrics) = (&fields.healthz_bind_address, &fields.metrics_bind_address);
    let healthz = listener(
        "healthzBindAddress (--healthz-bind-address)",
        healthz,
        &flags.fields.healthz_bind_address,
        any,
        HEALTHZ_PORT,
    );
    let metrics = listener(
        "metricsBindAddress (--metrics-bind-address)",
        metrics,
        &flags.fields.metrics_bind_address,
        loopback,
        METRICS_PORT,
    );
    let is_nftables = mode(fields, &mut faults, warnings);
    let sync_period =
        period(&mut faults, "nftables.syncPeriod (--iptables-sync-period)", fields.nftables.sync_period, SYNC_PERIOD);
    let min_sync_period = period(
        &mut faults,
        "nftables.minSyncPeriod (--iptables-min-sync-period)",
        fields.nftables.min_sync_period,
        MIN_SYNC_PERIOD,
    );
    if min_sync_period > sync_period {
        faults.0.push(
            "nftables.minSyncPeriod (--iptables-min-sync-period) is longer than nftables.syncPeriod: it must not be"
                .into(),
        );
    }
    for (field, bit) in [("iptables", fields.iptables.masquerade_bit), ("nftables", fields.nftables.masquerade_bit)] {
        if let Some(bit) = bit.filter(|bit| !(0..=31).contains(bit)) {
            faults.0.push(format!("{field}.masqueradeBit {}", wrong(&bit, "from 0 to 31")));
        }
    }
    let score = fields.oom_score_adj.unwrap_or(OOM_SCORE_ADJ);
    let score = Ok(score).and_then(|score| match i32::try_from(score) {
        Ok(score @ -1000..=1000) => Ok(score),
        _ => Err(wrong(&score, "from -1000 to 1000")),
    });
    let config = Config {
        kubeconfig: text(&fields.client_connection.kubeconfig).map(Into::into),
        master: flags.master.as_deref().and_then(text).map(str::to_owned),
        hostname_override: fields.hostname_override.as_deref().and_then(text).map(str::to_owned),
        bind_address,
        node_addresses: PerFamily::none(),
        healthz,
        metrics,
        bind_address_hard_fail: fields.bind_address_hard_fail,
        masquerade_all: if is_nftables { fields.nftables.masquerade_all } else { fields.iptables.masquerade_all },
        detect_local: detect_local(fields, &mut faults),
        node_port_addresses: node_port_addresses(&fields.node_port_addresses, &mut faults),
        sync_period,
        min_sync_period,
        conntrack: conntrack(&fields.conntrack, &mut faults),
        oom_score_adj: faults.take("oomScoreAdj (--oom-score-adj)", score, 0),
        verbosity: fields.logging.verbosity.unwrap_or_default(),
    };
    if faults.0.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(faults.0)) }
}

fn text(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// True unless another mode is named, whose fields count then.
fn mode(fields: &FileConfig, faults: &mut Faults, warnings: &mut Vec<String>) -> bool {
    match fields.mode.as_str() {
        "" | "nftables" => true,
        other @ ("iptables" | "ipvs") => {
            warnings.push(format!(
                "mode (--proxy-mode) is {other}, which is not there: nftables is used. Its node ports are on the node's primary addresses \
                 unless nodePortAddresses says otherwise, and on 127.0.0.1 where it has localhost"
            ));
            false
        }
        other => {
            faults.0.push(format!("mode (--proxy-mode) {}", wrong(&other, "nftables, iptables, ipvs or empty")));
            true
        }
    }
}

/// `ADDRESS:PORT`, or an address with the default port.
fn listener(text: &str, default: SocketAddr) -> Result<SocketAddr, String> {
    if text.is_empty() {
        return Ok(default);
    }
    let address = text.trim_start_matches('[').trim_end_matches(']').parse();
    let address = text.parse().or_else(|_| address.map(|address| SocketAddr::new(address, default.port())));
    address.map_err(|_| wrong(&text, "ADDRESS:PORT, like 0.0.0.0:10256 or [::]:10256"))
}

/// A period; 0 means the default.
fn period(faults: &mut Faults, field: &str, period: GoDuration, default: Duration) -> Duration {
    let value = period.get().map(|period| if period.is_zero() { default } else { period });
    faults.take(field, value.ok_or_else(|| wrong(&period.to_string(), "longer than 0s")), default)
}

fn detect_local(fields: &FileConfig, faults: &mut Faults) -> DetectLocal {
    let none = DetectLocal::ClusterCidr(PerFamily::none());
    let name = |name: &str| name.parse::<IfName>().map_err(|error| format!("cannot be used: {error}"));
    let detect = &fields.detect_local;
    // The ranges are checked whether they are used or not.
    let ranges = cluster_cidr(&fields.cluster_cidr);
    let ranges = faults.take("clusterCIDR (--cluster-cidr)", ranges, PerFamily::none());
    match fields.detect_local_mode.as_str() {
        "" | "ClusterCIDR" => DetectLocal::ClusterCidr(ranges),
        "NodeCIDR" => DetectLocal::NodeCidr,
        "BridgeInterface" => {
            let bridge = name(&detect.bridge_interface).map(DetectLocal::BridgeInterface);
            faults.take("detectLocal.bridgeInterface (--pod-bridge-interface)", bridge, none)
        }
        "InterfaceNamePrefix" => {
            let prefix = name(&detect.interface_name_prefix).map(DetectLocal::InterfaceNamePrefix);
            faults.take("detectLocal.interfaceNamePrefix (--pod-interface-name-prefix)", prefix, none)
        }
        other => {
            let expected = "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
            faults.take("detectLocalMode (--detect-local-mode)", Err(wrong(&other, expected)), none)
        }
    }
}

/// One range, or one of each family.
fn cluster_cidr(text: &str) -> Result<PerFamily<Prefix>, String> {
    let mut ranges = PerFamily::none();
    for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let range: Prefix =
            range.parse().map_err(|_| wrong(&text, "a range like 10.244.0.0/16, or one of each family"))?;
        if ranges.slot(range.family()).replace(range).is_some() {
            return Err(wrong(&text, "one range of each family at most"));
        }
    }
    Ok(ranges)
}

fn node_port_addresses(texts: &[String], faults: &mut Faults) -> NodePortAddresses {
    let mut addresses = NodePortAddresses::default();
    for (place, text) in texts.iter().enumerate() {
        match text.trim() {
            "primary" => addresses.primary = true,
            "localhost" => addresses.localhost = true,
            "all" => addresses.all = true,
            range => match range.parse() {
                Ok(range) => addresses.ranges.push(range),
                Err(_) => faults.0.push(format!(
                    "nodePortAddresses[{place}] (--nodeport-addresses) {}",
                    wrong(&text, "a range like 192.0.2.0/24, or primary, localhost or all")
                )),
            },
        }
    }
    if texts.is_empty() {
        addresses.primary = true;
    }
    addresses
}

fn conntrack(fields: &ConntrackFields, faults: &mut Faults) -> Conntrack {
    let mut number = |field: &str, value: Option<i64>, default: i64| {
        let value = value.unwrap_or(default);
        let read = u32::try_from(value).map_err(|_| wrong(&value, "0 or more, and below 2^32"));
        faults.take(field, read, 0)
    };
    let max_per_core = number("conntrack.maxPerCore (--conntrack-max-per-core)", fields.max_per_core, CONNTRACK.0);
    let min = number("conntrack.min (--conntrack-min)", fields.min, CONNTRACK.1);
    let mut timeout = |field: &str, value: GoDuration| {
        let read = value.get().ok_or_else(|| wrong(&value.to_string(), "0s or longer"));
        Some(faults.take(field, read, Duration::ZERO)).filter(|timeout| !timeout.is_zero())
    };
    Conntrack {
        max_per_core: Some(max_per_core).filter(|max| *max > 0),
        min,
        tcp_established_timeout: timeout(
            "conntrack.tcpEstablishedTimeout (--conntrack-tcp-timeout-established)",
            fields.tcp_established_timeout.unwrap_or(TCP_ESTABLISHED),
        ),
        tcp_close_wait_timeout: timeout(
            "conntrack.tcpCloseWaitTimeout (--conntrack-tcp-timeout-close-wait)",
            fields.tcp_close_wait_timeout.unwrap_or(TCP_CLOSE_WAIT),
        ),
        tcp_be_liberal: fields.tcp_be_liberal,
        udp_timeout: timeout("conntrack.udpTimeout (--conntrack-udp-timeout)", fields.udp_timeout),
        udp_stream_timeout: timeout(
            "conntrack.udpStreamTimeout (--conntrack-udp-timeout-stream)",
            fields.udp_stream_timeout,
        ),
    }
}
