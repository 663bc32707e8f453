use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use dataplane::types::{Mac, PerFamily, Vni};
use network::backend::DataRequest;
use network::model::{BackendData, BackendType};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time;

use super::*;

const NET_CONF: &str = r#"{"Network": "10.244.0.0/16"}"#;

/// Longer than any event may take.
const LIMIT: Duration = Duration::from_secs(10);

fn room() -> TempDir {
    let room = tempfile::tempdir().expect("temporary folder");
    fs::write(room.path().join("net-conf.json"), NET_CONF).expect("net-conf.json");
    room
}

fn store(room: &Path) -> DirStore {
    DirStore::new(room.to_owned(), None, Duration::from_mins(10))
}

/// The store with this timeout for the lock.
fn patient(room: &Path, lock_timeout: Duration) -> DirStore {
    DirStore { lock_timeout, ..store(room) }
}

fn conf(text: &str) -> NetConf {
    NetConf::parse(text).expect("net-conf").0
}

fn data(device: Option<Mac>, fresh: u8) -> PerFamily<DataRequest> {
    let request = DataRequest { vni: Vni::ONE, device, fresh: Mac([2, 0, 0, 0, 0, fresh]) };
    PerFamily { v4: Some(request), v6: None }
}

fn request(node: &str) -> LeaseRequest {
    LeaseRequest {
        node: node.parse().expect("node name"),
        public: PerFamily { v4: Some(IpAddr::from([192, 0, 2, 1])), v6: None },
        backend: BackendType::Vxlan,
        data: data(None, 1),
        previous: PerFamily::none(),
        elsewhere: Vec::new(),
    }
}

async fn acquire(room: &Path, node: &str) -> Lease {
    store(room).acquire(&request(node), &conf(NET_CONF)).await.expect("lease")
}

/// The next event about a valid file.
async fn next(events: &mut mpsc::Receiver<StoreEvent>) -> StoreEvent {
    past_faults(events).await.1
}

/// The next event about a valid file, and the records that are passed over by then.
async fn past_faults(events: &mut mpsc::Receiver<StoreEvent>) -> (BTreeSet<String>, StoreEvent) {
    let mut records = BTreeSet::new();
    loop {
        let event = time::timeout(LIMIT, events.recv()).await.expect("an event in time");
        match event.expect("a store that is followed") {
            StoreEvent::Fault(record, Some(_)) => drop(records.insert(record)),
            StoreEvent::Fault(record, None) => drop(records.remove(&record)),
            event => return (records, event),
        }
    }
}

/// The first list: the names in it.
async fn first_list(events: &mut mpsc::Receiver<StoreEvent>) -> Vec<String> {
    assert_eq!(next(events).await, StoreEvent::NetConf(NET_CONF.to_owned()));
    assert_eq!(next(events).await, StoreEvent::Init);
    let mut names = Vec::new();
    loop {
        match next(events).await {
            StoreEvent::Lease(lease) => names.push(lease.node.to_string()),
            event => {
                assert_eq!(event, StoreEvent::InitDone);
                return names;
            }
        }
    }
}

fn chain(error: &StoreError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source}")
}

#[tokio::test]
async fn fifty_daemons_at_once_get_fifty_subnets() {
    let room = room();
    let small = conf(r#"{"Network": "10.244.0.0/16", "SubnetMin": "10.244.1.0", "SubnetMax": "10.244.50.0"}"#);
    let mut daemons = JoinSet::new();
    for n in 0..50 {
        // All write to one disk, which may have much else to do.
        let (store, small) = (patient(room.path(), Duration::from_mins(2)), small.clone());
        daemons.spawn(async move { store.acquire(&request(&format!("node-{n}")), &small).await });
    }
    let leases = daemons.join_all().await;
    let subnets: BTreeSet<_> = leases.into_iter().map(|lease| lease.expect("lease").subnets.v4).collect();
    assert_eq!(subnets.len(), 50, "one for each, although there are no more than 50");
    let error = store(room.path()).acquire(&request("late"), &small).await.expect_err("all are taken");
    assert!(chain(&error).contains("no subnet for node late: out of subnets"), "{}", chain(&error));
    assert!(!room.path().join("nodes/late.json").exists());
}

#[tokio::test]
async fn a_restart_gets_the_same_subnet_and_mac_and_writes_nothing() {
    let room = room();
    let first = acquire(room.path(), "a").await;
    let written = fs::metadata(room.path().join("nodes/a.json")).and_then(|it| it.modified()).expect("file");
    let mut again = request("a");
    again.data = data(None, 2);
    let second = store(room.path()).acquire(&again, &conf(NET_CONF)).await.expect("lease");
    assert_eq!(first, second, "the published MAC is kept while no device has another one");
    assert_eq!(fs::metadata(room.path().join("nodes/a.json")).and_then(|it| it.modified()).expect("file"), written);

    again.data = data(Some(Mac([2, 0, 0, 0, 0, 3])), 2);
    let third = store(room.path()).acquire(&again, &conf(NET_CONF)).await.expect("lease");
    assert_eq!(
        third.data.v4.as_ref().and_then(BackendData::mac),
        Some(Mac([2, 0, 0, 0, 0, 3])),
        "a device's own MAC goes first"
    );
    assert_eq!(store(room.path()).leases().await.expect("leases"), [third.into()]);
}

#[tokio::test]
async fn the_subnet_of_subnet_env_is_taken_when_it_suits() {
    let room = room();
    let mut with_previous = request("a");
    with_previous.previous.v4 = "10.244.77.0/24".parse().ok();
    let lease = store(room.path()).acquire(&with_previous, &conf(NET_CONF)).await.expect("lease");
    assert_eq!(lease.subnets.v4, with_previous.previous.v4);
    let other = conf(r#"{"Network": "10.3.0.0/16"}"#);
    let moved = store(room.path()).acquire(&with_previous, &other).await.expect("lease").subnets.v4.expect("subnet");
    assert!(other.networks.v4.expect("range").suits(moved), "another Network gives another subnet, {moved}");
}

#[tokio::test]
async fn both_families_are_allocated_and_released() {
    let room = room();
    let dual = conf(r#"{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:244::/48"}"#);
    let lease = store(room.path()).acquire(&request("a"), &dual).await.expect("lease");
    assert_eq!(lease.subnets.families().count(), 2);
    let mut wrong_name = store(room.path());
    wrong_name.release(&"b".parse().expect("node name")).await.expect("nothing to release");
    wrong_name = store(room.path());
    wrong_name.release(&lease.node).await.expect("release");
    assert!(wrong_name.leases().await.expect("leases").is_empty());
}

#[tokio::test]
async fn a_lock_that_is_not_released_names_its_holder() {
    let room = room();
    let layout = Layout::new(room.path().to_owned(), None);
    layout.make_dirs().expect("folders");
    let held = lock::take(&layout.lock_file(), "node slow", LIMIT).await.expect("free lock");
    let waiting = patient(room.path(), Duration::from_millis(50));
    let error = waiting.acquire(&request("a"), &conf(NET_CONF)).await.expect_err("locked").to_string();
    assert!(error.contains("held by node slow, process") && error.contains("lock"), "{error}");
    drop(held);
    waiting.acquire(&request("a"), &conf(NET_CONF)).await.expect("released");
}

#[tokio::test]
async fn changes_are_reported() {
    let room = room();
    let lease = acquire(room.path(), "a").await;
    let mut events = store(room.path()).watch();
    assert_eq!(first_list(&mut events).await, ["a"]);

    let new = acquire(room.path(), "b").await;
    assert_eq!(next(&mut events).await, StoreEvent::Lease(new.into()));
    let other = PerFamily { v4: Some(IpAddr::from([192, 0, 2, 99])), v6: None };
    let moved = store(room.path()).acquire(&LeaseRequest { public: other, ..request("a") }, &conf(NET_CONF)).await;
    assert_eq!(next(&mut events).await, StoreEvent::Lease(moved.expect("lease").into()), "own subnet, other address");
    store(room.path()).release(&lease.node).await.expect("release");
    assert_eq!(next(&mut events).await, StoreEvent::Removed(lease.node));
    fs::write(room.path().join("net-conf.json"), "{}").expect("net-conf.json");
    // A plain write may be seen half done first.
    while next(&mut events).await != StoreEvent::NetConf("{}".to_owned()) {}
}

#[tokio::test]
async fn what_changes_between_the_allocation_and_the_watch_is_reported() {
    let room = room();
    let lease = acquire(room.path(), "b").await;
    let store = store(room.path());
    store.acquire(&request("a"), &conf(NET_CONF)).await.expect("lease");
    acquire(room.path(), "c").await;
    fs::remove_file(room.path().join("nodes/b.json")).expect("remove a file");
    let mut events = store.watch();
    // The list is the allocation's; what has changed since follows.
    assert_eq!(first_list(&mut events).await, ["a", "b"]);
    let mut later = [next(&mut events).await, next(&mut events).await];
    later.sort_by_key(|event| matches!(event, StoreEvent::Removed(_)));
    assert!(matches!(&later[0], StoreEvent::Lease(new) if new.node.as_str() == "c"), "{later:?}");
    assert_eq!(later[1], StoreEvent::Removed(lease.node));
}

#[tokio::test]
async fn the_poll_sees_what_is_not_notified() {
    let room = room();
    let elsewhere = tempfile::tempdir().expect("temporary folder");
    acquire(elsewhere.path(), "a").await;
    acquire(room.path(), "b").await;
    let polled = DirStore::new(room.path().to_owned(), None, Duration::from_millis(50));
    let mut events = polled.watch();
    assert_eq!(first_list(&mut events).await, ["b"]);
    // inotify reports neither a new symbolic link here (the watch is without CREATE) nor a change of the file behind the link.
    let (target, link) = (elsewhere.path().join("nodes/a.json"), room.path().join("nodes/a.json"));
    std::os::unix::fs::symlink(&target, &link).expect("link");
    assert!(matches!(next(&mut events).await, StoreEvent::Lease(lease) if lease.node.as_str() == "a"));
    let text = fs::read_to_string(&target).expect("text");
    fs::write(&target, text.replace("192.0.2.1", "192.0.2.7")).expect("change");
    let StoreEvent::Lease(lease) = next(&mut events).await else { panic!("a changed lease was expected") };
    assert_eq!(lease.public.v4, Some(IpAddr::from([192, 0, 2, 7])));
}

#[tokio::test]
async fn invalid_files_leave_the_others_valid() {
    let room = room();
    acquire(room.path(), "good").await;
    let nodes = room.path().join("nodes");
    let whole = fs::read_to_string(nodes.join("good.json")).expect("text");
    fs::write(nodes.join("half.json"), &whole[..whole.len() / 2]).expect("half-written");
    fs::write(nodes.join("README"), "hello").expect("foreign");
    fs::write(nodes.join("big.json"), "x".repeat(100_000)).expect("too large");
    fs::create_dir(nodes.join("folder.json")).expect("a folder");
    std::os::unix::fs::symlink("loop.json", nodes.join("loop.json")).expect("a link to itself");
    assert_eq!(store(room.path()).leases().await.expect("leases").len(), 1);
    let mut events = store(room.path()).watch();
    assert_eq!(first_list(&mut events).await, ["good"]);

    // The last valid lease of a file counts while the file is invalid; a valid content counts again.
    fs::write(nodes.join("good.json"), "{").expect("broken");
    fs::write(nodes.join("half.json"), whole.replace("10.244.", "10.245.")).expect("whole");
    let (faults, event) = past_faults(&mut events).await;
    assert!(matches!(event, StoreEvent::Lease(lease) if lease.node.as_str() == "half"));
    assert!(faults.is_empty() || faults == BTreeSet::from(["the file nodes/good.json".to_owned()]), "{faults:?}");
    fs::write(nodes.join("good.json"), whole.replace("192.0.2.1", "192.0.2.5")).expect("whole");
    let (_, StoreEvent::Lease(lease)) = past_faults(&mut events).await else { panic!("a lease was expected") };
    assert_eq!((lease.node.as_str(), lease.public.v4), ("good", Some(IpAddr::from([192, 0, 2, 5]))));
}

#[tokio::test]
async fn a_missing_directory_is_unavailable_and_removes_no_peer() {
    let room = room();
    let (there, away) = (room.path().join("store"), room.path().join("away"));
    fs::create_dir(&there).expect("store");
    fs::write(there.join("net-conf.json"), NET_CONF).expect("net-conf.json");
    for node in ["a", "b"] {
        acquire(&there, node).await;
    }
    let mut events = DirStore::new(there.clone(), None, Duration::from_millis(100)).watch();
    assert_eq!(first_list(&mut events).await.len(), 2);
    for _ in 0..2 {
        fs::rename(&there, &away).expect("move away");
        let StoreEvent::Unavailable(text) = next(&mut events).await else { panic!("Unavailable was expected") };
        assert!(text.contains("store/") && text.contains("No such file"), "{text}");
        fs::rename(&away, &there).expect("move back");
        assert_eq!(next(&mut events).await, StoreEvent::Available, "reported once, and no node was removed meanwhile");
    }
    // The same where the directory is removed file by file.
    let text = fs::read_to_string(there.join("nodes/a.json")).expect("text");
    fs::remove_dir_all(&there).expect("remove");
    assert!(matches!(next(&mut events).await, StoreEvent::Unavailable(_)));
    fs::create_dir_all(there.join("nodes")).expect("folders");
    fs::write(there.join("nodes/a.json"), text).expect("lease");
    // By rename, or a partially written file could be read.
    fs::write(there.join("growing"), NET_CONF).expect("net-conf.json");
    fs::rename(there.join("growing"), there.join("net-conf.json")).expect("in its place");
    assert_eq!(next(&mut events).await, StoreEvent::Available);
    // b did not come back, and counts as gone in the end.
    assert_eq!(next(&mut events).await, StoreEvent::Removed("b".parse().expect("node name")));
}

#[tokio::test]
async fn a_store_that_lost_every_file_reports_only_this_node_as_removed() {
    let room = room();
    for node in ["b", "c"] {
        acquire(room.path(), node).await;
    }
    // A longer poll interval than the time after which a missing file counts as gone.
    let own = DirStore::new(room.path().to_owned(), None, Duration::from_secs(2));
    let lease = own.acquire(&request("a"), &conf(NET_CONF)).await.expect("lease");
    let mut events = own.watch();
    assert_eq!(first_list(&mut events).await, ["a", "b", "c"]);
    for node in ["b", "a", "c"] {
        fs::remove_file(room.path().join(format!("nodes/{node}.json"))).expect("remove");
    }
    assert_eq!(
        next(&mut events).await,
        StoreEvent::Removed(lease.node.clone()),
        "this node can write its own file again"
    );
    own.publish(&lease).await.expect("publish");
    assert_eq!(next(&mut events).await, StoreEvent::Lease(lease.into()), "and the others are not removed");
    acquire(room.path(), "c").await;
    assert!(
        matches!(next(&mut events).await, StoreEvent::Removed(node) if node.as_str() == "b"),
        "b is the only one whose file is still missing"
    );
}

#[tokio::test]
async fn a_directory_may_appear_after_the_start() {
    let room = tempfile::tempdir().expect("temporary folder");
    let there = room.path().join("store");
    let later = DirStore::new(there.clone(), None, Duration::from_millis(50));
    let error = later.net_conf().await.expect_err("nothing there");
    assert!(chain(&error).contains("net-conf.json: it must hold the network configuration"), "{}", chain(&error));
    let mut events = later.watch();
    assert!(matches!(next(&mut events).await, StoreEvent::Unavailable(_)));
    fs::create_dir_all(there.join("nodes")).expect("folders");
    fs::write(there.join("net-conf.json"), NET_CONF).expect("net-conf.json");
    let mut seen = Vec::new();
    while seen.last() != Some(&StoreEvent::Available) {
        seen.push(next(&mut events).await);
    }
    assert!(!seen.iter().any(|event| matches!(event, StoreEvent::Unavailable(_))), "reported once: {seen:?}");
}

#[tokio::test]
async fn an_unwritable_store_says_what_to_do_and_keeps_no_partial_file() {
    let room = room();
    fs::write(room.path().join("nodes"), "a file in the folder's place").expect("file");
    let error = store(room.path()).acquire(&request("a"), &conf(NET_CONF)).await.expect_err("no folder");
    let text = chain(&error);
    assert!(text.contains("cannot write") && text.contains("nodes: netd must be able to write"), "{text}");
    fs::remove_file(room.path().join("nodes")).expect("remove");
    fs::create_dir_all(room.path().join("nodes/a.json/inside")).expect("a folder in the lease's place");
    let error = store(room.path()).acquire(&request("a"), &conf(NET_CONF)).await.expect_err("no file");
    assert!(chain(&error).contains("nodes/a.json"), "{}", chain(&error));
    assert_eq!(fs::read_dir(room.path().join("nodes")).expect("list").count(), 1);
}

/// Where the full file system of the next test is, in the process that the test starts.
const FULL: &str = "NETD_TEST_FULL_DISK";

#[test]
fn a_full_disk_leaves_no_partial_lease() {
    if let Some(room) = std::env::var_os(FULL) {
        return on_a_full_disk(Path::new(&room));
    }
    // A file system of 64 KiB, mounted for one child of this process alone.
    let room = tempfile::tempdir().expect("temporary folder");
    let own_mounts = if nix::unistd::geteuid().is_root() { "-m" } else { "-Urm" };
    let script = r#"mount -t tmpfs -o size=64k none "$1" && NETD_TEST_FULL_DISK="$1" exec "$2" --exact "$3""#;
    let output = std::process::Command::new("unshare")
        .args([own_mounts, "sh", "-c", script, "sh"])
        .arg(room.path())
        .arg(std::env::current_exe().expect("this program"))
        .arg("store::dir::tests::a_full_disk_leaves_no_partial_lease")
        .output()
        .expect("unshare(1) runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn on_a_full_disk(room: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let lease = acquire(room, "a").await;
        fs::write(room.join("filler"), vec![0; 64 * 1024]).expect_err("more than there is room for");
        let other =
            LeaseRequest { public: PerFamily { v4: Some(IpAddr::from([192, 0, 2, 9])), v6: None }, ..request("a") };
        for request in [other, request("b")] {
            let error = store(room).acquire(&request, &conf(NET_CONF)).await.expect_err("no room");
            assert!(chain(&error).contains("make room on that file system"), "{}", chain(&error));
        }
        assert_eq!(acquire(room, "a").await, lease, "what was there still is, and needs no room");
        assert_eq!(fs::read_dir(room.join("nodes")).expect("list").count(), 1, "nothing half-done stays");
        fs::remove_file(room.join("filler")).expect("room again");
        acquire(room, "b").await;
    });
}
