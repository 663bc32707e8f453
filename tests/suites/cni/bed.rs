//! One node and one pod for one test, and the plugin between them.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use netd_tests::failure::{Context, Outcome};
use netd_tests::namespace::Namespace;
use netd_tests::{binaries, ensure, fail};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The bridge of the tests' configuration.
pub(crate) const BRIDGE: &str = "tbr0";

/// A node without a daemon, a pod's namespace, and a directory of reservations.
pub(crate) struct Bed {
    pub(crate) node: Namespace,
    pub(crate) pod: Namespace,
    pub(crate) disk: TempDir,
    /// What the plugin gets on stdin.
    pub(crate) conf: Value,
    /// What it gets in the environment, beside the verb.
    pub(crate) env: Environment,
}

/// Variables by name.
pub(crate) type Environment = BTreeMap<&'static str, String>;

/// What a call came to.
pub(crate) struct Answer {
    pub(crate) succeeded: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Bed {
    pub(crate) fn new() -> Outcome<Self> {
        let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
        let disk = tempfile::tempdir().context("make a directory for the reservations")?;
        let conf = json!({
            "cniVersion": "1.0.0", "name": "net0", "type": "netd", "bridge": BRIDGE,
            "isGateway": true, "isDefaultGateway": true,
            "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "dataDir": disk.path()},
        });
        let netns = pod.path().to_string_lossy().into_owned();
        let env = [
            ("CNI_CONTAINERID", "cid0".to_owned()),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ];
        Ok(Self { node, pod, disk, conf, env: env.into() })
    }

    /// The same with another value in the environment.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) -> &mut Self {
        self.env.insert(name, value.into());
        self
    }

    /// Calls the plugin with these bytes on stdin; an empty verb is none.
    pub(crate) fn call_with(&self, verb: &str, stdin: &[u8]) -> Outcome<Answer> {
        self.call_in(&self.env, verb, stdin)
    }

    fn call_in(&self, env: &Environment, verb: &str, stdin: &[u8]) -> Outcome<Answer> {
        let mut command = Command::new(binaries::plugin()?);
        command.env_clear().envs(env);
        if !verb.is_empty() {
            command.env("CNI_COMMAND", verb);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.node.spawn(&mut command)?;
        if let Some(mut input) = child.stdin.take() {
            // A plugin that refuses early closes the pipe; its answer says more.
            let _ = input.write_all(stdin);
        }
        let output = child.wait_with_output().context("wait for the plugin")?;
        Ok(Answer {
            succeeded: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Calls the plugin with the configuration, whatever comes of it. A runtime must never see anything on stderr.
    pub(crate) fn call(&self, verb: &str) -> Outcome<Answer> {
        self.called_in(&self.env, verb)
    }

    fn called_in(&self, env: &Environment, verb: &str) -> Outcome<Answer> {
        let answer = self.call_in(env, verb, self.conf.to_string().as_bytes())?;
        ensure!(answer.err.is_empty(), "{verb} wrote to stderr: {}", answer.err);
        Ok(answer)
    }

    /// Calls the plugin, which must succeed; its result, or null where it says nothing.
    pub(crate) fn succeed(&self, verb: &str) -> Outcome<Value> {
        self.succeed_in(&self.env, verb)
    }

    /// The same with another environment, so that several can be under way.
    pub(crate) fn succeed_in(&self, env: &Environment, verb: &str) -> Outcome<Value> {
        let answer = self.called_in(env, verb)?;
        ensure!(answer.succeeded, "{verb} failed: {}", answer.out);
        if answer.out.is_empty() { Ok(Value::Null) } else { answer.json() }
    }

    /// Calls the plugin, which must succeed and say nothing.
    pub(crate) fn quiet(&self, verb: &str) -> Outcome {
        let answer = self.succeed(verb)?;
        ensure!(answer.is_null(), "{verb} must print nothing but printed {answer}");
        Ok(())
    }

    /// Calls the plugin and kills it some time after its start.
    pub(crate) fn killed(&self, verb: &str, after: Duration) -> Outcome {
        let mut command = Command::new(binaries::plugin()?);
        command.env_clear().envs(&self.env).env("CNI_COMMAND", verb);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = self.node.spawn(&mut command)?;
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(self.conf.to_string().as_bytes());
        }
        std::thread::park_timeout(after);
        child.kill().context("kill the plugin")?;
        child.wait().context("wait for the plugin").map(drop)
    }

    /// Calls the plugin, which must fail with one of `codes` and say `text`.
    pub(crate) fn refused(&self, verb: &str, codes: &[u64], text: &str) -> Outcome<Value> {
        self.call(verb)?.refusal(verb, codes, text)
    }

    /// The files in the network's directory that are addresses.
    pub(crate) fn reservations(&self) -> Vec<String> {
        let list = std::fs::read_dir(self.disk.path().join("net0"));
        let names = list.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut addresses: Vec<_> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        addresses.sort();
        addresses
    }

    /// The names of the node's veth links.
    pub(crate) fn veths(&self) -> Outcome<Vec<String>> {
        let links = self.node.json("ip -j link show type veth")?;
        Ok(links.iter().filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect())
    }

    /// Fails unless nothing of any attachment is left.
    pub(crate) fn is_clean(&self) -> Outcome {
        let (veths, reservations) = (self.veths()?, self.reservations());
        ensure!(veths.is_empty(), "links are left: {veths:?}");
        ensure!(reservations.is_empty(), "reservations are left: {reservations:?}");
        Ok(())
    }

    /// The pod's interface as `ip -j -d` shows it.
    pub(crate) fn interface(&self) -> Outcome<Value> {
        self.pod.json("ip -j -d addr show dev eth0")?.into_iter().next().context("the pod has no eth0")
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Outcome<Value> {
        serde_json::from_str(&self.out).context(format!("read one JSON document in {:?}", self.out))
    }

    /// The error object, which must have one of `codes` and hold `text`.
    pub(crate) fn refusal(&self, verb: &str, codes: &[u64], text: &str) -> Outcome<Value> {
        ensure!(!self.succeeded, "{verb} must fail but printed {}", self.out);
        ensure!(self.err.is_empty(), "{verb} wrote to stderr: {}", self.err);
        let error = self.json()?;
        let code = error["code"].as_u64().unwrap_or_default();
        ensure!(codes.contains(&code), "{verb} must fail with one of {codes:?}: {error}");
        ensure!(error["cniVersion"].is_string(), "an error has its version: {error}");
        let message = error["msg"].as_str().unwrap_or_default();
        if !message.contains(text) {
            fail!("{verb} must say {text:?}: {error}");
        }
        Ok(error)
    }
}
