//! What can happen to what netd has made, as scripts.
//!
//! | variable | what |
//! |---|---|
//! | `$F` | `-4` or `-6` |
//! | `$R $GW $DEV` | a route to a peer's pods, its next hop, its device; `$ON` is `onlink` where it has that |
//! | `$OTHER` | a wrong next hop that the kernel takes for it |
//! | `$STALE` | a range of the pod network that no node has |
//! | `$MAC $END` | the peer's hardware address and tunnel end |
//! | `$TABLE` | netd's nftables table with its family |
//!
//! netd stands still while a script runs.

/// To what a script is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Every route to a peer's pods.
    EachRoute,
    /// Those that lead through a tunnel.
    EachTunnel,
    /// Every tunnel device: `$DEV`.
    EachDevice,
    /// The node, once.
    Node,
}

pub(crate) struct Injury {
    pub(crate) to: To,
    pub(crate) harm: &'static str,
}

const fn each_route(harm: &'static str) -> Injury {
    Injury { to: To::EachRoute, harm }
}

const fn each_tunnel(harm: &'static str) -> Injury {
    Injury { to: To::EachTunnel, harm }
}

const fn each_device(harm: &'static str) -> Injury {
    Injury { to: To::EachDevice, harm }
}

const fn node(harm: &'static str) -> Injury {
    Injury { to: To::Node, harm }
}

/// Changes of which the kernel sends netd notifications.
pub(crate) const INJURIES: &[Injury] = &[
    each_route("ip $F route del $R"),
    each_route("ip $F route replace $R via $OTHER dev $DEV proto 110 $ON"),
    each_route("ip $F route replace $R via $OTHER dev $DEV $ON"),
    each_route("ip $F route add $R via $GW dev $DEV proto 110 $ON metric 5"),
    each_route("ip $F route replace $STALE via $GW dev $DEV proto 110 $ON"),
    each_route("ip $F route replace $R dev cni0 proto 110"),
    each_route("ip $F route append $R via $OTHER dev $DEV proto 110 $ON"),
    each_route("ip $F route replace $R proto 110 nexthop via $OTHER dev $DEV $ON nexthop via $GW dev $DEV $ON"),
    each_route("ip $F route replace blackhole $R"),
    each_route("ip $F route del $R; ip $F route add unreachable $R || true"),
    each_route("ip $F route append prohibit $R"),
    each_route("ip $F route replace blackhole $STALE proto 110"),
    node("ip -4 route flush root 10.244.0.0/16 proto 110 || true; ip -6 route flush root fd00:10:244::/56 proto 110 || true"),
    each_tunnel("ip neigh del $GW dev $DEV"),
    each_tunnel("ip neigh replace $GW lladdr 02:00:00:00:00:66 dev $DEV nud permanent"),
    each_tunnel("ip neigh replace $GW lladdr $MAC dev $DEV nud reachable"),
    each_tunnel("ip neigh add ${STALE%/*} lladdr 02:00:00:00:00:66 dev $DEV nud permanent"),
    each_tunnel("ip $F neigh flush dev $DEV nud permanent"),
    each_tunnel("bridge fdb del $MAC dev $DEV dst $END || true"),
    each_tunnel("bridge fdb replace $MAC dev $DEV dst ${END%?}9"),
    each_tunnel("bridge fdb replace $MAC dev $DEV dst $END port 4790"),
    each_tunnel("bridge fdb append 00:00:00:00:00:00 dev $DEV dst ${END%?}9 || bridge fdb show dev $DEV | grep -q 00:00:00"),
    each_tunnel("bridge fdb replace 02:00:00:00:00:66 dev $DEV dst $END"),
    each_device("bridge fdb show dev $DEV | while read -r mac rest; do bridge fdb del $mac dev $DEV; done"),
    each_device("ip link set $DEV down"),
    each_device("ip link set $DEV down; ip link set $DEV up"),
    each_device("ip link set $DEV address 02:00:00:00:00:66"),
    each_device("ip link set $DEV mtu 1290"),
    each_device("ip link set $DEV mtu 1000"),
    each_device("ip link set $DEV alias somebody"),
    each_device("ip link del $DEV"),
    each_device("ip link set $DEV down; ip link set $DEV name g.$DEV; ip link set g.$DEV up"),
    each_device("ip link set $DEV type vxlan learning"),
    each_device("ip address flush dev $DEV scope global || true"),
    each_device("ip address add 10.244.240.9/32 dev $DEV; ip address add fd00:10:244:f0::9/128 dev $DEV"),
    node("ip link del cni0"),
    node("nft delete table $TABLE"),
    node("nft flush ruleset"),
    node("nft flush chain $TABLE postrouting"),
    node("nft flush chain $TABLE forward"),
    node("nft add rule $TABLE forward drop"),
    node("nft insert rule $TABLE postrouting return"),
    node("nft delete rule $TABLE postrouting handle $(nft -a list chain $TABLE postrouting | sed -n 's/.* handle //p' | tail -n 1)"),
    // The last rule to the head.
    node(
        "rule=$(nft list chain $TABLE forward | grep accept | tail -n 1)
         nft delete rule $TABLE forward handle $(nft -a list chain $TABLE forward | sed -n 's/.* handle //p' | tail -n 1)
         nft insert rule $TABLE forward $rule",
    ),
    node("nft add chain $TABLE forward '{ policy drop; }'"),
    node("nft add chain $TABLE input '{ type filter hook input priority 0; policy drop; }'"),
    node("nft add table $TABLE '{ flags dormant; }'"),
    node("nft add set $TABLE extra '{ type ipv4_addr; }'"),
    node("nft add set $TABLE extra '{ type ipv4_addr; }'; nft add element $TABLE extra '{ 192.168.1.99 }'"),
];

/// Something that a person does to the underlay, which the network has to follow; and the way back.
pub(crate) struct UnderlayChange {
    pub(crate) there: &'static str,
    pub(crate) back: &'static str,
    /// False where the peers have no way to reach the node meanwhile.
    pub(crate) reachable: bool,
}

/// The way back where a change itself leads back.
pub(crate) const NOTHING: &str = "true";

/// On n1. `%UP <device>` takes the device up with the underlay's addresses and default routes; `%MOVED` gives
/// eth0 other addresses, and `%ROUTES` puts the routes back.
pub(crate) const CHANGES: &[UnderlayChange] = &[
    UnderlayChange { there: "ip link set eth0 down", back: "%UP eth0", reachable: false },
    UnderlayChange { there: "ip link set eth0 down; %UP eth0", back: NOTHING, reachable: true },
    UnderlayChange { there: "ip link set eth0 mtu 1400", back: "ip link set eth0 mtu 1500", reachable: true },
    UnderlayChange {
        there: "ip link set eth0 down; ip link set eth0 name wan0; %UP wan0",
        back: "ip link set wan0 down; ip link set wan0 name eth0; %UP eth0",
        reachable: true,
    },
    UnderlayChange {
        there: "ip -4 address flush dev eth0 to 192.168.1.11; ip -6 address flush dev eth0 to fd00:a:1::11; %MOVED; %ROUTES",
        back: "ip -4 address flush dev eth0 to 192.168.1.61; ip -6 address flush dev eth0 to fd00:a:1::61; %UP eth0",
        reachable: true,
    },
];
