use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::model::PortKey;
use crate::services::Services;

/// A directory that is followed, and the state that its events make.
struct Followed {
    dir: TempDir,
    events: mpsc::Receiver<Vec<Event>>,
    services: Services,
}

impl Followed {
    fn new(poll: Duration, fill: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new().expect("a directory");
        fill(dir.path());
        let events = follow(dir.path().to_owned(), "n1", poll);
        Self { dir, events, services: Services::new("n1") }
    }

    /// Waits until the state is as expected.
    async fn until(&mut self, what: &str, expected: impl Fn(&Services) -> bool) {
        while !expected(&self.services) {
            let events = time::timeout(Duration::from_secs(30), self.events.recv()).await;
            for event in events.unwrap_or_else(|_| panic!("{what}: {:?}", self.services)).expect("a live source") {
                self.services.apply(event);
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"
    )
}

fn cluster_ips(services: &Services) -> Vec<String> {
    services.ports().map(|port| format!("{}={}", port.name, port.cluster_ip)).collect()
}

fn has(expected: &'static [&'static str]) -> impl Fn(&Services) -> bool {
    move |services| services.is_listed() && cluster_ips(services) == expected
}

fn reported(services: &Services) -> String {
    services.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn files_are_listed_and_changes_of_them_followed() {
    let mut followed = Followed::new(Duration::from_hours(1), |dir| {
        fs::write(dir.join("a.yaml"), service("a", "10.96.0.1")).expect("a file");
        fs::write(dir.join("README.md"), "no: [object").expect("a file");
        fs::write(dir.join(".b.yaml.swp.yaml"), service("x", "10.96.0.9")).expect("a file");
    });
    followed.until("the list", has(&["default/a=10.96.0.1"])).await;
    fs::write(followed.path("b.yml"), service("b", "10.96.0.2")).expect("a file");
    followed.until("a new file", has(&["default/a=10.96.0.1", "default/b=10.96.0.2"])).await;
    fs::write(followed.path(".new"), service("a", "10.96.0.3")).expect("a file");
    fs::rename(followed.path(".new"), followed.path("a.yaml")).expect("a rename");
    followed.until("an atomic replacement", has(&["default/a=10.96.0.3", "default/b=10.96.0.2"])).await;
    fs::remove_file(followed.path("a.yaml")).expect("a removal");
    followed.until("a removed file", has(&["default/b=10.96.0.2"])).await;
    assert_eq!(reported(&followed.services), "");
}

#[tokio::test]
async fn changes_are_polled_where_there_are_no_notifications() {
    let mut followed = Followed::new(Duration::from_millis(20), |dir| {
        fs::write(dir.join("target"), service("a", "10.96.0.1")).expect("a file");
        std::os::unix::fs::symlink(dir.join("target"), dir.join("a.yaml")).expect("a link");
    });
    followed.until("the list", has(&["default/a=10.96.0.1"])).await;
    // No notification names the link.
    fs::write(followed.path("target"), service("abc", "10.96.0.22")).expect("a file");
    followed.until("the poll", has(&["default/abc=10.96.0.22"])).await;
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_objects_and_is_told_until_it_is_right() {
    let mut followed = Followed::new(Duration::from_hours(1), |dir| {
        fs::write(dir.join("a.yaml"), service("a", "10.96.0.1")).expect("a file");
    });
    followed.until("the list", has(&["default/a=10.96.0.1"])).await;
    fs::write(followed.path("a.yaml"), "kind: Service\n  spec: x").expect("a file");
    followed.until("the fault", |services| reported(services).contains("a.yaml:2 is not valid")).await;
    assert_eq!(cluster_ips(&followed.services), ["default/a=10.96.0.1"]);
    let two = format!("{}---\n{}", service("a", "[]"), service("b", "10.96.0.2"));
    fs::write(followed.path("a.yaml"), two).expect("a file");
    followed.until("one object", has(&["default/a=10.96.0.1", "default/b=10.96.0.2"])).await;
    assert!(reported(&followed.services).starts_with("spec.clusterIP of Service default/a (a.yaml:4) cannot be read"));
    fs::write(followed.path("a.yaml"), service("b", "10.96.0.2")).expect("a file");
    followed.until("the end of the fault", has(&["default/b=10.96.0.2"])).await;
    assert_eq!(reported(&followed.services), "");
}

#[tokio::test]
async fn of_two_files_with_one_object_the_first_by_name_counts() {
    let mut followed = Followed::new(Duration::from_hours(1), |dir| {
        fs::write(dir.join("b.yaml"), service("a", "10.96.0.2")).expect("a file");
    });
    followed.until("the list", has(&["default/a=10.96.0.2"])).await;
    fs::write(followed.path("a.yaml"), service("a", "10.96.0.1")).expect("a file");
    followed.until("the first file", has(&["default/a=10.96.0.1"])).await;
    followed
        .until("the fault", |services| reported(services).contains("Service default/a in b.yaml is in a.yaml, too"))
        .await;
    fs::remove_file(followed.path("a.yaml")).expect("a removal");
    followed.until("the second file", has(&["default/a=10.96.0.2"])).await;
    assert_eq!(reported(&followed.services), "");
}

#[tokio::test]
async fn a_directory_that_is_missing_is_waited_for_and_one_that_goes_away_takes_nothing_along() {
    let dir = TempDir::new().expect("a directory");
    let (path, moved) = (dir.path().join("services"), dir.path().join("moved"));
    let events = follow(path.clone(), "n1", Duration::from_millis(20));
    let mut followed = Followed { dir, events, services: Services::new("n1") };
    followed.until("the fault", |services| reported(services).contains("cannot be read: No such file")).await;
    assert!(!followed.services.is_listed(), "nothing may be programmed");
    fs::create_dir(&path).expect("a directory");
    fs::write(path.join("a.yaml"), service("a", "10.96.0.1")).expect("a file");
    followed.until("the list", has(&["default/a=10.96.0.1"])).await;
    fs::rename(&path, &moved).expect("a rename");
    followed.until("the fault", |services| reported(services).contains("cannot be read: No such file")).await;
    assert_eq!(cluster_ips(&followed.services), ["default/a=10.96.0.1"]);
    fs::rename(&moved, &path).expect("a rename");
    fs::write(path.join("b.yaml"), service("b", "10.96.0.2")).expect("a file");
    followed.until("the directory", has(&["default/a=10.96.0.1", "default/b=10.96.0.2"])).await;
    assert_eq!(reported(&followed.services), "");
}

#[tokio::test]
async fn what_is_no_regular_file_is_told() {
    let mut followed = Followed::new(Duration::from_hours(1), |dir| {
        fs::create_dir(dir.join("a.yaml")).expect("a directory");
        nix::unistd::mkfifo(&dir.join("b.yaml"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        fs::write(dir.join("c.yaml"), [0xff, 0xfe]).expect("a file");
    });
    followed.until("the list", Services::is_listed).await;
    let reported = reported(&followed.services);
    assert_eq!(reported.lines().count(), 3, "{reported}");
    assert_eq!(
        followed.services.resolve(&PortKey {
            name: crate::model::PortName::new("a", "b", "", crate::model::Protocol::Tcp),
            family: dataplane::types::Family::V4
        }),
        None
    );
}
