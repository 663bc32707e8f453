//! What is in an API server: read, written and changed as its administrator, and how others are refused.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ApiServer, http};
use crate::deadline::eventually;
use crate::failure::{Context, Failure, Outcome};
use crate::namespace::printed;
use crate::node::Node;
use crate::peers;

/// As many as a node in use names in its status: it is what makes a Node large.
pub const MANY_IMAGES: usize = 30;
/// Connections at a time that write many objects.
const WRITERS: usize = 8;

/// The message of a refusal.
pub type Refusal = String;

impl ApiServer {
    /// Sends a request as the administrator, and gives the answer's object.
    ///
    /// # Errors
    /// Where it is refused or not answered.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, answer) = http::ask(&self.socket(), method, path, kind, body.as_bytes())?;
        let text = String::from_utf8_lossy(&answer);
        crate::ensure!((200..300).contains(&status), "{method} {path}: {status} {}", text.trim());
        // Health is plain text.
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| text.into_owned().into()))
    }

    /// The object at a path, such as `/api/v1/nodes/n1`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn get(&self, path: &str) -> Outcome<Value> {
        self.ask("GET", path, None)
    }

    /// Writes a new object into the collection at a path.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn create(&self, path: &str, object: &Value) -> Outcome<Value> {
        self.ask("POST", path, Some(object))
    }

    /// Changes the object at a path by a JSON merge patch.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn patch(&self, path: &str, change: &Value) -> Outcome<Value> {
        self.ask("PATCH", path, Some(change))
    }

    /// Deletes the object at a path.
    ///
    /// # Errors
    /// Where there is none.
    pub fn delete(&self, path: &str) -> Outcome {
        self.ask("DELETE", path, None).map(drop)
    }

    /// Follows the object `name` of a collection until it is as `enough` says, and gives it. The failure holds the last state.
    ///
    /// # Errors
    /// Where it does not get so.
    pub fn await_object(
        &self,
        collection: &str,
        name: &str,
        what: &str,
        within: Duration,
        enough: impl Fn(&Value) -> bool,
    ) -> Outcome<Value> {
        let mut last = Value::Null;
        let path = format!("{collection}?watch=1&fieldSelector=metadata.name={name}");
        let there = http::listen(&self.socket(), &path, within, |line| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            if event["object"]["metadata"]["name"] == name {
                last = event["object"].clone();
            }
            event["type"] != "DELETED" && enough(&last)
        })
        .context(format!("{what}: {name}"))?;
        crate::ensure!(there, "{what}: not within {within:?}: {name} is {}", last["status"]);
        Ok(last)
    }

    /// Follows a collection until the object `name` is gone from it.
    ///
    /// # Errors
    /// Where it stays.
    pub fn await_gone(&self, collection: &str, name: &str, within: Duration) -> Outcome {
        eventually(within, &format!("{name} goes"), || {
            let left = self.get(&format!("{collection}/{name}")).err();
            crate::ensure!(left.is_some_and(|failure| failure.to_string().contains(": 404 ")), "it is there");
            Ok(())
        })
    }

    /// Applies manifests, as a user does; a field that Kubernetes does not know is an error.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn apply(&self, yaml: &str) -> Outcome<String> {
        self.kubectl_with(&["apply", "--validate=strict", "-f", "-"], yaml)
    }

    /// Runs `kubectl` as the administrator, and gives what it printed.
    ///
    /// # Errors
    /// Where it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Outcome<String> {
        self.kubectl_with(arguments, "")
    }

    /// The same with something to read.
    ///
    /// # Errors
    /// Where it fails.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Outcome<String> {
        let mut command = Command::new(peers::KUBECTL.path()?);
        command.arg("--kubeconfig").arg(self.admin());
        // What it learns of the API is kept with the cluster that it is of.
        command.arg("--cache-dir").arg(self.folder().join("kubectl")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.namespace().spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read has its own reason, and its exit code says so.
            let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        }
        let output = child.wait_with_output().context("wait for kubectl")?;
        printed(&format!("kubectl {}", arguments.join(" ")), &output)
    }

    /// Runs commands for a shell, in the project's folder, whose `kubectl` is the administrator's; gives what they printed.
    ///
    /// # Errors
    /// Where one fails.
    pub fn shell(&self, commands: &str) -> Outcome<String> {
        let script = format!(
            "cd {}/..\nkubectl() {{ {} --kubeconfig {} --cache-dir {}/kubectl \"$@\"; }}\n{commands}",
            env!("CARGO_MANIFEST_DIR"),
            peers::KUBECTL.path()?.display(),
            self.admin().display(),
            self.folder().display(),
        );
        self.namespace().shell(&script)
    }

    /// A token of a `ServiceAccount`, as a pod of it gets one.
    ///
    /// # Errors
    /// Where there is no such account.
    pub fn account_token(&self, namespace: &str, account: &str) -> Outcome<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 3600 } });
        let answer = self.create(&path, &asked)?;
        answer["status"]["token"].as_str().map(ToOwned::to_owned).context(format!("no token in {answer}"))
    }

    /// The message with which the API server refuses the owner of `token` what `kubectl ARGUMENTS` does.
    ///
    /// # Errors
    /// Where they may.
    pub fn refused(&self, token: &str, arguments: &[&str]) -> Outcome<Refusal> {
        let mut command = Command::new(peers::KUBECTL.path()?);
        let asker = self.kubeconfig("asker", token)?;
        command.arg("--kubeconfig").arg(asker).args(arguments);
        let output = self.namespace().output(&mut command)?;
        crate::ensure!(!output.status.success(), "{} was not refused", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Writes keys and objects to etcd, below the API server, as it would have stored them. `machine` is the API server's.
    ///
    /// # Errors
    /// Where etcd refuses.
    pub fn store_all(&self, machine: &Node, objects: impl Iterator<Item = (String, Value)>) -> Outcome {
        let entries: Vec<_> = objects.map(|(key, object)| (format!("/registry/{key}"), object.to_string())).collect();
        self.etcd.as_ref().context("etcd does not run")?.put_all(machine, &entries)
    }

    /// Writes many objects into the collection at a path, over several connections at a time.
    ///
    /// # Errors
    /// At the first that is refused.
    pub fn create_many(&self, path: &str, count: usize, object: impl Fn(usize) -> Value + Sync) -> Outcome {
        let next = AtomicUsize::new(0);
        let write = || -> Outcome {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                self.create(path, &object(number))?;
            }
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
            writers.into_iter().try_for_each(|writer| {
                writer.join().unwrap_or_else(|_| Err(Failure::new("a thread that writes objects broke")))
            })
        })
    }
}

/// A Node with these `podCIDRs`, the first of which may be IPv4's, annotations, and so many images in its status.
pub fn node_object(name: &str, ranges: &[&str], annotations: &Value, images: usize) -> Value {
    let images: Vec<Value> = (0..images)
        .map(|number| {
            let name = format!("registry.example/team-{number:02}/service-{number:02}");
            let digest = format!("{number:02x}").repeat(32);
            json!({ "names": [format!("{name}@sha256:{digest}"), format!("{name}:v1.{number}.0")], "sizeBytes": 40_000_000 + number })
        })
        .collect();
    let mut spec = json!({});
    if let Some(first) = ranges.first() {
        spec = json!({ "podCIDR": first, "podCIDRs": ranges });
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" },
            "annotations": annotations,
        },
        "spec": spec,
        "status": {
            "images": images,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        },
    })
}
