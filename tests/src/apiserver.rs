//! A real Kubernetes API server with its etcd on a machine of the fabric: RBAC and the Node authorizer are on, tokens let in.
//!
//! No kubelet and no controller is in it. Nodes, accounts and configuration are what a test writes.

mod credentials;
mod http;
mod objects;
mod shipped;

pub use credentials::Credentials;
pub use objects::{MANY_IMAGES, Refusal, node_object};
pub use shipped::{ACCOUNT, PROXY_ACCOUNT};

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dataplane::types::Family;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::deadline::{eventually, seconds};
use crate::etcd::{Door, Etcd};
use crate::failure::{Context, Failure, Outcome};
use crate::namespace::{Namespace, printed};
use crate::peers::{self, Program};
use crate::signals;
use crate::topology::{Fabric, Stack};

/// What a suite prepares that uses one.
pub const PROGRAMS: [Program; 4] = [peers::ETCD, peers::ETCDCTL, peers::APISERVER, peers::KUBECTL];

/// The Services' IPv4 addresses.
pub const SERVICES: &str = "10.96.0.0/16";
/// The Services' IPv6 addresses.
pub const IPV6_SERVICES: &str = "fd00:10:96::/112";

/// Far more than it needs to start, for machines under load.
const TIMEOUT: Duration = seconds(60);
/// It waits for its watchers for a minute; nobody here has that time.
const GRACE: Duration = Duration::from_millis(500);

/// An API server. Killed when dropped, and its etcd with it; the data stays as long as the fabric.
#[derive(Debug)]
pub struct ApiServer {
    namespace: Namespace,
    address: IpAddr,
    services: Stack,
    folder: PathBuf,
    credentials: Credentials,
    /// Its feature gates that are not as shipped.
    gates: Option<&'static str>,
    etcd: Option<Etcd>,
    server: Option<Child>,
    /// `kubectl proxy`: the administrator's way in, for those who cannot speak TLS.
    proxy: Option<Child>,
}

impl ApiServer {
    /// Starts etcd and the API server on the machine with this name, and waits until it is ready. Each machine of the fabric
    /// gets a token as the node of that name.
    ///
    /// # Errors
    /// Where it does not get ready; with its log.
    pub fn start(fabric: &Fabric, machine: &str, services: Stack) -> Outcome<Self> {
        let machine = fabric.node(machine);
        let folder = fabric.disk().join("kubernetes");
        std::fs::create_dir_all(&folder).context("make the API server's folder")?;
        let address = machine.first_address();
        let names: Vec<&str> = fabric.nodes.iter().map(crate::node::Node::name).collect();
        let addresses: Vec<IpAddr> = machine.addresses().iter().map(|(_, address)| *address).collect();
        let credentials = Credentials::make(machine.namespace(), &folder, &addresses, &names)?;
        let etcd = Etcd::start(machine, &folder, Door::Open)?;
        let namespace = machine.namespace().again();
        let (etcd, gates, server, proxy) = (Some(etcd), None, None, None);
        let mut server = Self { namespace, address, services, folder, credentials, gates, etcd, server, proxy };
        server.kubeconfig("admin", Credentials::admin_token())?;
        server.resume()?;
        // The API server makes it, soon after it is ready.
        eventually(TIMEOUT, "there is the namespace default", || server.get("/api/v1/namespaces/default").map(drop))
            .map_err(|failure| server.with_logs(failure))?;
        Ok(server)
    }

    /// Starts it again after [`stop`](Self::stop), with the same data and address, and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not get ready; with its log.
    pub fn resume(&mut self) -> Outcome {
        let mut command = Command::new(peers::APISERVER.path()?);
        command.args(self.arguments());
        self.server = Some(self.launch(&mut command, "kube-apiserver.log")?);
        let socket = self.socket();
        // One that was killed has left it.
        let _ = std::fs::remove_file(&socket);
        let mut proxy = Command::new(peers::KUBECTL.path()?);
        proxy.arg("--kubeconfig").arg(self.admin()).args(["proxy", "--accept-hosts=.*"]);
        proxy.arg("--unix-socket").arg(&socket);
        self.proxy = Some(self.launch(&mut proxy, "kubectl-proxy.log")?);
        eventually(TIMEOUT, "the API server is ready", || {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok()).flatten();
            if let Some(status) = ended {
                // Nothing to wait for; the log says why.
                return Ok(Err(Failure::new(format!("the API server ended with {status}"))));
            }
            self.ask("GET", "/readyz", None).map(|_| Ok(()))
        })
        .and_then(|ended| ended)
        .map_err(|failure| self.with_logs(failure))
    }

    /// Ends it, as when its machine is serviced: clients find nobody at its address. etcd goes on.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn stop(&mut self) -> Outcome {
        for mut child in self.proxy.take().into_iter().chain(self.server.take()) {
            let _ = signals::send(&child, Signal::SIGTERM);
            let ended = eventually(GRACE, "a program of the control plane ends", || {
                child.try_wait().context("look after it")?.context("it goes on")
            });
            if ended.is_err() {
                child.kill().context("kill a program of the control plane")?;
                child.wait().context("wait for it")?;
            }
        }
        Ok(())
    }

    /// Stops its process: it accepts connections and answers nothing, until it [goes on](Self::go_on).
    ///
    /// # Errors
    /// Where it is gone.
    pub fn stand_still(&self) -> Outcome {
        signals::stand_still(self.running()?).context("stop the API server")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn go_on(&self) -> Outcome {
        signals::send(self.running()?, Signal::SIGCONT).context("let the API server go on")
    }

    fn running(&self) -> Outcome<&Child> {
        self.server.as_ref().context("the API server runs")
    }

    /// Starts it anew with these feature gates.
    ///
    /// # Errors
    /// Where it does not get ready; with its log.
    pub fn restart_with(&mut self, gates: &'static str) -> Outcome {
        self.stop()?;
        self.gates = Some(gates);
        self.resume()
    }

    /// Ends etcd below the running API server as a crash would.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn kill_etcd(&mut self) -> Outcome {
        self.etcd.take().map_or(Ok(()), Etcd::kill)
    }

    /// Starts etcd again with its data, and waits until the API server is ready with it.
    ///
    /// # Errors
    /// Where they do not get ready.
    pub fn resume_etcd(&mut self, fabric: &Fabric, machine: &str) -> Outcome {
        self.etcd = Some(Etcd::start(fabric.node(machine), &self.folder, Door::Open)?);
        eventually(TIMEOUT, "the API server is ready again", || self.ask("GET", "/readyz", None).map(drop))
            .map_err(|failure| self.with_logs(failure))
    }

    /// Keeps what etcd holds now, below the API server that goes on; gives where.
    ///
    /// # Errors
    /// Where it cannot be copied, or they do not get ready again.
    pub fn back_up(&mut self, fabric: &Fabric, machine: &str) -> Outcome<PathBuf> {
        self.kill_etcd()?;
        let backup = self.folder.join("etcd.backup");
        copy(&Etcd::data(&self.folder), &backup)?;
        self.resume_etcd(fabric, machine)?;
        Ok(backup)
    }

    /// Puts etcd back to what was kept, as after a disaster: versions go on from there, and come a second time.
    ///
    /// # Errors
    /// Where it cannot be put there, or they do not get ready again.
    pub fn restore(&mut self, fabric: &Fabric, machine: &str, backup: &Path) -> Outcome {
        self.stop()?;
        self.kill_etcd()?;
        let data = Etcd::data(&self.folder);
        std::fs::remove_dir_all(&data).context("remove etcd's data")?;
        copy(backup, &data)?;
        self.etcd = Some(Etcd::start(fabric.node(machine), &self.folder, Door::Open)?);
        self.resume()
    }

    /// Where the fabric's machines find it.
    pub fn url(&self) -> String {
        match self.address {
            IpAddr::V4(address) => format!("https://{address}:6443"),
            IpAddr::V6(address) => format!("https://[{address}]:6443"),
        }
    }

    /// Its own network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Keys, certificates and tokens.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Where it keeps all that is not etcd's.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The families of its Services.
    pub fn services(&self) -> Stack {
        self.services
    }

    /// The address of the Service that names are asked of, in the first family that Services have.
    pub fn dns_address(&self) -> IpAddr {
        if self.services.has(Family::V4) {
            [10, 96, 0, 10].into()
        } else {
            [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa].into()
        }
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A kubeconfig with this token, called `NAME.kubeconfig`.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn kubeconfig(&self, name: &str, token: &str) -> Outcome<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        self.credentials.write_kubeconfig(&path, &self.url(), token)?;
        Ok(path)
    }

    /// The kubeconfig of a node's kubelet.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn node_kubeconfig(&self, node: &str) -> Outcome<PathBuf> {
        self.kubeconfig(node, &Credentials::node_token(node))
    }

    /// What it has written into its audit log: one event for each request of anybody but the administrator and itself, when it was answered
    /// (`stage` is `ResponseComplete`) and, of a watch, when it began (`ResponseStarted`).
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn requests(&self) -> Outcome<Vec<Value>> {
        let text = std::fs::read_to_string(self.audit_log()).context("read the audit log")?;
        // The last line may be growing.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// A failure with the end of its log.
    pub fn with_logs(&self, failure: Failure) -> Failure {
        let log = std::fs::read_to_string(self.folder.join("kube-apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        failure.with("kube-apiserver", &last)
    }

    fn launch(&self, command: &mut Command, log: &str) -> Outcome<Child> {
        let log = File::options().create(true).append(true).open(self.folder.join(log)).context("make a log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share a log")?).stderr(log);
        self.namespace.spawn(command)
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("proxy.sock")
    }

    fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn arguments(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).to_string_lossy().into_owned();
        let services = match self.services {
            Stack::V4 => SERVICES.to_owned(),
            Stack::V6 => IPV6_SERVICES.to_owned(),
            Stack::Dual => format!("{SERVICES},{IPV6_SERVICES}"),
        };
        let anywhere = if self.address.is_ipv4() { "0.0.0.0" } else { "::" };
        [
            ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
            ("bind-address", anywhere.to_owned()),
            ("advertise-address", self.address.to_string()),
            ("secure-port", "6443".to_owned()),
            ("tls-cert-file", file("server.pem")),
            ("tls-private-key-file", file("server.key")),
            ("client-ca-file", file("ca.pem")),
            ("token-auth-file", file("tokens.csv")),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", file("accounts.pub")),
            ("service-account-signing-key-file", file("accounts.key")),
            ("service-cluster-ip-range", services),
            ("kubelet-client-certificate", file("kubelet-client.pem")),
            ("kubelet-client-key", file("kubelet-client.key")),
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("profiling", "false".to_owned()),
            ("audit-policy-file", file("audit.yml")),
            ("audit-log-path", self.audit_log().to_string_lossy().into_owned()),
            ("cert-dir", file("own")),
        ]
        .into_iter()
        .chain(self.gates.map(|gates| ("feature-gates", gates.to_owned())))
        .map(|(flag, value)| format!("--{flag}={value}"))
        .collect()
    }
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let output = Command::new("cp").arg("-a").args([from, to]).output().context("run cp")?;
    printed("cp", &output).map(drop)
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in self.proxy.iter_mut().chain(self.server.iter_mut()) {
            // It may have ended already; then both say so, and nothing is left to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
