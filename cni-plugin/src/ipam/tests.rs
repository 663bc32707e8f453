use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;

use super::range::{RangeRequest, RangeSet};
use super::{Reservations, has_room};
use crate::attachment::{Attachment, Id, Port, ValidAttachments};
use crate::cni_error::{CniError, Code};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net() -> Id {
    "net0".parse().expect("a name")
}

fn pod(container: &str, ifname: &str) -> Attachment {
    Attachment {
        network: net(),
        container: container.parse().expect("a container name"),
        ifname: ifname.parse().expect("an interface name"),
    }
}

fn sets(subnets: &[&str]) -> Vec<RangeSet> {
    let set = |subnet: &&str| {
        vec![RangeRequest { subnet: subnet.parse().expect("a subnet"), start: None, end: None, gateway: None }]
    };
    RangeSet::all(&subnets.iter().map(set).collect::<Vec<_>>()).expect("valid ranges")
}

fn add(dir: &Path, pod: &Attachment, sets: &[RangeSet], requested: &[&str]) -> Result<String, CniError> {
    let requested: Vec<_> = requested.iter().map(|text| ip(text)).collect();
    let allocations = Reservations::lock(dir, &net())?.allocate(pod, sets, &requested, || Ok(Vec::new()))?;
    Ok(allocations.iter().map(|allocation| allocation.address.to_string()).collect::<Vec<_>>().join(" "))
}

fn del(dir: &Path, pod: &Attachment) -> usize {
    let held = Reservations::lock_existing(dir, &net()).expect("the directory can be read");
    held.map_or(0, |mut held| held.release(pod).expect("the directory can be written").len())
}

/// The reservations as names and contents.
fn files(dir: &Path) -> Vec<(String, String)> {
    let list = fs::read_dir(dir.join("net0")).expect("the network's directory");
    let mut files: Vec<_> = list
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<IpAddr>().is_ok()))
        .map(|entry| {
            let content = fs::read(entry.path()).unwrap_or_default();
            (entry.file_name().into_string().expect("a name"), String::from_utf8_lossy(&content).into_owned())
        })
        .collect();
    files.sort();
    files
}

fn scratch() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

#[test]
fn files_are_host_locals_to_the_byte() {
    let dir = scratch();
    let addresses = add(dir.path(), &pod("cid0", "eth0"), &sets(&["10.9.0.0/24", "fd00::/64"]), &[]).expect("free");
    assert_eq!(addresses, "10.9.0.2/24 fd00::2/64");
    let owner = "cid0\r\neth0".to_owned();
    assert_eq!(files(dir.path()), [("10.9.0.2".to_owned(), owner.clone()), ("fd00::2".to_owned(), owner)]);
    let read = |name: &str| fs::read_to_string(dir.path().join("net0").join(name)).expect(name);
    assert_eq!((read("last_reserved_ip.0").as_str(), read("last_reserved_ip.1").as_str()), ("10.9.0.2", "fd00::2"));
    let mode = fs::metadata(dir.path().join("net0/10.9.0.2")).expect("the reservation").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn addresses_go_round_robin_and_a_pool_runs_dry_without_a_trace() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/30"]));
    assert_eq!(add(dir.path(), &pod("a", "eth0"), &pool, &[]).expect("free"), "10.9.0.2/30");
    let error = add(dir.path(), &pod("b", "eth0"), &pool, &[]).expect_err("one address and two pods");
    assert_eq!(
        error.to_string(),
        "failed to allocate for range 0: no IP addresses available in range set: 10.9.0.1-10.9.0.2"
    );
    assert!(has_room(dir.path(), &net(), &pool).is_err(), "STATUS sees it");
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(del(dir.path(), &pod("a", "eth0")), 1);
    assert!(has_room(dir.path(), &net(), &pool).is_ok());
    assert_eq!(add(dir.path(), &pod("b", "eth0"), &pool, &[]).expect("free again"), "10.9.0.2/30");

    let (dir, pool) = (scratch(), sets(&["10.9.0.0/24"]));
    for expected in ["10.9.0.2/24", "10.9.0.3/24", "10.9.0.4/24"] {
        assert_eq!(add(dir.path(), &pod("a", "eth0"), &pool, &[]).expect("free"), expected);
        del(dir.path(), &pod("a", "eth0"));
    }
}

#[test]
fn an_attachment_has_one_allocation_and_its_own() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/24"]));
    add(dir.path(), &pod("cid0", "eth0"), &pool, &[]).expect("free");
    let error = add(dir.path(), &pod("cid0", "eth0"), &pool, &["10.9.0.77"]).expect_err("a duplicate");
    assert_eq!(error.to_string(), "10.9.0.2 has been allocated to cid0, duplicate allocation is not allowed");
    add(dir.path(), &pod("cid0", "eth1"), &pool, &[]).expect("a second interface");
    assert_eq!(del(dir.path(), &pod("cid0", "eth1")), 1);
    assert_eq!(del(dir.path(), &pod("cid0", "eth1")), 0, "a second DEL finds nothing");
    assert_eq!(del(dir.path(), &pod("cid", "eth0")), 0, "a prefix of a name is another name");
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn requested_addresses_are_reserved_or_refused() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/24", "fd00::/64"]));
    let ask = |name: &str, ips: &[&str]| add(dir.path(), &pod(name, "eth0"), &pool, ips).map_err(|e| e.to_string());
    assert_eq!(ask("a", &["fd00::9"]).as_deref(), Ok("10.9.0.2/24 fd00::9/64"));
    assert_eq!(ask("b", &["10.9.0.50"]).as_deref(), Ok("10.9.0.50/24 fd00::2/64"));
    assert_eq!(ask("c", &[]).as_deref(), Ok("10.9.0.3/24 fd00::3/64"), "a request does not move the round robin");
    let fault = |name, ips: &[&str]| ask(name, ips).expect_err("an impossible request");
    assert!(fault("d", &["10.9.0.1"]).contains("requested ip 10.9.0.1 is subnet's gateway"));
    assert!(fault("d", &["10.9.0.50"]).contains("10.9.0.50 is not available in range set 10.9.0.1-10.9.0.254"));
    assert_eq!(fault("d", &["10.8.0.5"]), "failed to allocate all requested IPs: 10.8.0.5");
    assert_eq!(files(dir.path()).len(), 6, "a refused request leaves nothing");
}

#[test]
fn state_that_others_wrote_is_seen() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/24"]));
    add(dir.path(), &pod("ours", "eth0"), &pool, &[]).expect("free");
    let write = |name: &str, content: &str| fs::write(dir.path().join("net0").join(name), content).expect(name);
    write("10.9.0.3", "theirs\r\neth0");
    write("10.9.0.4", "old");
    write("10.9.0.5", "unix\neth0\n");
    assert_eq!(add(dir.path(), &pod("next", "eth0"), &pool, &[]).expect("free"), "10.9.0.6/24");
    assert!(add(dir.path(), &pod("theirs", "eth0"), &pool, &[]).is_err(), "a duplicate of what another plugin added");
    for (container, ifname) in [("theirs", "eth0"), ("old", "net7"), ("unix", "eth0"), ("ours", "eth0")] {
        assert_eq!(del(dir.path(), &pod(container, ifname)), 1, "{container} has one address");
    }
    fs::remove_file(dir.path().join("net0/10.9.0.6")).expect("another plugin deletes ours");
    assert_eq!(del(dir.path(), &pod("next", "eth0")), 0);
    assert_eq!(add(dir.path(), &pod("next", "eth0"), &pool, &[]).expect("free"), "10.9.0.7/24");
}

#[test]
fn an_index_that_was_lost_or_made_up_does_no_harm() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/24"]));
    add(dir.path(), &pod("a", "eth0"), &pool, &[]).expect("free");
    fs::remove_dir_all(dir.path().join(".index")).expect("the index is there");
    assert!(add(dir.path(), &pod("a", "eth0"), &pool, &[]).is_err(), "the file is still there");
    fs::write(dir.path().join("net0/10.9.0.9"), "b\r\neth0").expect("another plugin adds");
    assert_eq!(del(dir.path(), &pod("b", "eth0")), 1);
    assert_eq!(del(dir.path(), &pod("a", "eth0")), 1);
    let long = "x".repeat(400);
    add(dir.path(), &pod(&long, "eth0"), &pool, &[]).expect("a name that is no file's");
    assert_eq!(del(dir.path(), &pod(&long, "eth0")), 1);
}

#[test]
fn files_that_a_crash_left_are_skipped_or_reused() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/29"]));
    let place = dir.path().join("net0");
    fs::create_dir(&place).expect("a directory");
    fs::write(place.join("10.9.0.2"), "").expect("an empty reservation");
    fs::write(place.join("10.9.0.3"), [0xff, 0, 0xfe]).expect("a binary reservation");
    fs::create_dir(place.join("10.9.0.4")).expect("a directory in a reservation's place");
    fs::write(place.join("last_reserved_ip.0"), "\0garbage").expect("a file");
    let next = |name: &str| add(dir.path(), &pod(name, "eth0"), &pool, &[]);
    assert_eq!(next("a").expect("free"), "10.9.0.2/29");
    assert_eq!(next("b").expect("free"), "10.9.0.5/29");
    assert_eq!(next("c").expect("free"), "10.9.0.6/29");
    assert!(next("d").is_err(), "three are left of five");
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/29"]));
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    let error = add(&file, &pod("a", "eth0"), &pool, &[]).expect_err("a file is no directory");
    assert_eq!(error.code, Code::Io, "{error}");
}

#[test]
fn retain_removes_what_is_not_valid() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/24"]));
    for (name, ifname) in [("cid", "eth0"), ("cid1", "eth0"), ("cid1", "eth1")] {
        add(dir.path(), &pod(name, ifname), &pool, &[]).expect("free");
    }
    let write = |name: &str, content: &str| fs::write(dir.path().join("net0").join(name), content).expect(name);
    write("10.9.0.20", "");
    write("10.9.0.21", "cid1");
    write("10.9.0.22", "cid2");
    let valid = ValidAttachments(BTreeSet::from([("cid1".to_owned(), "eth0".to_owned())]));
    let failed = Reservations::lock(dir.path(), &net()).expect("a lock").retain(&valid);
    assert_eq!(failed, [], "all can be removed");
    let left: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["10.9.0.21", "10.9.0.3"]);
    assert_eq!(del(dir.path(), &pod("cid1", "eth0")), 1);
}

fn port(pod: &Attachment, addresses: &[&str]) -> Port {
    let addresses = addresses.iter().map(|text| ip(text)).collect();
    Port { name: pod.host_veth(), attachment: Some(pod.clone()), addresses }
}

#[test]
fn only_old_reservations_of_pods_that_are_gone_are_taken_back() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/28"]));
    for name in ["named", "behind", "gone", "young"] {
        add(dir.path(), &pod(name, "eth0"), &pool, &[]).expect("free");
    }
    let file = |name: &str| dir.path().join("net0").join(name);
    for (name, content) in [("10.9.0.6", "old"), ("10.9.0.7", ""), ("10.8.0.9", "elsewhere\r\neth0")] {
        fs::write(file(name), content).expect(name);
    }
    for name in ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.6", "10.9.0.7", "10.8.0.9"] {
        let old = fs::File::options().write(true).open(file(name)).expect(name);
        old.set_modified(std::time::UNIX_EPOCH).expect("a time");
    }
    let mut foreign = port(&pod("other", "eth0"), &["10.9.0.3"]);
    foreign.attachment = None;
    let ports = [port(&pod("named", "eth0"), &[]), foreign];
    let free = Reservations::lock(dir.path(), &net()).expect("a lock").take_back(&pool, &ports).expect("writable");
    assert_eq!(free, [ip("10.9.0.4"), ip("10.9.0.6")]);
    let left: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["10.8.0.9", "10.9.0.2", "10.9.0.3", "10.9.0.5", "10.9.0.7"]);
}

#[test]
fn ports_are_read_only_where_files_may_be_wrong() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/29"]));
    let running = [port(&pod("a", "eth0"), &["10.9.0.2", "10.1.1.1"])];
    let reads = std::cell::Cell::new(0);
    let next = |name: &str| {
        let mut held = Reservations::lock(dir.path(), &net()).expect("a lock");
        let read = || {
            reads.set(reads.get() + 1);
            Ok(running.to_vec())
        };
        let ips = held.allocate(&pod(name, "eth0"), &pool, &[], read);
        (ips.map_or_else(|error| error.to_string(), |ips| ips[0].address.ip().to_string()), reads.get())
    };
    assert_eq!(next("b"), ("10.9.0.3".to_owned(), 1), "a's reservation is lost, and restored");
    assert_eq!(next("c"), ("10.9.0.4".to_owned(), 1));
    del(dir.path(), &pod("c", "eth0"));
    assert_eq!(next("d"), ("10.9.0.5".to_owned(), 1));
    fs::remove_file(dir.path().join("net0/10.9.0.2")).expect("somebody removes it");
    del(dir.path(), &pod("b", "eth0"));
    assert_eq!(next("e"), ("10.9.0.6".to_owned(), 2), "DEL has not looked at the ports");
    assert_eq!([next("f").0, next("g").0], ["10.9.0.3", "10.9.0.4"]);
    assert!(next("h").0.contains("no IP addresses available"), "a has its address, and the others are young");
    assert_eq!(reads.get(), 3);
    assert_eq!(del(dir.path(), &pod("a", "eth0")), 1, "DEL finds it");
}

#[test]
fn two_hundred_at_once_get_two_hundred_addresses() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/24"]));
    let given = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for number in 0..200 {
            let (dir, pool, given) = (dir.path(), &pool, &given);
            scope.spawn(move || {
                let address = add(dir, &pod(&format!("cid{number}"), "eth0"), pool, &[]).expect("free");
                assert!(given.lock().expect("no thread failed").insert(address), "given once");
            });
        }
    });
    assert_eq!(given.into_inner().expect("no thread failed").len(), 200);
    assert_eq!(files(dir.path()).len(), 200);
}

#[test]
fn twenty_thousand_reservations_are_read_once() {
    let (dir, pool) = (scratch(), sets(&["10.9.0.0/16"]));
    let place = dir.path().join("net0");
    fs::create_dir(&place).expect("a directory");
    for n in 0..20_000u32 {
        let address = std::net::Ipv4Addr::from_bits(0x0a09_0002 + n);
        fs::write(place.join(address.to_string()), format!("cid{n}\r\neth0")).expect("a reservation");
    }
    assert_eq!(add(dir.path(), &pod("next", "eth0"), &pool, &[]).expect("free"), "10.9.78.34/16");
    let index = dir.path().join(".index/net0");
    // One link says that the files were compared with the node's pods.
    let links = || fs::read_dir(&index).expect("the index").count() - 1;
    assert_eq!(links(), 20_001);
    let made = fs::metadata(&index).and_then(|stat| stat.created()).expect("a time of birth");
    assert_eq!(del(dir.path(), &pod("cid777", "eth0")), 1);
    assert_eq!(links(), 20_000);
    assert_eq!(fs::metadata(&index).and_then(|stat| stat.created()).expect("a time of birth"), made, "not built anew");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After any adds and deletes, by this plugin or another, the index finds what the files hold.
    #[test]
    fn the_index_agrees_with_the_files(steps in proptest::collection::vec((0u8..8, 0u8..4), 1..40)) {
        let (dir, pool) = (scratch(), sets(&["10.9.0.0/28"]));
        for (who, what) in steps {
            let pod = pod(&format!("cid{who}"), "eth0");
            match what {
                0 => { let _ = add(dir.path(), &pod, &pool, &[]); }
                1 => { del(dir.path(), &pod); }
                2 => {
                    // Nobody writes over a reservation; a new one is a new name in the directory.
                    let path = dir.path().join(format!("net0/10.9.0.{}", 2 + who));
                    let _ = fs::File::create_new(path).map(|mut file| write!(file, "cid{who}\r\neth0"));
                }
                _ => { let _ = fs::remove_file(dir.path().join(format!("net0/10.9.0.{}", 2 + who))); }
            }
        }
        for who in 0u8..8 {
            let Some(mut held) = Reservations::lock_existing(dir.path(), &net()).expect("readable") else { break };
            let pod = pod(&format!("cid{who}"), "eth0");
            let owned = files(dir.path()).into_iter().filter(|(_, owner)| *owner == format!("cid{who}\r\neth0")).count();
            prop_assert_eq!(held.addresses_of(&pod).expect("readable").len(), owned);
            held.release(&pod).expect("writable");
        }
        if dir.path().join("net0").exists() {
            prop_assert!(files(dir.path()).is_empty());
        }
    }
}
