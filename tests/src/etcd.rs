//! A real etcd on a machine of the fabric, and `etcdctl` to look into it and to write what other programs would.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::namespace::printed;
use crate::node::Node;
use crate::peers;
use crate::signals;

/// A transaction has at most 128 operations.
const TOGETHER: usize = 100;

/// What flannel calls the network.
pub const PREFIX: &str = "/coreos.com/network";

/// An etcd. Killed when dropped; its data stays as long as the fabric.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    folder: PathBuf,
    /// What `etcdctl` needs to be let in.
    entry: Vec<String>,
}

/// Who is let in.
#[derive(Debug, Clone, Copy)]
pub enum Door<'a> {
    /// Everybody, without TLS.
    Open,
    /// Everybody, with TLS.
    Tls(&'a Certificates),
    /// Who shows a certificate of the authority.
    Mutual(&'a Certificates),
}

/// Certificates for an etcd with TLS, made by `openssl`.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Etcd {
    /// Starts it on a machine, with the data that it had there, and waits until it answers. Arguments come behind its own.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn start(machine: &Node, disk: &Path, door: Door<'_>) -> Outcome<Self> {
        let (certificates, mutual) = match door {
            Door::Open => (None, false),
            Door::Tls(certificates) => (Some(certificates), false),
            Door::Mutual(certificates) => (Some(certificates), true),
        };
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", SocketAddr::new(machine.first_address(), 2379));
        let folder = Self::data(disk);
        let mut command = Command::new(peers::ETCD.path()?);
        command.arg("--data-dir").arg(&folder).args(["--log-level", "error"]);
        command.args([
            "--listen-client-urls",
            &format!("{scheme}://127.0.0.1:2379,{url}"),
            "--advertise-client-urls",
            &url,
        ]);
        let mut entry = vec![format!("--endpoints={scheme}://127.0.0.1:2379")];
        if let Some(certificates) = certificates {
            let own = [("--cert-file", "server.pem"), ("--key-file", "server.key")];
            // An authority alone makes etcd ask for certificates.
            let authority = mutual.then_some(("--trusted-ca-file", "ca.pem"));
            for (flag, file) in own.into_iter().chain(authority) {
                command.args([flag, &certificates.file(file)]);
            }
            for (flag, file) in [("cacert", "ca.pem"), ("cert", "client.pem"), ("key", "client.key")] {
                entry.push(format!("--{flag}={}", certificates.file(file)));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = machine.namespace().spawn(&mut command)?;
        let etcd = Self { child, folder, entry };
        eventually(seconds(30), "etcd answers", || etcd.ctl(machine, &["endpoint", "health"]))?;
        Ok(etcd)
    }

    /// Where one that has this disk keeps its data.
    pub fn data(disk: &Path) -> PathBuf {
        disk.join("etcd")
    }

    /// Runs `etcdctl` beside it, and gives what it printed.
    ///
    /// # Errors
    /// Where it fails.
    pub fn ctl(&self, machine: &Node, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(peers::ETCDCTL.path()?);
        command.args(&self.entry).args(arguments);
        let output = machine.namespace().output(&mut command)?;
        printed(&format!("etcdctl {}", arguments.join(" ")), &output)
    }

    /// From now on `etcdctl` comes as this user, `NAME:PASSWORD`.
    pub fn come_as(&mut self, user: &str) {
        self.entry.push(format!("--user={user}"));
    }

    /// Writes many keys, some at a time.
    ///
    /// # Errors
    /// Where etcd refuses.
    pub fn put_all(&self, machine: &Node, entries: &[(String, String)]) -> Outcome {
        let path = self.folder.with_extension("puts");
        for entries in entries.chunks(TOGETHER) {
            // In quotes, as Go and JSON write a text.
            let puts: Vec<_> =
                entries.iter().map(|(key, value)| format!("put {key} {}", Value::from(value.as_str()))).collect();
            // No comparison, these if it holds, nothing if not.
            std::fs::write(&path, format!("\n{}\n\n\n", puts.join("\n"))).context("write a transaction")?;
            let mut command = Command::new(peers::ETCDCTL.path()?);
            command.args(&self.entry).arg("txn").stdin(File::open(&path).context("read a transaction")?);
            let child = machine.namespace().spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
            printed("etcdctl txn", &child.wait_with_output().context("wait for etcdctl")?)?;
        }
        Ok(())
    }

    /// Writes a key below [`PREFIX`].
    ///
    /// # Errors
    /// Where etcd refuses.
    pub fn put(&self, machine: &Node, key: &str, value: &str) -> Outcome {
        self.ctl(machine, &["put", &format!("{PREFIX}/{key}"), value]).map(drop)
    }

    /// The nodes' keys: the name below `subnets/`, the value, and the lease (0 for none).
    ///
    /// # Errors
    /// Where etcd does not answer.
    pub fn subnets(&self, machine: &Node) -> Outcome<Vec<(String, String, i64)>> {
        self.below(machine, &format!("{PREFIX}/subnets/"))
    }

    /// The keys below a folder: the name there, the value, and the lease (0 for none).
    ///
    /// # Errors
    /// Where etcd does not answer.
    pub fn below(&self, machine: &Node, folder: &str) -> Outcome<Vec<(String, String, i64)>> {
        // `fields` prints numbers whole, where JSON's would lose digits, and quotes texts.
        let text = self.ctl(machine, &["get", "--prefix", folder, "--write-out=fields"])?;
        let fields = text.lines().filter_map(|line| line.split_once(" : "));
        let (mut found, mut key, mut value) = (Vec::new(), String::new(), String::new());
        for (name, field) in fields {
            match name.trim_matches('"') {
                "Key" => key = unquoted(field)?.replace(folder, ""),
                "Value" => value = unquoted(field)?,
                "Lease" => found.push((key.clone(), value.clone(), field.parse().context("read a lease")?)),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Stops its process: it accepts connections and answers nothing, until it [goes on](Self::go_on).
    ///
    /// # Errors
    /// Where it is gone.
    pub fn stand_still(&self) -> Outcome {
        signals::stand_still(&self.child).context("stop etcd")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn go_on(&self) -> Outcome {
        signals::send(&self.child, Signal::SIGCONT).context("let etcd go on")
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn kill(mut self) -> Outcome {
        self.child.kill().context("kill etcd")?;
        self.child.wait().context("wait for etcd").map(drop)
    }

    /// Ends it and takes all that it holds away.
    ///
    /// # Errors
    /// Where that cannot be removed.
    pub fn wipe(self) -> Outcome {
        let folder = self.folder.clone();
        self.kill()?;
        std::fs::remove_dir_all(folder).context("remove etcd's data")
    }
}

fn unquoted(field: &str) -> Outcome<String> {
    serde_json::from_str::<Value>(field)
        .context("read what etcdctl printed")
        .map(|text| text.as_str().unwrap_or_default().to_owned())
}

impl Certificates {
    /// Makes an authority, a certificate for etcd on `machine` and one for its clients, all below `disk`.
    ///
    /// # Errors
    /// Where `openssl` fails.
    pub fn make(machine: &Node, disk: &Path) -> Outcome<Self> {
        let folder = disk.join("certificates");
        std::fs::create_dir(&folder).context("make a folder for certificates")?;
        let address = machine.first_address();
        let script = format!(
            r"cd {folder}
            authority() {{ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout $1.key -out $1.pem -subj /CN=$1 2>/dev/null; }}
            authority ca
            authority other
            for who in server client; do
                openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $who.key -out $who.csr -subj /CN=$who 2>/dev/null
                printf 'subjectAltName=IP:127.0.0.1,IP:{address}\nextendedKeyUsage=serverAuth,clientAuth\n' >$who.ext
                openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $who.ext -out $who.pem 2>/dev/null
            done",
            folder = folder.display()
        );
        machine.namespace().shell(&script)?;
        Ok(Self { folder })
    }

    /// A file of these: `ca.pem`, `other.pem` (an authority that signed nothing), `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended already; then both say so, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
