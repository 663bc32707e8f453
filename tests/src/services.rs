//! Services from a directory that all nodes share, and pods that answer with their name.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use nix::sys::socket::{Shutdown, shutdown};

use crate::deadline::{eventually, seconds};
use crate::failure::{Context, Outcome};
use crate::namespace::Namespace;

/// The port that pods answer on.
pub const POD_PORT: u16 = 8080;
/// Where netd's proxy answers `/metrics`.
const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 10249);

/// A folder for `--services-dir`.
#[derive(Debug)]
pub struct ServicesDir(PathBuf);

impl ServicesDir {
    /// An empty one.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(folder: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(folder).context("make a folder for Services")?;
        Ok(Self(folder.to_owned()))
    }

    /// Its path.
    pub fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// Writes a file of objects, by rename, so that no half of it is read.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Outcome {
        let growing = self.0.join(format!(".{name}"));
        std::fs::write(&growing, text).context("write objects")?;
        std::fs::rename(&growing, self.0.join(name)).context("write objects")
    }
}

/// A Service of the namespace `default` with one TCP port 80; `more` are further lines of its `spec`, `port` further fields of the port.
pub fn service(name: &str, cluster_ip: &str, port: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  clusterIP: {cluster_ip}\n  \
         clusterIPs: [{cluster_ip}]\n  ports: [{{protocol: TCP, port: 80{port}}}]\n{more}---\n"
    )
}

/// The IPv4 endpoints of a Service: addresses, and the nodes that they are on.
pub fn slice(service: &str, endpoints: &[(IpAddr, &str)]) -> String {
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, namespace: default, \
         labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\n\
         ports: [{{name: \"\", protocol: TCP, port: {POD_PORT}}}]\nendpoints:\n"
    );
    for (address, node) in endpoints {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - {{addresses: [{address}], conditions: {{ready: true}}, nodeName: {node}}}");
    }
    text + "---\n"
}

/// A server that answers one connection after the other. It ends when dropped.
#[derive(Debug)]
pub struct Answering {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// Answers with a name and the client's address, at an address in a namespace.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn start(namespace: &Namespace, address: IpAddr, name: &str) -> Outcome<Self> {
        let listener = namespace.within(|| TcpListener::bind((address, POD_PORT)))?.context(format!("serve {name}"))?;
        let name = name.to_owned();
        Self::at(listener, move |mut stream, client| write!(stream, "{name} {}", client.ip()))
    }

    /// Answers at a listener.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn at(
        listener: TcpListener,
        answer: impl Fn(TcpStream, SocketAddr) -> std::io::Result<()> + Send + 'static,
    ) -> Outcome<Self> {
        let accepting = listener.try_clone().context("share a listener")?;
        let thread = thread::spawn(move || {
            while let Ok((stream, client)) = accepting.accept() {
                // A client that is gone already has its own complaint.
                let _ = answer(stream, client);
            }
        });
        Ok(Self { listener, thread: Some(thread) })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // Wakes the thread.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection: the server's name, and the client's address as the server sees it. To be called in the client's namespace.
///
/// # Errors
/// Where nobody answers.
pub fn ask(to: SocketAddr) -> Outcome<(String, IpAddr)> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, seconds(10))?;
        stream.set_read_timeout(Some(seconds(10)))?;
        let mut words = String::new();
        stream.read_to_string(&mut words)?;
        Ok(words)
    };
    let words = exchange().context(format!("connect to {to}"))?;
    let (name, client) = words.split_once(' ').context(format!("{to} answers {words:?}"))?;
    Ok((name.to_owned(), client.parse().context(format!("read {words:?}"))?))
}

/// The changes that the proxy on a node has brought into the kernel: how many, and the seconds from the first to the last moment of all.
///
/// # Errors
/// Where it does not answer.
pub fn changes(node: &Namespace) -> Outcome<(f64, f64)> {
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(METRICS), seconds(10))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = node.within(fetch)?.context("ask the proxy for its metrics")?;
    let sum = |name: &str| {
        let lines =
            text.lines().filter(|line| line.starts_with(&format!("netd_proxy_change_duration_seconds_{name}{{")));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    Ok((sum("count"), sum("sum")))
}

/// Waits until the kernel of a node has this many endpoints of a Service's map in use, by `netd services` of the node.
///
/// # Errors
/// Where it does not come to that.
pub fn await_endpoints(node: &crate::Node, service: &str, count: usize) -> Outcome {
    eventually(seconds(20), &format!("{} has {count} endpoints of {service}", node.name()), || {
        let listing = listing(node)?;
        let services = listing["services"].as_array().context("no services")?;
        let found = services.iter().find(|port| port["service"] == *service).context(format!("no {service}"))?;
        let endpoints = found["endpoints"].as_array().context("no endpoints")?;
        let used = endpoints.iter().filter(|endpoint| endpoint["leftOutInternally"].is_null()).count();
        crate::ensure!(listing["programmed"] == true && used == count, "it is {listing}");
        Ok(())
    })
}

/// What `netd services` says on a node.
///
/// # Errors
/// Where it fails.
pub fn listing(node: &crate::Node) -> Outcome<serde_json::Value> {
    let output = node.run_netd("services", &["-o", "json"])?;
    let text = crate::namespace::printed("netd services", &output)?;
    serde_json::from_str(&text).context(format!("read {text}"))
}
