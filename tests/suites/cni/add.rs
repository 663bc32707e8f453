//! ADD: its result, the kernel after it, and nothing after a failure (cases 17 to 27 and 40).

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Context, Namespace, Outcome, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::bed::{BRIDGE, Bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("the result says what was made", result),
        test("the kernel has what the result says", kernel),
        test("sysctls that keep neighbours and routers right", sysctls),
        test("old versions get ip4", oldest),
        test("each version gets its form", forms),
        test("both families at once, usable at once", dual_stack),
        test("a second ADD of the same changes nothing", duplicate),
        test("two interfaces of one container", two_interfaces),
        test("a foreign interface of the name stays", foreign_interface),
        test("addresses that cannot be had leave nothing", no_addresses),
        test("a full disk is reported and leaves nothing", full_disk),
        test("a pool of two runs dry and recovers", pool_of_two),
        test("ten pods at once on a node without a bridge", at_once),
        test("another address on the bridge", other_address),
        test("subnet.env is where addresses and MTU come from", subnet_env),
        test("a node whose new links do not forward forwards for its pods", new_links_do_not_forward),
        test("a node whose new links have no IPv6 has pods with IPv6", new_links_have_no_ipv6),
        test("a node's first pod is reached over IPv6 by others at once", first_pod),
        test("a bridge with all its ports is an error that says so", all_ports),
        test("routes that are there stay, and are not in the result", routes_that_are_there),
        test("pods whose reservations were lost keep their addresses, also quiet ones and others'", lost_reservations),
    ]
}

fn result() -> Outcome {
    let bed = Bed::new()?;
    let result = bed.succeed("ADD")?;
    let interfaces = result["interfaces"].as_array().context("interfaces")?;
    ensure!(interfaces.len() == 3 && interfaces[0]["name"] == BRIDGE, "bridge, host end, pod end: {result}");
    ensure!(interfaces[2]["sandbox"] == *bed.env["CNI_NETNS"], "the sandbox is CNI_NETNS: {result}");
    ensure!(interfaces[2]["mac"] == bed.interface()?["address"], "the result has the pod's hardware address: {result}");
    let ip = json!({"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 2});
    ensure!(result["ips"] == json!([ip]), "one address: {result}");
    ensure!(result["routes"] == json!([{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]), "one route: {result}");
    Ok(())
}

fn kernel() -> Outcome {
    let bed = Bed::new()?;
    bed.succeed("ADD")?;
    let eth0 = bed.interface()?;
    let is_v4 = |address: &&Value| address["family"] == "inet";
    let address = eth0["addr_info"].as_array().and_then(|all| all.iter().find(is_v4)).context("an IPv4 address")?;
    ensure!(eth0["operstate"] == "UP", "eth0 is up: {eth0}");
    ensure!(address["local"] == "10.9.0.2" && address["broadcast"] == "10.9.0.255", "{address}");
    let routes = bed.pod.run("ip route show default")?;
    ensure!(routes.starts_with("default via 10.9.0.1 dev eth0"), "{routes}");
    let ports = bed.node.json(&format!("ip -j -d link show master {BRIDGE}"))?;
    let port = &ports.first().context("a port on the bridge")?["linkinfo"]["info_slave_data"];
    ensure!(port["state"] == "forwarding" && port["hairpin"] == true, "the port forwards, also back: {port}");
    let bridge = bed.node.run(&format!("ip -4 addr show dev {BRIDGE}"))?;
    ensure!(bridge.contains("inet 10.9.0.1/24"), "{bridge}");
    ensure!(bed.node.run("cat /proc/sys/net/ipv4/ip_forward")?.trim() == "1", "the node forwards");
    bed.node.run("ping -c 1 -W 2 10.9.0.2").map(drop)
}

fn sysctls() -> Outcome {
    let bed = Bed::new()?;
    bed.succeed("ADD")?;
    let read = |of: &Namespace, key: &str| of.run(&format!("cat /proc/sys/net/{key}"));
    ensure!(read(&bed.pod, "ipv4/conf/eth0/arp_notify")?.trim() == "1", "the pod announces its address");
    ensure!(read(&bed.pod, "ipv6/conf/eth0/accept_dad")?.trim() == "0", "the pod waits for no duplicate");
    for link in [BRIDGE, &bed.veths()?[0]] {
        let accept_ra = read(&bed.node, &format!("ipv6/conf/{link}/accept_ra"))?;
        ensure!(accept_ra.trim() == "0", "{link} accepts router advertisements");
    }
    Ok(())
}

fn oldest() -> Outcome {
    for version in ["", "0.1.0", "0.2.0"] {
        let mut bed = Bed::new()?;
        bed.conf["cniVersion"] = json!(version);
        let result = bed.succeed("ADD")?;
        let expected =
            json!({"ip": "10.9.0.2/24", "gateway": "10.9.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]});
        ensure!(result["ip4"] == expected && result["dns"] == json!({}), "{version}: {result}");
        bed.quiet("DEL")?;
    }
    Ok(())
}

fn forms() -> Outcome {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut bed = Bed::new()?;
        bed.conf["cniVersion"] = json!(version);
        let result = bed.succeed("ADD")?;
        ensure!(result["cniVersion"] == version, "{result}");
        let is_old = version < "1.0.0";
        ensure!((result["ips"][0]["version"] == "4") == is_old, "an address has its version until 1.0.0: {result}");
        ensure!((result["dns"] == json!({})) == is_old, "dns is always there until 1.0.0: {result}");
        let has_mtu = result["interfaces"][2]["mtu"].is_u64();
        ensure!(has_mtu == (version == "1.1.0"), "an interface has its MTU from 1.1.0: {result}");
    }
    Ok(())
}

fn dual_stack() -> Outcome {
    let mut bed = Bed::new()?;
    bed.conf["ipam"]["ranges"] = json!([[{"subnet": "fd00:9::/64"}]]);
    let result = bed.succeed("ADD")?;
    ensure!(result["ips"][1]["address"] == "fd00:9::2/64", "{result}");
    let tentative = bed.pod.run("ip -6 addr show dev eth0 scope global tentative")?;
    ensure!(tentative.trim().is_empty(), "the address is usable at once: {tentative}");
    ensure!(bed.pod.run("ip -6 route show default")?.contains("via fd00:9::1"), "a default route");
    bed.node.run("ping -6 -c 1 -W 2 fd00:9::2")?;
    bed.conf["prevResult"] = result;
    bed.quiet("CHECK")?;
    bed.quiet("DEL")?;
    bed.is_clean()
}

fn duplicate() -> Outcome {
    let mut bed = Bed::new()?;
    bed.succeed("ADD")?;
    bed.refused("ADD", &[101], "already exists")?;
    let other = Namespace::new("other")?;
    let first = bed.set("CNI_NETNS", other.path().to_string_lossy()).refused("ADD", &[101], "duplicate allocation");
    first?;
    ensure!(bed.reservations() == ["10.9.0.2"] && bed.veths()?.len() == 1, "the first attachment is untouched");
    bed.node.run("ping -c 1 -W 2 10.9.0.2").map(drop)
}

fn two_interfaces() -> Outcome {
    let mut bed = Bed::new()?;
    bed.succeed("ADD")?;
    bed.conf["isDefaultGateway"] = json!(false);
    let second = bed.set("CNI_IFNAME", "eth1").succeed("ADD")?;
    ensure!(second["ips"][0]["address"] == "10.9.0.3/24", "{second}");
    bed.quiet("DEL")?;
    ensure!(bed.reservations() == ["10.9.0.2"], "{:?}", bed.reservations());
    bed.node.run("ping -c 1 -W 2 10.9.0.2").map(drop)
}

fn foreign_interface() -> Outcome {
    let bed = Bed::new()?;
    bed.pod.ip("link add eth0 type veth peer name other")?;
    bed.refused("ADD", &[101], "eth0 already exists")?;
    bed.is_clean()?;
    bed.quiet("DEL")?;
    ensure!(bed.interface().is_ok(), "DEL leaves what ADD did not make");
    Ok(())
}

fn no_addresses() -> Outcome {
    let mut bed = Bed::new()?;
    bed.conf["ipam"]["subnet"] = json!("10.9.0.0/31");
    bed.refused("ADD", &[7], "too small to allocate from")?;
    bed.is_clean()?;
    bed.conf["ipam"]["subnet"] = json!("10.9.0.0/24");
    bed.succeed("ADD")?;
    bed.quiet("DEL")?;
    // The bridge is fresh again, and the pod's routes cannot be made: everything before them goes.
    bed.node.ip(&format!("link del {BRIDGE}"))?;
    bed.conf["ipam"]["routes"] = json!([{"dst": "10.77.0.0/16", "gw": "192.168.77.1"}]);
    bed.refused("ADD", &[100], "10.77.0.0/16")?;
    bed.is_clean()?;
    bed.conf["ipam"]["routes"] = json!([]);
    bed.succeed("ADD").map(drop)
}

fn full_disk() -> Outcome {
    let bed = Bed::new()?;
    let folder = bed.disk.path();
    // A few pages; the mount goes with the suite's mount namespace at the latest.
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("size=32k")).context("mount a small disk")?;
    bed.succeed("ADD")?;
    bed.quiet("DEL")?;
    let filler = folder.join("filler");
    let wrote = std::fs::write(&filler, vec![0; 64 * 1024]);
    ensure!(wrote.is_err(), "the disk is full now");
    bed.refused("ADD", &[5], "No space left on device")?;
    bed.is_clean()?;
    std::fs::remove_file(&filler).context("make space")?;
    bed.succeed("ADD")?;
    bed.quiet("DEL")?;
    umount2(folder, MntFlags::MNT_DETACH).context("unmount the small disk")
}

fn pool_of_two() -> Outcome {
    let mut bed = Bed::new()?;
    bed.conf["ipam"]["rangeEnd"] = json!("10.9.0.3");
    let pods = [Namespace::new("one")?, Namespace::new("two")?, Namespace::new("three")?];
    for (number, pod) in pods.iter().enumerate() {
        bed.set("CNI_NETNS", pod.path().to_string_lossy()).set("CNI_CONTAINERID", format!("cid{number}"));
        if number < 2 {
            bed.succeed("ADD")?;
        } else {
            bed.refused("ADD", &[11], "no IP addresses available")?;
        }
    }
    ensure!(bed.veths()?.len() == 2 && bed.reservations().len() == 2, "the third leaves nothing");
    bed.set("CNI_CONTAINERID", "cid0").set("CNI_NETNS", "").quiet("DEL")?;
    bed.set("CNI_CONTAINERID", "cid2").set("CNI_NETNS", pods[2].path().to_string_lossy());
    let result = bed.succeed("ADD")?;
    ensure!(result["ips"][0]["address"] == "10.9.0.2/24", "{result}");
    Ok(())
}

fn at_once() -> Outcome {
    let bed = Bed::new()?;
    let pods: Vec<_> = (0..10).map(|n| Namespace::new(&format!("p{n}"))).collect::<Outcome<_>>()?;
    let add = |number: usize, pod: &Namespace| {
        let mut env = bed.env.clone();
        env.insert("CNI_CONTAINERID", format!("cid{number}"));
        env.insert("CNI_NETNS", pod.path().to_string_lossy().into_owned());
        bed.succeed_in(&env, "ADD")
    };
    let add = &add;
    let results: Vec<Outcome<Value>> = std::thread::scope(|scope| {
        let calls: Vec<_> = pods.iter().enumerate().map(|one| scope.spawn(move || add(one.0, one.1))).collect();
        calls.into_iter().map(|call| call.join().expect("no call panics")).collect()
    });
    for result in results {
        result?;
    }
    ensure!(bed.reservations().len() == 10, "ten addresses: {:?}", bed.reservations());
    let addresses = bed.node.run(&format!("ip -4 -o addr show dev {BRIDGE}"))?;
    ensure!(addresses.lines().count() == 1, "one gateway: {addresses}");
    for address in bed.reservations() {
        bed.node.run(&format!("ping -c 1 -W 2 {address}"))?;
    }
    Ok(())
}

fn other_address() -> Outcome {
    let mut bed = Bed::new()?;
    bed.node.ip(&format!("link add {BRIDGE} type bridge\naddr add 10.8.0.1/24 dev {BRIDGE}"))?;
    bed.refused("ADD", &[7], "already has an IP address different from 10.9.0.1/24")?;
    bed.is_clean()?;
    bed.conf["forceAddress"] = json!(true);
    bed.succeed("ADD")?;
    let addresses = bed.node.run(&format!("ip -4 -o addr show dev {BRIDGE}"))?;
    ensure!(addresses.contains("10.9.0.1/24") && !addresses.contains("10.8.0.1"), "{addresses}");
    bed.node.ip("link add nobridge type veth peer name other")?;
    bed.conf["bridge"] = json!("nobridge");
    bed.refused("ADD", &[7, 101], "").map(drop)
}

fn subnet_env() -> Outcome {
    let mut bed = Bed::new()?;
    let file = bed.disk.path().join("subnet.env");
    bed.conf["ipam"] = json!({"dataDir": bed.disk.path()});
    bed.conf["subnetFile"] = json!(file);
    bed.refused("ADD", &[11], "failed to load flannel 'subnet.env' file")?;
    bed.is_clean()?;
    let text = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/56\n\
        FLANNEL_IPV6_SUBNET=fd00:10:244:7::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    std::fs::write(&file, text).context("write subnet.env")?;
    let result = bed.succeed("ADD")?;
    ensure!(result["ips"][0]["address"] == "10.244.7.2/24", "{result}");
    ensure!(result["ips"][1]["address"] == "fd00:10:244:7::2/64", "{result}");
    ensure!(bed.interface()?["mtu"] == 1450, "the overlay's MTU");
    let routes = bed.pod.run("ip route")?;
    ensure!(routes.contains("10.244.0.0/16 via 10.244.7.1"), "the whole network is behind the gateway: {routes}");
    std::fs::write(&file, "FLANNEL_SUBNET").context("cut subnet.env")?;
    bed.quiet("DEL")?;
    bed.is_clean()
}

/// A pod of both families on a node, and another host that is behind the node.
fn with_other_host() -> Outcome<(Bed, Namespace)> {
    let mut bed = Bed::new()?;
    bed.conf["ipam"]["ranges"] = json!([[{"subnet": "fd00:9::/64"}]]);
    let other = Namespace::new("other")?;
    bed.node.ip(&format!("link add lan type veth peer name eth0 netns {}", other.name()))?;
    for (host, link, number) in [(&bed.node, "lan", 1), (&other, "eth0", 2)] {
        host.ip(&format!(
            "addr add 10.8.0.{number}/24 dev {link}\naddr add fd00:8::{number}/64 dev {link} nodad\nlink set {link} up"
        ))?;
    }
    other.ip("route add 10.9.0.0/24 via 10.8.0.1\nroute add fd00:9::/64 via fd00:8::1")?;
    bed.node.sysctl("net/ipv4/conf/lan/forwarding", "1")?;
    // Until its neighbours are known, the first packet may take its time.
    other.run("ping -c 1 -W 2 10.8.0.1")?;
    other.run("ping -c 1 -W 2 fd00:8::1")?;
    Ok((bed, other))
}

fn reached(bed: &Bed, other: &Namespace) -> Outcome {
    bed.succeed("ADD")?;
    for address in ["10.9.0.2", "fd00:9::2"] {
        other.run(&format!("ping -c 2 -i 0.2 -W 0.5 {address}"))?;
    }
    Ok(())
}

fn new_links_do_not_forward() -> Outcome {
    let (bed, other) = with_other_host()?;
    bed.node.sysctl("net/ipv4/ip_forward", "1")?;
    bed.node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    for family in ["ipv4", "ipv6"] {
        bed.node.sysctl(&format!("net/{family}/conf/default/forwarding"), "0")?;
    }
    reached(&bed, &other)?;
    let value = bed.node.run("cat /proc/sys/net/ipv4/conf/default/forwarding")?;
    ensure!(value.trim() == "0", "the node's default is its own: {value}");
    Ok(())
}

fn new_links_have_no_ipv6() -> Outcome {
    let (bed, other) = with_other_host()?;
    bed.node.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    reached(&bed, &other)
}

fn first_pod() -> Outcome {
    let (bed, other) = with_other_host()?;
    // As on a host: these namespaces try no addresses otherwise.
    bed.node.sysctl("net/ipv6/conf/default/accept_dad", "1")?;
    bed.succeed("ADD")?;
    let bridge = bed.node.run(&format!("ip -6 addr show dev {BRIDGE} scope link"))?;
    ensure!(bridge.matches("fe80:").count() == 1 && !bridge.contains("tentative"), "{bridge}");
    other.run("ping -c 1 -W 0.5 fd00:9::2").map(drop)
}

fn all_ports() -> Outcome {
    let mut bed = Bed::new()?;
    bed.conf["cniVersion"] = json!("1.1.0");
    bed.succeed("ADD")?;
    let pair = |n| format!("link add a{n} master {BRIDGE} type veth peer name b{n}\nlink set b{n} master {BRIDGE}");
    let pairs: Vec<String> = (0..511).map(pair).collect();
    bed.node.ip(&pairs.join("\n"))?;
    let late = Namespace::new("late")?;
    bed.set("CNI_NETNS", late.path().to_string_lossy()).set("CNI_CONTAINERID", "late");
    let text = format!("bridge {BRIDGE} is full: the kernel allows 1023 ports on one bridge");
    bed.refused("ADD", &[11], &text)?;
    bed.refused("STATUS", &[50], &text)?;
    ensure!(bed.reservations() == ["10.9.0.2"], "it leaves nothing: {:?}", bed.reservations());
    bed.node.ip("link del a0")?;
    bed.quiet("STATUS")?;
    bed.succeed("ADD").map(drop)
}

fn routes_that_are_there() -> Outcome {
    let mut bed = Bed::new()?;
    bed.succeed("ADD")?;
    let conf = bed.conf.clone();
    bed.conf["name"] = json!("net1");
    bed.conf["bridge"] = json!("tbr1");
    bed.conf["ipam"]["subnet"] = json!("10.7.0.0/24");
    bed.conf["ipam"]["routes"] = json!([{"dst": "10.7.0.0/24"}, {"dst": "10.77.0.0/16"}]);
    let result = bed.set("CNI_IFNAME", "net1").succeed("ADD")?;
    ensure!(result["routes"] == json!([{"dst": "10.77.0.0/16"}]), "what it made: {result}");
    let routes = bed.pod.run("ip route show default")?;
    ensure!(routes.starts_with("default via 10.9.0.1 dev eth0"), "the first interface keeps its place: {routes}");
    bed.conf["prevResult"] = result;
    bed.quiet("CHECK")?;
    bed.quiet("DEL")?;
    bed.conf = conf;
    bed.set("CNI_IFNAME", "eth0").quiet("DEL")?;
    bed.is_clean()
}

fn lost_reservations() -> Outcome {
    let mut bed = Bed::new()?;
    bed.conf["ipam"]["ranges"] = json!([[{"subnet": "fd00:9::/64"}]]);
    bed.succeed("ADD")?;
    let pods = [Namespace::new("theirs")?, Namespace::new("deleted")?, Namespace::new("next")?];
    bed.node.ip(&format!(
        "link add theirs master {BRIDGE} type veth peer name eth0 netns {}\nlink set theirs up",
        pods[0].name()
    ))?;
    pods[0].ip("addr add 10.9.0.3/24 dev eth0\nlink set eth0 up")?;
    let add = |bed: &mut Bed, name: &str, pod: &Namespace| {
        bed.set("CNI_NETNS", pod.path().to_string_lossy()).set("CNI_CONTAINERID", name);
        bed.succeed("ADD")
    };
    add(&mut bed, "deleted", &pods[1])?;
    // The bridge has forgotten where pods are that say nothing.
    bed.node.run(&format!("ip link set {BRIDGE} type bridge fdb_flush"))?;
    bed.node.shell(&format!("rm -rf {}/net0/*", bed.disk.path().display()))?;
    // A DEL that comes first finds no reservation; it must not count as a look at the pods.
    bed.quiet("DEL")?;
    let result = add(&mut bed, "next", &pods[2])?;
    let addresses = [&result["ips"][0]["address"], &result["ips"][1]["address"]];
    ensure!(addresses == ["10.9.0.4/24", "fd00:9::3/64"], "the others are taken: {result}");
    bed.set("CNI_CONTAINERID", "cid0").set("CNI_NETNS", "").quiet("DEL")?;
    let left = bed.reservations();
    ensure!(left == ["10.9.0.3", "10.9.0.4", "fd00:9::3"], "DEL finds what was restored: {left:?}");
    Ok(())
}
