//! What can be wrong on a node, and what the doctor has to say of it.

/// Something that goes wrong on n1 while its daemon is not there to mend it.
pub(crate) struct Injury {
    pub(crate) name: &'static str,
    pub(crate) harm: &'static str,
    pub(crate) check: &'static str,
    pub(crate) subject: &'static str,
    /// A part of what is to be typed.
    pub(crate) remedy: &'static str,
}

/// `$CONF` is the folder of CNI configurations.
pub(crate) const INJURIES: &[Injury] = &[
    Injury {
        name: "ip_forward is 0",
        harm: "sysctl -q -w net.ipv4.ip_forward=0",
        check: "forwarding",
        subject: "IPv4",
        remedy: "sysctl -w net/ipv4/ip_forward=1",
    },
    Injury {
        name: "IPv6 forwarding is 0",
        harm: "sysctl -q -w net.ipv6.conf.all.forwarding=0",
        check: "forwarding",
        subject: "IPv6",
        remedy: "sysctl -w net/ipv6/conf/all/forwarding=1",
    },
    Injury {
        name: "a device does not forward",
        harm: "sysctl -q -w net/ipv4/conf/flannel.1/forwarding=0",
        check: "forwarding",
        subject: "flannel.1",
        remedy: "sysctl -w net/ipv4/conf/flannel.1/forwarding=1",
    },
    Injury {
        name: "a chain of nft drops by policy",
        harm: "nft add table inet guard; nft add chain inet guard forward '{ type filter hook forward priority 0; policy drop; }'",
        check: "forward policy",
        subject: "inet guard forward",
        remedy: "nft insert rule inet guard forward ip saddr 10.244.0.0/16 accept",
    },
    Injury {
        name: "a firewall lets only answers pass",
        harm:
            "nft add table ip guard; nft add chain ip guard forward '{ type filter hook forward priority 0; policy drop; }'
               nft add rule ip guard forward ct state established accept",
        check: "forward policy",
        subject: "ip guard forward",
        remedy: "nft insert rule ip guard forward ip daddr 10.244.0.0/16 accept",
    },
    Injury {
        name: "iptables drops by policy",
        harm: "iptables -P FORWARD DROP",
        check: "forward policy",
        subject: "ip filter FORWARD",
        remedy: "iptables -A FORWARD -s 10.244.0.0/16 -j ACCEPT",
    },
    Injury {
        name: "a configuration sorts before ours",
        harm: "echo '{}' >$CONF/05-other.conflist; echo >$CONF/05-readme.txt; echo '{}' >$CONF/99-last.conflist",
        check: "leftovers",
        subject: "05-other.conflist",
        remedy: "mv ",
    },
    Injury {
        name: "flannel's chains stay",
        harm: "iptables -t nat -N FLANNEL-POSTRTG
               iptables -t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG",
        check: "leftovers",
        subject: "iptables FLANNEL-POSTRTG",
        remedy: "iptables-save | grep -v",
    },
    Injury {
        name: "flannel's table stays",
        harm: "nft add table ip flannel-ipv4; nft add chain ip flannel-ipv4 postrtg",
        check: "leftovers",
        subject: "ip flannel-ipv4",
        remedy: "nft delete table ip flannel-ipv4",
    },
    Injury {
        name: "the bridge has another address",
        harm: "ip link add cni0 type bridge; ip address add 10.244.77.1/24 dev cni0; ip link set cni0 up",
        check: "leftovers",
        subject: "cni0",
        remedy: "ip address delete 10.244.77.1/24 dev cni0",
    },
    Injury {
        name: "another device is inside the pod network",
        harm: "ip link add br9 type bridge; ip address add 10.244.251.1/24 dev br9; ip link set br9 up",
        check: "subnets",
        subject: "br9",
        remedy: "ip address delete 10.244.251.1/24 dev br9",
    },
    Injury {
        name: "another route leads into the pod network",
        harm: "ip route add 10.244.250.0/24 via 192.168.1.12",
        check: "subnets",
        subject: "10.244.250.0/24",
        remedy: "ip route delete 10.244.250.0/24 via 192.168.1.12 dev eth0",
    },
    Injury {
        name: "the tunnel's MTU is too large",
        harm: "ip link set flannel.1 mtu 1300",
        check: "mtu",
        subject: "flannel.1",
        remedy: "ip link set flannel.1 mtu 1450",
    },
    Injury {
        name: "the bridge's MTU is too large",
        harm: "ip link add cni0 mtu 1500 type bridge; ip link set cni0 up",
        check: "mtu",
        subject: "cni0",
        remedy: "ip link set cni0 mtu 1430",
    },
    Injury {
        name: "another VXLAN device has our VNI and port",
        harm: "ip link delete flannel.1; ip link add vx9 type vxlan id 1 dstport 8472 local 192.168.1.11 dev eth0",
        check: "network",
        subject: "vx9",
        remedy: "ip link delete vx9",
    },
];
