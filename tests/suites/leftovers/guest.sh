# shellcheck shell=bash
# A node where kube-proxy of the mode ipvs has ended, and netd-proxy in its place. Run by the first process of a machine of its own.
#
#   client 172.16.1.2 ── node 172.16.1.1, 10.244.1.1 ── pods 10.244.1.2 "two" and 10.244.1.3 "three"
#
# kube-proxy has Services from an API server, where their endpoint is "two", and netd-proxy from files, where it is "three": who answers shows which of both has carried a connection.
# `show NAME` prints what the suite reads: `NAME: VALUE` for each line.

show() {
    local name=$1 line
    while IFS= read -r line; do printf '%s: %s\n' "$name" "$line"; done
}

# await SECONDS COMMAND...: until it succeeds.
await() {
    local left=$(($1 * 5))
    shift
    until "$@"; do
        if [ "$left" -eq 0 ]; then
            echo "not in time: $*; netd-proxy says:"
            cat /run/netd-proxy.log
            return 1
        fi
        left=$((left - 1))
        sleep 0.2
    done
}

# ask ADDRESS PORT: what the client gets.
ask() { ip netns exec client timeout 10 bash -c "exec 3<>/dev/tcp/$1/$2; printf 'GET /name HTTP/1.0\r\n\r\n' >&3; tail -n1 <&3"; }

# received POD: how many datagrams a pod has got. They are counted and dropped, so that no refusal ends their flow.
received() { ip netns exec pods nft list counter ip received "$1" | sed -n 's/.*packets \([0-9]*\) .*/\1/p'; }

# Sends a datagram, always from the same port, and succeeds when the pod has got one.
reaches() {
    echo x >/run/datagrams
    sleep 0.1
    [ "$(received "$1")" -gt 0 ]
}

logged() { grep -qs "$1" /run/netd-proxy.log; }

node() {
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ip netns add client
    ip netns add pods
    ip link add client type veth peer name eth0 netns client
    ip link add pods type veth peer name eth0 netns pods
    ip addr add 172.16.1.1/24 dev client
    ip addr add 10.244.1.1/24 dev pods
    ip -n client addr add 172.16.1.2/24 dev eth0
    ip -n pods addr add 10.244.1.2/24 dev eth0
    ip -n pods addr add 10.244.1.3/24 dev eth0
    ip link set lo up
    for device in client pods; do
        ip link set "$device" up
        ip -n "$device" link set lo up
        ip -n "$device" link set eth0 up
    done
    ip -n client route add default via 172.16.1.1
    ip -n pods route add default via 10.244.1.1
    for pod in 2:two 3:three; do
        mkdir -p "/run/www/${pod#*:}"
        echo "${pod#*:}" >"/run/www/${pod#*:}/name"
        ip netns exec pods nft -f - <<END
add table ip received
add counter ip received ${pod#*:}
add chain ip received input { type filter hook input priority 0; }
add rule ip received input ip daddr 10.244.1.${pod%:*} udp dport 5353 counter name ${pod#*:} drop
END
        ip netns exec pods httpd -p "10.244.1.${pod%:*}:8080" -h "/run/www/${pod#*:}"
    done
}

# Runs kube-proxy until it has made its rules, by iptables-legacy, and kills it.
kube_proxy() {
    local end
    for end in '' -save -restore; do
        ln -s "$(command -v "iptables-legacy$end")" "/usr/sbin/iptables$end"
        ln -s "$(command -v "ip6tables-legacy$end")" "/usr/sbin/ip6tables$end"
    done
    printf 'tcp 6 TCP\nudp 17 UDP\n' >/etc/protocols
    modprobe -a ip_vs virtio_pci virtio_net
    await 10 ip link set eth0 up
    # The emulator makes the connections that come from this address.
    ip addr add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
    kubeconfig >/run/kubeconfig
    cat >/run/kube-proxy.yml <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
clientConnection: {kubeconfig: /run/kubeconfig}
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0}
END
    kube-proxy --config /run/kube-proxy.yml --hostname-override n1 >/run/kube-proxy.log 2>&1 &
    await 240 has_rules || { cat /run/kube-proxy.log; return 1; }
    kill -9 $!
    wait $! || true
}

# Chains come last.
has_rules() {
    ipvsadm -Ln | grep -q 10.244.1.2:8080 && ipvsadm -Ln | grep -q 10.244.1.2:5353 && iptables-save | grep -q -- '-A KUBE-NODE-PORT'
}

# Everything of IPVS, of sets and of iptables.
state() {
    ipvsadm -Ln | awk '/^(TCP|UDP)/ { print $2 }' | show "$1 servers"
    ipset list -n | show "$1 sets"
    ip -br link show | awk '{ print $1 }' | grep kube | show "$1 devices"
    for save in iptables-legacy-save ip6tables-legacy-save iptables-nft-save ip6tables-nft-save; do
        "$save" 2>/dev/null | sed -n "s/^:\\(KUBE-[A-Z-]*\\|OTHER\\) .*/\\1/p" | sort -u | show "$1 $save"
    done
}

objects() {
    mkdir /run/services
    cat >/run/services/web.yml <<END
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 172.16.1.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.80
  clusterIPs: [10.96.0.80]
  ports:
    - {name: http, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
    - {name: words, protocol: UDP, port: 53, targetPort: 5353}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, protocol: TCP, port: 8080}, {name: words, protocol: UDP, port: 5353}]
endpoints: [{addresses: [10.244.1.3], conditions: {ready: true}, nodeName: n1}]
END
}

run() {
    set -e
    node
    kube_proxy
    # As for a Service of IPv6, by iptables-nft.
    ip addr add fd00:96::80/128 dev kube-ipvs0
    ipvsadm -A -t '[fd00:96::80]:80' -s rr
    ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6
    ip6tables-nft -t nat -N KUBE-SERVICES
    ip6tables-nft -t nat -A KUBE-SERVICES -m set --match-set KUBE-6-CLUSTER-IP dst,dst -j ACCEPT
    ip6tables-nft -t nat -A OUTPUT -j KUBE-SERVICES
    # Other programs'.
    iptables -t nat -N OTHER
    iptables -t nat -A PREROUTING -p udp -j OTHER
    ipvsadm -A -t 172.16.1.1:8443 -s rr
    ipvsadm -a -t 172.16.1.1:8443 -r 10.244.1.2:8080 -m
    ipset create other hash:ip
    state before
    ask 10.96.0.80 80 | show "through IPVS"
    # A connection that lasts.
    mkfifo /run/go
    ip netns exec client bash -c "exec 3<>/dev/tcp/10.96.0.80/80; echo open >/run/open; read -r <>/run/go
        printf 'GET /name HTTP/1.0\r\n\r\n' >&3; tail -n1 <&3" >/run/answer 2>&1 &
    await 30 test -s /run/open
    mkfifo /run/datagrams
    ip netns exec client bash -c "exec 3<>/dev/udp/10.96.0.80/53 4<>/run/datagrams
        while read -r line <&4; do echo \"\$line\" >&3; done" &
    await 30 reaches two
    show "datagrams through IPVS" <<<"$(received three)"

    objects
    netd-proxy --services-dir=/run/services --hostname-override=n1 --cluster-cidr=10.244.0.0/16 -v=4 >/run/netd-proxy.log 2>&1 &
    await 120 logged 'the rules that it left are removed.*IPVS still carries 1 connections'
    state during
    ask 10.96.0.80 80 | show "beside IPVS"
    ask 172.16.1.1 30080 | show "beside IPVS"
    ask 172.16.1.1 8443 | show "foreign"
    await 30 reaches three
    show "datagrams beside IPVS" <<<"$(received three)"
    echo >/run/go
    wait %1
    show "lasting" </run/answer
    await 120 logged 'the rules that it left are removed.*virtual servers of IPVS, [0-9]* sets of ipset$'
    state after
    ask 10.96.0.80 80 | show "after IPVS"
    ask 172.16.1.1 30080 | show "after IPVS"
    ask 172.16.1.1 8443 | show "foreign"
}
